"""Theorem 1 of the paper, measured: after how many layers every output sees every input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xnets.bench._sizes import WITHOUT_SEED, nearest_size
from xnets.graphs import (
    BipartiteGraph,
    leading_singular_values,
    list_families,
    make_graph,
    stack_depth,
)

MAX_DEPTH = 64


@dataclass(frozen=True)
class DepthRow:
    """Theorem 1 on one stack of independently drawn layers of one family.

    Args:
        family: The family.
        degree: D, of every layer.
        n: Inputs and outputs of every layer.
        seed: Which stack.
        depth: Layers until every output that sees anything sees every input that is seen at all;
            None if `MAX_DEPTH` layers were not enough.
        lost_inputs: Inputs that no output sees at that depth, nor at any later one.
        blind_outputs: Outputs that see no input at that depth.
        lower_bound: ceil(log n / log D): no stack of degree D is fully sensitive earlier.
        second: The largest second singular value of the layers up to `depth`; None if a layer has
            no constant degrees.
        guaranteed: The depth at which any n x n layers of degree D with this second singular value
            are fully sensitive: the smallest t with (D / second)^t > n - 1. None without a gap.
    """

    family: str
    degree: int
    n: int
    seed: int
    depth: int | None
    lost_inputs: int
    blind_outputs: int
    lower_bound: int
    second: float | None
    guaranteed: int | None


@dataclass(frozen=True)
class Growth:
    """A straight line through depths over log_D n.

    Args:
        slope: Layers for every factor D of n: 1 is the least that any graph can do.
        worst: The largest distance of a depth from the line.
        over_bound: The largest excess of a depth over the lower bound.
        stacks: How many stacks were measured.
        unconnected: How many of them were not connected within `MAX_DEPTH` layers.
    """

    slope: float
    worst: float
    over_bound: int
    stacks: int
    unconnected: int


def lower_bound(n: int, degree: int) -> int:
    """ceil(log n / log degree): the fewest layers after which one output can see n inputs.

    Args:
        n: Number of inputs.
        degree: Inputs per output.

    Returns:
        The smallest t with degree^t >= n.

    Raises:
        ValueError: If the degree is 1 and n is not: no depth is enough.

    Examples:
        >>> lower_bound(64, 4), lower_bound(65, 4)
        (3, 4)
    """
    if degree < 2 <= n:
        raise ValueError(f"`degree` (={degree}) must be at least 2")
    depth, sees = 0, 1
    while sees < n:
        depth, sees = depth + 1, sees * degree
    return depth


def guaranteed_depth(n: int, degree: int, second: float) -> int | None:
    """The depth at which the spectral gap alone makes a stack of layers fully sensitive.

    The number of paths through t layers from an input to an output differs from D^t / n by at most
    second^t (1 - 1/n), so none is 0 as soon as (D / second)^t > n - 1.

    Args:
        n: Inputs and outputs of every layer.
        degree: D, of every input and output of every layer.
        second: The second singular value, or a bound on those of all layers.

    Returns:
        The smallest such t; None if there is no gap.

    Examples:
        >>> guaranteed_depth(1024, 8, 5.3), guaranteed_depth(1024, 8, 8.0)
        (17, None)
    """
    if second >= degree:
        return None
    if second <= 0:
        return 1
    depth = max(1, math.ceil(math.log(max(n - 1, 1)) / math.log(degree / second)))
    return depth if depth * math.log(degree / second) > math.log(max(n - 1, 1)) else depth + 1


def measure_depth(family: str, n: int, degree: int, *, seed: int = 0) -> DepthRow:
    """Measure theorem 1 on one stack: layer t is drawn with the seed 1000 * seed + t.

    Args:
        family: One of `list_families()`.
        n: Inputs and outputs of every layer.
        degree: D, of every layer.
        seed: Which stack.

    Returns:
        The measurement.

    Raises:
        ValueError: If the family has no such graph.

    Examples:
        >>> row = measure_depth("biregular", 256, 4)
        >>> row.lower_bound, row.depth, row.guaranteed
        (4, 6, 39)
    """
    layers: list[BipartiteGraph] = []

    def drawn() -> Iterator[BipartiteGraph]:
        for layer in range(MAX_DEPTH):
            graph = make_graph(family, n, n, degree=degree, seed=1000 * seed + layer)
            # A family without randomness is held, and certified, once.
            layers.append(graph if not layers or graph != layers[-1] else layers[-1])
            yield layers[-1]

    found = stack_depth(drawn(), max_depth=MAX_DEPTH)
    second = _largest_second(layers[: found.depth or 1])
    return DepthRow(
        family=family,
        degree=degree,
        n=n,
        seed=seed,
        depth=found.depth,
        lost_inputs=found.lost_inputs,
        blind_outputs=found.blind_outputs,
        lower_bound=lower_bound(n, degree),
        second=second,
        guaranteed=None if second is None else guaranteed_depth(n, degree, second),
    )


def _largest_second(layers: Sequence[BipartiteGraph]) -> float | None:
    """Over the distinct layers; None unless every one has constant degrees."""
    distinct = {id(layer): layer for layer in layers}.values()
    if any(g.degree is None or g.fan_out.min() != g.fan_out.max() for g in distinct):
        return None
    found = [leading_singular_values(graph, exact=False) for graph in distinct]
    return max(leading.second + leading.error for leading in found)


def fit_growth(rows: Iterable[DepthRow]) -> Growth:
    """Fit depth = slope * log_D n + constant to the stacks of one family and degree.

    Args:
        rows: Measurements of one degree, of at least two sizes.

    Returns:
        The growth; of NaN if too few stacks were connected.

    Raises:
        ValueError: If the degrees differ.

    Examples:
        >>> rows = [measure_depth("butterfly", 4**k, 4) for k in (2, 3, 4)]
        >>> growth = fit_growth(rows)
        >>> round(growth.slope, 9), growth.over_bound
        (1.0, 0)
    """
    rows = list(rows)
    if len({row.degree for row in rows}) != 1:
        raise ValueError("`rows` must be of one degree")
    done = [(row, row.depth) for row in rows if row.depth is not None]
    unconnected = len(rows) - len(done)
    if len({row.n for row, _ in done}) < 2:
        return Growth(math.nan, math.nan, 0, len(rows), unconnected)
    x = np.array([math.log(row.n) / math.log(row.degree) for row, _ in done])
    depths = np.array([depth for _, depth in done], dtype=float)
    slope, constant = np.polyfit(x, depths, 1)
    return Growth(
        slope=float(slope),
        worst=float(np.abs(depths - slope * x - constant).max()),
        over_bound=max(depth - row.lower_bound for row, depth in done),
        stacks=len(rows),
        unconnected=unconnected,
    )


def depth_cases(
    degrees: Sequence[int], sizes: Sequence[int], *, seeds: int, families: Sequence[str] = ()
) -> list[tuple[str, int, int, int]]:
    """List what can be measured: (family, n, degree, seed), smallest first.

    Args:
        degrees: The degrees D.
        sizes: The sizes n; a family of special sizes takes the nearest that it can have.
        seeds: How many stacks of a family that draws.
        families: Which families, all by default.

    Returns:
        The cases, without repetition.

    Examples:
        >>> depth_cases([4], [64], seeds=2, families=["random", "grouped", "lps", "complete"])
        [('random', 64, 4, 0), ('random', 64, 4, 1), ('grouped', 64, 4, 0), ('lps', 60, 4, 0)]
    """
    cases: dict[tuple[str, int, int, int], None] = {}
    for n in sorted(sizes):
        for degree in degrees:
            for family in families or list_families():
                own = nearest_size(family, n, degree)
                if own is not None and own > degree:
                    for seed in range(seeds if family not in WITHOUT_SEED else 1):
                        cases[family, own, degree, seed] = None
    return list(cases)
