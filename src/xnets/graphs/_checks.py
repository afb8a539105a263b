"""Checks of arguments that every graph shares, with the message the user reads."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]


def check_size(name: str, value: Any) -> int:
    """Return `value` as an int of at least 1, or raise with the argument's name."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` (={value!r}) must be an int")
    if value < 1:
        raise ValueError(f"`{name}` (={value}) must be at least 1")
    return int(value)


def check_block_sides(block: Any) -> tuple[int, int]:
    """Return `block` as a pair of sizes, or raise.

    Args:
        block: What the user gave for (b_out, b_in).

    Returns:
        (b_out, b_in), as ints.

    Raises:
        TypeError: If it is no pair of ints.
        ValueError: If a side is below 1.

    Examples:
        >>> check_block_sides([4, 1])
        (4, 1)
    """
    try:
        b_out, b_in = block
    except (TypeError, ValueError):
        raise TypeError(f"`block` (={block!r}) must be a pair (b_out, b_in)") from None
    return check_size("block[0]", b_out), check_size("block[1]", b_in)


def check_block(block: Any, num_in: int, num_out: int) -> tuple[int, int]:
    """Return `block` as a pair that divides the sizes, or raise.

    Args:
        block: What the user gave for (b_out, b_in).
        num_in: Number of inputs, a multiple of b_in.
        num_out: Number of outputs, a multiple of b_out.

    Returns:
        (b_out, b_in), as ints.

    Raises:
        TypeError: If it is no pair of ints.
        ValueError: If a side is below 1 or does not divide its size.

    Examples:
        >>> check_block((4, 1), 6, 8)
        (4, 1)
        >>> check_block((4, 4), 6, 8)
        Traceback (most recent call last):
        ValueError: `block` (=(4, 4)) does not divide: `num_in` (=6) must be a multiple of 4; ...
    """
    b_out, b_in = check_block_sides(block)
    for side, size_name, size in ((b_out, "num_out", num_out), (b_in, "num_in", num_in)):
        if size % side:
            fits = max(d for d in range(1, side) if size % d == 0)
            raise ValueError(
                f"`block` (=({b_out}, {b_in})) does not divide: `{size_name}` (={size}) must be a "
                f"multiple of {side}; the next smaller side that fits is {fits}"
            )
    return b_out, b_in


def check_range(name: str, values: IntArray, stop: int) -> None:
    """Raise unless every value lies in [0, stop)."""
    outside = np.flatnonzero((values < 0) | (values >= stop))
    if len(outside):
        shown = name if "`" in name else f"`{name}`"
        raise ValueError(
            f"{shown} must lie in [0, {stop}), but entry {outside[0]} is {values[outside[0]]}"
        )


def as_integers(name: str, values: Any) -> IntArray:
    """Return `values` as an int64 array, refusing anything that is not a whole number."""
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must hold integers, got dtype {array.dtype}")
    return array.astype(np.int64)
