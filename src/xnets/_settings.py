"""NAME=VALUE, as `--set` takes it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

_WORDS = {"true": True, "false": False, "none": None}


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read settings from the command line.

    Args:
        settings: Each NAME=VALUE. A value is a Python literal; true, false and none may be small,
            and what is no literal is a text.

    Returns:
        The values by name.

    Raises:
        ValueError: If one has no name or no value, or a name is set twice.

    Examples:
        >>> read_settings(["width=0.25", "flip=true", "milestones=0.5,0.75", "fill=zeros"])
        {'width': 0.25, 'flip': True, 'milestones': (0.5, 0.75), 'fill': 'zeros'}
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not (name and equals and text):
            raise ValueError(f"`set` (={setting!r}) must be NAME=VALUE, such as width=0.25")
        name = name.replace("-", "_")  # as options are written
        if name in values:
            raise ValueError(f"`set` (={setting!r}) sets {name!r} a second time")
        values[name] = _value(text)
    return values


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: absurd input
        return text
