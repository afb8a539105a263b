"""From what the user asks (sizes, degree or compression, block) to the size of the base graph."""

from __future__ import annotations

import math
from typing import NamedTuple

from xnets.graphs._bipartite import check_block, check_size


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
