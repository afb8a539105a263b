"""Theorem 2 of the paper, measured: mixing of one layer; and the price of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xnets.bench._sizes import WITHOUT_SEED
from xnets.graphs import (
    BipartiteGraph,
    leading_singular_values,
    make_graph,
    mixing_bound,
    sample_mixing,
    second_over_bound,
    second_singular_vectors,
)


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
    seeds = 1 if family in WITHOUT_SEED else seeds
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
