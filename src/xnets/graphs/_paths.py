"""Paths in a graph: components, diameter, girth. Each is exact, or says between which bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray
from xnets.graphs._spectral import join_sides, split_components

BitArray = NDArray[np.uint64]

_WORD = 64
_STARTS = 512  # vertices whose distances are followed at once
_LOOKED_AT = 16  # neighbours that a vertex hears from before it is asked whether it needs more
_DIAMETER_WORK = 1 << 27  # 64-bit words that one step of an exact diameter may read
_DIAMETER_STEPS = 8  # as many such steps; graphs of little expansion need hundreds
_LONG_WAY = 64  # steps that the distances from the first starts may take in any case
_GIRTH_WORK = 1 << 27  # walks that an exact girth may follow


class Range(NamedTuple):
    """A whole number known to lie in [low, high]; `high` is None if nothing bounds it."""

    low: int
    high: int | None

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


def count_components(graph: BipartiteGraph) -> int:
    """Count the connected components, every isolated vertex as one of its own.

    Args:
        graph: The graph.

    Returns:
        The number, at least 1.

    Examples:
        >>> count_components(BipartiteGraph.from_edges([(0, 0), (1, 1)], num_in=4, num_out=2))
        4
    """
    with_edges = len(split_components(graph.base.biadjacency())) if graph.num_edges else 0
    return with_edges + int((graph.fan_in == 0).sum()) + int((graph.fan_out == 0).sum())


# --- diameter ------------------------------------------------------------------------------------


def diameter(graph: BipartiteGraph) -> Range | None:
    """Find the longest of all shortest paths between two vertices, whatever their sides.

    The distances from 512 starts are followed at once, as bits of machine words. Beyond a limit of
    work, only as many starts are followed, which still bounds the diameter from both sides.

    Args:
        graph: The graph.

    Returns:
        The diameter, or its bounds; None if the graph is not connected.

    Examples:
        >>> path = BipartiteGraph.from_edges([(0, 0), (1, 0), (1, 1)], num_in=2, num_out=2)
        >>> str(diameter(path))
        '3'
    """
    if count_components(graph) > 1:
        return None
    base = graph.base
    words = -(-max(base.num_in, base.num_out) // _WORD)
    rows = max(base.num_in, base.num_out)
    step = min(len(base.indices), rows * 4 * _LOOKED_AT) * words
    starts = np.arange(min(_STARTS, base.num_in))
    longest, shortest = _sweep(base)
    many = longest > _LONG_WAY and step * longest > _DIAMETER_WORK * _DIAMETER_STEPS
    if not many:  # else even the first starts take long
        longest, shortest = _eccentricities(base, base.transpose(), starts)
        many = step > _DIAMETER_WORK or step * longest > _DIAMETER_WORK * _DIAMETER_STEPS
    if many:
        # From any vertex to any other there is a way through each start.
        found = Range(longest, 2 * shortest)
    else:
        longest = max(longest, _longest(base, first=len(starts)))
        if longest % 2:
            # An odd distance joins an input to an output, so two outputs may be one step farther.
            longest = _longest(base.transpose())
        found = Range(longest, longest)
    if graph.block != (1, 1):
        # Two vertices of one block have all their neighbours in common.
        found = Range(max(found.low, 2), max(found.high or 0, 2))
    return found


def _sweep(graph: BipartiteGraph) -> tuple[int, int]:
    """(largest, smallest) distance to the farthest vertex, over a few vertices of all.

    From a farthest vertex to the one farthest from it is a long way; its middle has a short one.
    """
    from scipy.sparse.csgraph import breadth_first_order

    joined = join_sides(graph.biadjacency())

    def way(start: int) -> list[int]:
        """From a farthest vertex to the start."""
        order, before = breadth_first_order(joined, start)
        vertices = [int(order[-1])]
        while vertices[-1] != start:
            vertices.append(int(before[vertices[-1]]))
        return vertices

    first = way(0)
    long = way(first[0])
    middle = way(long[len(long) // 2])
    lengths = [len(vertices) - 1 for vertices in (first, long, middle)]
    return max(lengths), min(lengths)


def _longest(graph: BipartiteGraph, *, first: int = 0) -> int:
    """The longest distance from any input but the first ones."""
    flipped, longest = graph.transpose(), 0
    for start in range(first, graph.num_in, _STARTS):
        starts = np.arange(start, min(start + _STARTS, graph.num_in))
        longest = max(longest, _eccentricities(graph, flipped, starts)[0])
    return longest


def _eccentricities(
    graph: BipartiteGraph, flipped: BipartiteGraph, starts: IntArray
) -> tuple[int, int]:
    """(largest, smallest) over some inputs of the distance to the farthest vertex."""
    near = np.zeros((graph.num_in, -(-len(starts) // _WORD) * _WORD), dtype=bool)
    near[starts, np.arange(len(starts))] = True
    far = np.zeros((graph.num_out, near.shape[1]), dtype=bool)
    for bit, start in enumerate(starts):
        far[flipped.indices[flipped.indptr[start] : flipped.indptr[start + 1]], bit] = True
    inputs, outputs = (np.packbits(reached, axis=1).view(np.uint64) for reached in (near, far))
    all_starts = np.bitwise_or.reduce(inputs, axis=0)
    steps, smallest = 1, 0
    while True:
        arrived = np.bitwise_and.reduce(inputs, axis=0) & np.bitwise_and.reduce(outputs, axis=0)
        if not smallest and arrived.any():
            smallest = steps
        if np.array_equal(arrived, all_starts):
            return steps, smallest
        if steps % 2 == 0:
            outputs = _spread(graph, inputs, all_starts)
        else:
            inputs = _spread(flipped, outputs, all_starts)
        steps += 1


def _spread(graph: BipartiteGraph, inputs: BitArray, all_starts: BitArray) -> BitArray:
    """The starts that each output hears of from its inputs; it stops listening at all of them."""
    outputs = np.zeros((graph.num_out, inputs.shape[1]), dtype=np.uint64)
    first, last = graph.indptr[:-1], graph.indptr[1:] - 1
    listening = np.arange(graph.num_out)
    step = min(_LOOKED_AT, int((last - first).max()) + 1)
    while len(listening):
        edges = first[listening, None] + np.arange(step)
        # Past its last neighbour a vertex hears from the last one again.
        edges = np.minimum(edges, last[listening, None])
        heard = outputs[listening] | np.bitwise_or.reduce(inputs[graph.indices[edges]], axis=1)
        outputs[listening] = heard
        first = first + step
        more = (first[listening] <= last[listening]) & (heard != all_starts).any(axis=1)
        listening = listening[more]
    return outputs


# --- girth ---------------------------------------------------------------------------------------


def girth(graph: BipartiteGraph) -> Range | None:
    """Find the length of the shortest cycle.

    From every vertex of the smaller side, walks that never turn back are followed until two meet.
    Beyond a limit of work the bounds found so far are returned.

    Args:
        graph: The graph.

    Returns:
        The girth, an even number of at least 4, or its bounds; None if there is no cycle.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> str(girth(make_graph("lps", 168, 168, degree=4)))
        '8'
    """
    if graph.block != (1, 1):
        # Two vertices of one block, and two of their common neighbours.
        return Range(4, 4) if _has_square(graph) else None
    core = _without_leaves(graph)
    if len(core.indices) == 0:
        return None
    if max(core.fan_in.max(), core.fan_out.max()) == 2:  # rings, and isolated vertices
        rings = split_components(core.biadjacency())
        shortest = min(sum(ring.shape) for ring in rings)
        return Range(shortest, shortest)
    if core.num_in > core.num_out:
        core = core.transpose()
    flipped = core.transpose()
    starts = np.flatnonzero(core.fan_out)
    best: int | None = None
    position = work = 0
    while position < len(starts):
        # A few starts first: the shortest cycle that they see spares the others the long walks.
        step = min(1 + position, 1 + (1 << 22) // core.num_out)
        some = starts[position : position + step]
        best, walked = _shortest_cycle(flipped, core, some, best)
        position, work = position + step, work + walked
        if best == 4:
            break
        if work > _GIRTH_WORK:
            return Range(4, best)
    return None if best is None else Range(best, best)


def _has_square(graph: BipartiteGraph) -> bool:
    b_out, b_in = graph.block
    fan_in, fan_out = int(graph.fan_in.max()), int(graph.fan_out.max())
    return (b_out > 1 and fan_in > 1) or (b_in > 1 and fan_out > 1)


def _without_leaves(graph: BipartiteGraph) -> BipartiteGraph:
    """The same vertices without the edges that lead to a vertex of degree 1, again and again."""
    if min(graph.fan_in.min(), graph.fan_out.min()) > 1:
        return graph
    if graph.num_edges == graph.num_in + graph.num_out - count_components(graph):  # a forest
        return BipartiteGraph.from_edges([], graph.num_in, graph.num_out)
    edges = graph.edges()
    while len(edges):
        inputs, outputs = edges.T
        kept = (np.bincount(inputs)[inputs] > 1) & (np.bincount(outputs)[outputs] > 1)
        if kept.all():
            break
        edges = edges[kept]
    return BipartiteGraph.from_edges(edges, graph.num_in, graph.num_out)


def _shortest_cycle(
    from_start: BipartiteGraph, from_other: BipartiteGraph, starts: IntArray, best: int | None
) -> tuple[int | None, int]:
    """(the smaller of `best` and the shortest cycle seen from the starts, walks followed).

    The rows of `from_start` are the vertices on the side of the starts, those of `from_other` the
    vertices on the other side.
    """
    origin, vertex = np.arange(len(starts)), starts
    previous = np.full(len(starts), -1)
    length, work = 0, 0
    while len(vertex) and (best is None or 2 * (length + 1) < best):
        graph = from_start if length % 2 == 0 else from_other
        length += 1
        low, degree = graph.indptr[vertex], np.diff(graph.indptr)[vertex]
        walks = int(degree.sum()) - (len(vertex) if length > 1 else 0)
        work += walks + 1000
        if walks > len(starts) * graph.num_in:
            return 2 * length, work  # more walks than places where they can end
        walk = np.repeat(np.arange(len(vertex)), degree)
        place = np.arange(len(walk)) - np.repeat(np.cumsum(degree) - degree, degree)
        arrived = graph.indices[low[walk] + place]
        onward = arrived != previous[walk]
        walk, arrived = walk[onward], arrived[onward]
        origin, previous, vertex = origin[walk], vertex[walk], arrived
        ends = np.zeros(len(starts) * graph.num_in, dtype=bool)
        ends[origin * graph.num_in + vertex] = True
        if np.count_nonzero(ends) < len(vertex):
            return 2 * length, work
    return best, work
