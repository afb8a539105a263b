"""Every public name says what it takes, what it gives, and shows it."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

import xnets

PACKAGE = Path(xnets.__file__).parent


def public_modules() -> Iterator[Any]:
    """The packages, whose `__init__` is a public list, and the modules beside them."""
    for path in sorted([*PACKAGE.rglob("__init__.py"), *PACKAGE.glob("*.py")]):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(part.startswith("_") for part in parts) or parts[-1] == "cli":
            continue
        try:
            yield importlib.import_module(".".join(parts))
        except ImportError:  # xnets.hub, where huggingface_hub is not installed
            continue


def exported(module: Any) -> Iterator[tuple[str, Any]]:
    """What a list exports (`from x import a as a`), or a module of its own defines."""
    tree = ast.parse(Path(module.__file__).read_text())
    listed = {
        name.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname and name.asname == name.name
    } | set(getattr(module, "__all__", ()))
    for name, value in vars(module).items():
        if name.startswith("_") or not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        if name in listed or value.__module__ == module.__name__:
            yield f"{module.__name__}.{name}", value


PUBLIC = {value: name for module in public_modules() for name, value in exported(module)}


def parts_wanted(value: Any) -> list[str]:
    if inspect.isclass(value):
        if issubclass(value, BaseException):
            return []
        # A record is shown where it is made.
        record = is_dataclass(value) or issubclass(value, tuple)
        takes = "Args:|Attributes:|Takes the arguments of"
        return [takes, *([] if record or inspect.isabstract(value) else ["Examples:"])]
    signature = inspect.signature(value)
    wanted = ["Examples:"]
    if signature.parameters:
        wanted.append("Args:")
    if signature.return_annotation not in (None, "None", signature.empty):
        wanted.append("Returns:|Yields:")
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    if any(isinstance(node, ast.Raise) for node in ast.walk(tree)):
        wanted.append("Raises:")
    return wanted


@pytest.mark.parametrize("value", PUBLIC, ids=PUBLIC.values())
def test_every_public_name_has_a_whole_docstring(value: Any) -> None:
    text = inspect.getdoc(value) or ""
    missing = [
        part for part in parts_wanted(value) if not any(word in text for word in part.split("|"))
    ]
    assert text
    assert not missing


def test_the_lists_are_read() -> None:
    names = set(PUBLIC.values())
    assert {"xnets.convert.convert", "xnets.graphs.check_block", "xnets.ops.run"} <= names
    assert len(names) > 130
