"""Which square sizes the families can have."""

from __future__ import annotations

import math
from collections.abc import Callable

from xnets.graphs import make_graph

# Sides of the families that exist for special sizes only.
_SPECIAL: dict[str, Callable[[int], int]] = {
    "lps": lambda k: k * (k * k - 1) // 2,
    "margulis": lambda k: k * k,
    "array_code": lambda k: k * k,
}
# Families in which a seed chooses nothing, or only the stage.
WITHOUT_SEED = {"grouped", "shuffled", "butterfly", "radix", "margulis", "lps", "array_code"}
# Families that are slow to draw, and others with the same sizes.
_LIKE = {"ramanujan": "biregular"}


def nearest_size(family: str, n: int, degree: int) -> int | None:
    """The n x n size nearest to what is asked that a family can have at a degree.

    Args:
        family: One of `list_families()`.
        n: The size asked for.
        degree: Inputs per output.

    Returns:
        n itself for most families; for the explicit ones the nearest size, on the scale of
        logarithms, of at least n / 2 and at most 2 n; None if there is none.

    Examples:
        >>> nearest_size("random", 1000, 4), nearest_size("lps", 1000, 4)
        (1000, 1092)
        >>> nearest_size("margulis", 1000, 8), nearest_size("margulis", 1000, 4)
        (1024, None)
    """
    side_of = _SPECIAL.get(family)
    if side_of is not None:
        sides = {side_of(k) for k in range(2, math.isqrt(2 * n) + 2)}
        sizes = sorted(
            (side for side in sides if n <= 2 * side and side <= 2 * n),
            key=lambda side: (abs(math.log(side / n)), side),
        )
    else:
        sizes = [n]
    for size in sizes:
        try:
            make_graph(_LIKE.get(family, family), size, size, degree=degree)
        except ValueError:
            continue
        return size
    return None
