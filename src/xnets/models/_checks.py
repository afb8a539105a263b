"""The checks that models make of their arguments."""

from __future__ import annotations

from collections.abc import Collection


def check_sizes(**sizes: int) -> None:
    """Demand positive integers.

    Args:
        sizes: The arguments by name.

    Raises:
        ValueError: Naming the first that is none.

    Examples:
        >>> check_sizes(width=0)
        Traceback (most recent call last):
        ValueError: `width` (=0) must be an integer of at least 1
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"`{name}` (={size!r}) must be an integer of at least 1")


def check_bool(name: str, value: object) -> None:
    """Demand True or False: "no" and 0.5 would count as true.

    Args:
        name: The argument.
        value: What it is.

    Raises:
        TypeError: If it is neither.

    Examples:
        >>> check_bool("released", "no")
        Traceback (most recent call last):
        TypeError: `released` (='no') must be True or False
    """
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` (={value!r}) must be True or False")


def check_one_of(name: str, value: object, known: Collection[object]) -> None:
    """Demand one of some values.

    Args:
        name: The argument.
        value: What it is.
        known: What it may be.

    Raises:
        ValueError: If it is none of them.

    Examples:
        >>> check_one_of("depth", 35, (18, 34, 50))
        Traceback (most recent call last):
        ValueError: `depth` (=35) must be one of 18, 34, 50
    """
    if value not in known:
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(map(str, known))}")
