"""The theorems of the paper, measured: depth of stacks, mixing of layers, the price of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xnets.bench._sizes import nearest_size
from xnets.graphs import (
    BipartiteGraph,
    leading_singular_values,
    list_families,
    make_graph,
    mixing_bound,
    sample_mixing,
    second_over_bound,
    second_singular_vectors,
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
class MixingRow:
    """Theorem 2 on one layer: deviations of edge counts, as shares of the expected count.

    Args:
        family: The family.
        degree: The mean fan-in D.
        n: Inputs and outputs.
        seed: Of the draw.
        constant: The provable constant: e(S, T) deviates by at most constant sqrt(|S| |T| ...).
        sampled_constant: What random pairs of sets of many sizes needed.
        bound: For sets that are half of each side, what is proved: no deviation is larger.
        found: The largest deviation of halves that a search found.
        sampled: The largest deviation among random halves.
    """

    family: str
    degree: float
    n: int
    seed: int
    constant: float
    sampled_constant: float
    bound: float
    found: float
    sampled: float


@dataclass(frozen=True)
class BlockRow:
    """What a family is worth in blocks, the mean over some seeds.

    Args:
        family: The family.
        block_out: Outputs in a block.
        block_in: Inputs in a block.
        compression: C.
        degree: The mean fan-in.
        num_in: Inputs.
        num_out: Outputs.
        seeds: How many graphs were drawn.
        gap: The spectral gap.
        second_over_bound: The second singular value over the Ramanujan bound.
        unused_inputs: Inputs that no output reads.
        dead_outputs: Outputs that read no input.
    """

    family: str
    block_out: int
    block_in: int
    compression: float
    degree: float
    num_in: int
    num_out: int
    seeds: int
    gap: float
    second_over_bound: float | None
    unused_inputs: float
    dead_outputs: float


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


# --- theorem 1: depth ----------------------------------------------------------------------------


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
                    for seed in range(seeds if family not in _WITHOUT_SEED else 1):
                        cases[family, own, degree, seed] = None
    return list(cases)


_WITHOUT_SEED = {"grouped", "shuffled", "butterfly", "radix", "margulis", "lps", "array_code"}


# --- theorem 2: mixing ---------------------------------------------------------------------------


def measure_mixing(family: str, n: int, degree: int, *, seed: int = 0) -> MixingRow:
    """Measure theorem 2 on one layer: what is proved, what a search finds, what is typical.

    Args:
        family: One of `list_families()`.
        n: Inputs and outputs.
        degree: D.
        seed: Of the draw.

    Returns:
        The measurement.

    Raises:
        ValueError: If the family has no such graph.

    Examples:
        >>> row = measure_mixing("biregular", 256, 16)
        >>> row.sampled < row.found <= row.bound
        True
        >>> row = measure_mixing("grouped", 256, 16)
        >>> round(row.found, 9), round(row.bound, 9)
        (1.0, 1.0)
    """
    graph = make_graph(family, n, n, degree=degree, seed=seed)
    leading = leading_singular_values(graph)
    constant = leading.deviation + leading.error
    sampled = sample_mixing(graph, constant, seed=seed)
    halves = graph.num_in // 2, graph.num_out // 2
    expected = graph.density * halves[0] * halves[1]
    return MixingRow(
        family=family,
        degree=graph.num_edges / graph.num_out,
        n=n,
        seed=seed,
        constant=constant,
        sampled_constant=sampled.sampled,
        bound=mixing_bound(graph, constant, *halves) / expected,
        found=search_deviation(graph) / expected,
        sampled=sampled.sampled_half,
    )


def search_deviation(graph: BipartiteGraph) -> float:
    """Search for halves of both sides that share the most edges more, or fewer, than expected.

    The second singular vectors say where to start; then each side in turn takes its best half for
    the other's, until nothing improves.

    Args:
        graph: A graph of block (1, 1).

    Returns:
        The largest deviation found, in edges; no bound, but a witness.

    Examples:
        >>> search_deviation(make_graph("grouped", 8, 8, degree=4))
        8.0
    """
    matrix = graph.biadjacency()
    half_in, half_out = graph.num_in // 2, graph.num_out // 2
    expected = graph.density * half_in * half_out
    _, right = second_singular_vectors(graph)
    best = 0.0
    for sign in (1.0, -1.0):
        scores, deviation = right, -1.0
        while True:
            inputs = _top(scores, half_in)
            outputs = _top(sign * (matrix @ inputs), half_out)
            reached = abs(float(outputs @ (matrix @ inputs)) - expected)
            if reached <= deviation:
                break
            deviation, scores = reached, sign * (matrix.T @ outputs)
        best = max(best, deviation)
    return best


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    """The indicator vector of the `count` largest scores."""
    chosen = np.zeros(len(scores))
    chosen[np.argsort(-scores, kind="stable")[:count]] = 1
    return chosen


# --- the price of blocks -------------------------------------------------------------------------


def measure_block(
    family: str,
    num_in: int,
    num_out: int,
    compression: float,
    block: tuple[int, int],
    *,
    seeds: int = 5,
) -> BlockRow:
    """Measure gap and unused inputs of a family in blocks, the mean over some seeds.

    Args:
        family: One of `list_families()`.
        num_in: Number of inputs.
        num_out: Number of outputs.
        compression: C.
        block: (b_out, b_in).
        seeds: How many graphs to draw.

    Returns:
        The measurement.

    Raises:
        ValueError: If the family has no such graph.

    Examples:
        >>> row = measure_block("biregular", 256, 256, 4, (8, 8), seeds=1)
        >>> round(row.gap, 2), row.unused_inputs
        (0.44, 0.0)
    """
    seeds = 1 if family in _WITHOUT_SEED else seeds
    graphs = [
        make_graph(family, num_in, num_out, compression=compression, block=block, seed=seed)
        for seed in range(seeds)
    ]
    found = [leading_singular_values(graph) for graph in graphs]
    ratios = [second_over_bound(g, f.second) for g, f in zip(graphs, found, strict=True)]
    known = [ratio for ratio in ratios if ratio is not None]
    return BlockRow(
        family=family,
        block_out=block[0],
        block_in=block[1],
        compression=compression,
        degree=float(np.mean([graph.num_edges / num_out for graph in graphs])),
        num_in=num_in,
        num_out=num_out,
        seeds=seeds,
        gap=float(np.mean([leading.gap for leading in found])),
        second_over_bound=float(np.mean(known)) if known else None,
        unused_inputs=float(np.mean([(graph.fan_out == 0).sum() for graph in graphs])),
        dead_outputs=float(np.mean([(graph.fan_in == 0).sum() for graph in graphs])),
    )
