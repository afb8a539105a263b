"""From what the user asks (sizes, degree or compression, block) to the size of the base graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from xnets.graphs._checks import check_block, check_size


class BaseSize(NamedTuple):
    """The size of a base graph."""

    num_in: int
    num_out: int
    degree: int


def base_size(
    num_in: int,
    num_out: int,
    degree: int | None,
    compression: float | None,
    block: tuple[int, int],
    *,
    drawn_by: str = "num_in",
) -> BaseSize:
    """Check the arguments that every family shares and divide them by the block.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Neighbours that each drawing vertex takes, or None.
        compression: How many times fewer edges than dense, or None.
        block: (b_out, b_in).
        drawn_by: The side whose size limits the degree: "num_in" when outputs draw inputs,
            "num_out" when inputs draw outputs.

    Returns:
        The base graph's sizes and degree: D = max(1, size // compression), in blocks.

    Raises:
        ValueError: If not exactly one of degree and compression is given, or one is out of range.
    """
    num_in, num_out = check_size("num_in", num_in), check_size("num_out", num_out)
    b_out, b_in = check_block(block, num_in, num_out)
    rows, columns = num_out // b_out, num_in // b_in
    limit, side = (columns, b_in) if drawn_by == "num_in" else (rows, b_out)
    if (degree is None) == (compression is None):
        given = "neither" if degree is None else "both"
        raise ValueError(f"give exactly one of `degree` and `compression`, got {given}")
    if compression is not None:
        if side > 1 and limit < compression:
            raise ValueError(
                f"`compression` (={compression}) cannot be had with `block` (={tuple(block)}): "
                f"`{drawn_by}` (={limit * side}) has only {limit} blocks of {side}"
            )
        return BaseSize(columns, rows, degree_for(limit, compression))
    degree = check_size("degree", degree)
    if degree > limit * side:
        raise ValueError(f"`degree` (={degree}) must be at most `{drawn_by}` (={limit * side})")
    if degree % side:
        raise ValueError(
            f"`degree` (={degree}) must be a multiple of the block's side (={side}); "
            f"the nearest are {degree // side * side or side} and {(degree // side + 1) * side}"
        )
    return BaseSize(columns, rows, degree // side)


def degree_for(num_in: int, compression: float) -> int:
    """The degree of the paper's counts: D = max(1, num_in // compression).

    Args:
        num_in: Number of inputs.
        compression: How many times fewer edges than dense, C; at least 1.

    Returns:
        Inputs per output.

    Raises:
        TypeError: If the compression is no number.
        ValueError: If it is below 1 or not finite.

    Examples:
        >>> degree_for(64, 4), degree_for(3, 4), degree_for(64, 3.2)
        (16, 1, 20)
    """
    if isinstance(compression, bool) or not isinstance(compression, (int, float)):
        raise TypeError(f"`compression` (={compression!r}) must be a number")
    if not 1 <= compression < math.inf:
        raise ValueError(f"`compression` (={compression}) must be at least 1 and finite")
    # A true division is rounded correctly: 64 // 3.2 would give 19.
    return max(1, math.floor(num_in / compression))


def nearest(possible: Iterable[int], asked: float) -> str:
    """The values next to what was asked, below and above, as words for an error message.

    Args:
        possible: The values that would do.
        asked: The value that did not.

    Returns:
        The largest value below and the smallest above; one of them if there is no other.

    Examples:
        >>> nearest([1, 2, 4, 8, 16], 10)
        '8 and 16'
        >>> nearest([1, 2], 10)
        '2'
    """
    values = sorted(possible)
    below, above = [v for v in values if v <= asked][-1:], [v for v in values if v > asked][:1]
    return " and ".join(map(str, below + above))


def divisors(number: int) -> list[int]:
    """All divisors, increasing.

    Examples:
        >>> divisors(12)
        [1, 2, 3, 4, 6, 12]
    """
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def is_prime(number: int) -> bool:
    """Whether a number is prime, by trial division.

    Examples:
        >>> [n for n in range(14) if is_prime(n)]
        [2, 3, 5, 7, 11, 13]
    """
    return number > 1 and divisors(number) == [1, number]


def base_shape(num_in: int, num_out: int, block: tuple[int, int]) -> tuple[int, int]:
    """(outputs, inputs) counted in blocks."""
    num_in, num_out = check_size("num_in", num_in), check_size("num_out", num_out)
    b_out, b_in = check_block(block, num_in, num_out)
    return num_out // b_out, num_in // b_in


def asked_degree(
    num_in: int,
    num_out: int,
    degree: int | None,
    compression: float | None,
    block: tuple[int, int],
) -> int | None:
    """The degree asked of an explicit family, in blocks; None if the sizes are to decide."""
    if degree is None and compression is None:
        return None
    return base_size(num_in, num_out, degree, compression, block).degree


def no_such_size(
    family: str,
    columns: int,
    rows: int,
    degree: int | None,
    block: tuple[int, int],
    possible: Iterable[tuple[int, int, int]],
) -> str:
    """Say that a family cannot have these sizes, and which are nearest, all counted in blocks."""

    def distance(size: tuple[int, int, int]) -> float:
        off = abs(math.log(size[0] / columns)) + abs(math.log(size[1] / rows))
        return off + (abs(math.log(size[2] / degree)) if degree is not None else 0)

    def shown(num_in: int, num_out: int, degree: int | None) -> str:
        size = f"num_in={num_in * block[1]}, num_out={num_out * block[0]}"
        return size if degree is None else f"{size}, degree={degree * block[1]}"

    best = sorted(set(possible), key=lambda size: (distance(size), size))[:3]
    blocks = "" if tuple(block) == (1, 1) else f" with block {tuple(block)}"
    return (
        f"there is no {family} graph of {shown(columns, rows, degree)}{blocks}; "
        f"the nearest are {'; '.join(f'({shown(*size)})' for size in best)}"
    )
