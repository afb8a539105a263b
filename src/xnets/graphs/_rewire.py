"""Rewiring: change a graph by edge switches, which keep every degree and the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._spectral import Leading, leading_singular_values, second_singular_vectors
from xnets.graphs._switch import EdgeSwitcher

_TRIES_PER_SWITCH = 100
_DRAWS_PER_SWITCH = 8


@dataclass(frozen=True)
class RewireReport:
    """What rewiring did.

    Args:
        switches: How many switches were asked for.
        made: How many were made; fewer if the graph allows few, none if it is complete.
        tried: How many pairs of base edges were tried.
        gap_before: The spectral gap 1 - second / first of the old graph.
        gap_after: The same of the new graph.
        second_before: The second singular value of the old graph.
        second_after: The same of the new graph.
        kept: The share of the old graph's edges that the new one has too.
    """

    switches: int
    made: int
    tried: int
    gap_before: float
    gap_after: float
    second_before: float
    second_after: float
    kept: float

    def __str__(self) -> str:
        return (
            f"{self.made} of {self.switches} switches, {self.kept:.1%} of the edges kept; spectral "
            f"gap {self.gap_before:.4f} before, {self.gap_after:.4f} after"
        )


class Rewired(NamedTuple):
    """A rewired graph and the report: `graph, report = rewire(...)`.

    Args:
        graph: The graph after the switches.
        report: What they changed.
    """

    graph: BipartiteGraph
    report: RewireReport


def rewire(
    graph: BipartiteGraph, *, switches: int, seed: Seed = 0, improve: bool = False
) -> Rewired:
    """Change a graph by random edge switches, which keep every degree and the block structure.

    A switch takes two base edges (u, v) and (x, y) and puts (x, v) and (u, y) in their place. The
    graph stays simple. Enough switches reach every graph with these degrees (Ryser, "Combinatorial
    properties of matrices of zeros and ones", 1957), in the limit uniformly.

    Args:
        graph: The graph; it is not changed.
        switches: How many switches to make, at least 0. Between base edges: one switch moves two
            blocks.
        seed: An int or a numpy Generator.
        improve: Make only switches that do not raise the second singular value. They are chosen
            where the singular vectors promise the largest fall, made in batches, and a batch that
            raises the value is taken back and another of half the size tried. Costs two
            decompositions a batch, and stops where no single switch drawn helps.

    Returns:
        The new graph, and a report with the spectral gap before and after.

    Raises:
        TypeError: If `switches` is not an int.
        ValueError: If it is negative.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> grouped = make_graph("grouped", 64, 64, compression=4)
        >>> graph, report = rewire(grouped, switches=1000)
        >>> print(report)
        1000 of 1000 switches, ...% of the edges kept; spectral gap 0.0000 before, 0.5... after
    """
    if isinstance(switches, bool) or not isinstance(switches, (int, np.integer)):
        raise TypeError(f"`switches` (={switches!r}) must be an int")
    if switches < 0:
        raise ValueError(f"`switches` (={switches}) must be at least 0")
    stream = Stream(seed)
    before = leading_singular_values(graph)
    rewired, made, tried = graph, 0, 0
    if switches and len(graph.indices) > 1:
        if improve:
            rewired, made, tried = _improve(graph, switches, stream, before)
        else:
            switcher = EdgeSwitcher(graph.indices, _outputs(graph), graph.base_shape)
            made, tried = switcher.shuffle(switches, stream, limit=_TRIES_PER_SWITCH * switches)
            rewired = _with_inputs(graph, switcher.inputs)
    after = leading_singular_values(rewired)
    row_start = _outputs(graph) * graph.base_shape[1]
    kept = np.isin(row_start + graph.indices, row_start + rewired.indices)
    report = RewireReport(
        switches=switches,
        made=made,
        tried=tried,
        gap_before=before.gap,
        gap_after=after.gap,
        second_before=before.second,
        second_after=after.second,
        kept=float(kept.mean()) if len(kept) else 1.0,
    )
    return Rewired(rewired, report)


def _improve(
    graph: BipartiteGraph, switches: int, stream: Stream, start: Leading
) -> tuple[BipartiteGraph, int, int]:
    """Make switches that do not raise the second singular value; (new graph, made, tried)."""
    outputs = _outputs(graph)
    edges = len(outputs)
    second, batch = start.second, max(1, edges // 16)
    made = tried = 0
    while batch and made < switches and tried < _TRIES_PER_SWITCH * switches:
        left, right = second_singular_vectors(graph)
        draws = _DRAWS_PER_SWITCH * min(batch, switches - made)
        tried += draws
        first, other = stream.below(edges, draws), stream.below(edges, draws)
        # To first order, a switch lowers the singular value by this.
        fall = (left[outputs[first]] - left[outputs[other]]) * (
            right[graph.indices[first]] - right[graph.indices[other]]
        )
        best = np.argsort(-fall, kind="stable")[: min(batch, switches - made)]
        best = best[fall[best] > 0]
        switcher = EdgeSwitcher(graph.indices, outputs, graph.base_shape)
        done = int(switcher.try_pairs(first[best], other[best]).sum())
        changed = _with_inputs(graph, switcher.inputs)
        now = leading_singular_values(changed).second
        if done and now <= second + start.error:
            graph, second, made = changed, min(now, second), made + done
            batch = min(2 * batch, max(1, edges // 16))
        else:
            batch //= 2
    return graph, made, tried


def _outputs(graph: BipartiteGraph) -> IntArray:
    """The base output of every base edge."""
    return np.repeat(np.arange(graph.base_shape[0]), np.diff(graph.indptr))


def _with_inputs(graph: BipartiteGraph, inputs: IntArray) -> BipartiteGraph:
    """The graph whose base edge e joins inputs[e] to the output that it had."""
    order = np.lexsort((inputs, _outputs(graph)))
    return BipartiteGraph(graph.num_in, graph.num_out, graph.indptr, inputs[order], graph.block)
