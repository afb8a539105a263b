"""The one message for a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(
    kind: str, name: object, known: Iterable[str], shown: Iterable[str] | None = None
) -> str:
    """Say that `name` is no known `kind`, with the closest known names.

    Args:
        kind: What was looked up, as the user calls it: "family", "model".
        name: What the user wrote.
        known: The names that exist.
        shown: What to list of them, where they are too many; all by default.

    Returns:
        The message, one line.

    Examples:
        >>> unknown_name("family", "randon", ["random", "complete"])
        "unknown family 'randon'; did you mean 'random'? known: random, complete"
    """
    names = list(known)
    lowered = {n.lower(): n for n in names}
    close = [lowered[n] for n in difflib.get_close_matches(str(name).lower(), lowered, n=3)]
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    listed = names if shown is None else shown
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(listed)}"
