"""What reaches what through a stack of layers: theorem 1, measured on every pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import check_size

BitArray = NDArray[np.uint64]

_STARTS = 512  # inputs whose reach is followed at once, as bits of machine words


@dataclass(frozen=True)
class StackDepth:
    """How many layers it takes until every output sees every input. Made by `stack_depth`.

    Args:
        depth: The first number of layers after which every input is seen by all outputs that see
            anything, or by none; None if it was not reached.
        lost_inputs: Inputs that no output sees at that depth, and none will at any later one.
        blind_outputs: Outputs that see no input at that depth.
        layers: How many layers were looked at.
    """

    depth: int | None
    lost_inputs: int
    blind_outputs: int
    layers: int

    @property
    def is_full(self) -> bool:
        """Whether every output sees every input: what theorem 1 of the paper claims."""
        return self.depth is not None and self.lost_inputs == self.blind_outputs == 0


def stack_depth(layers: Iterable[BipartiteGraph], *, max_depth: int = 64) -> StackDepth:
    """Measure the depth at which a stack of layers has connected all that it ever will.

    Theorem 1 of the paper says that D-regular expanders connect every input with every output in
    O(log n) layers. No stack of fan-in D does so in fewer than log n / log D. All pairs are
    followed. A one-sided random graph leaves a few inputs unused: these are counted as lost and the
    depth is that of the others, as of the outputs that see anything.

    Args:
        layers: The graphs from the first layer on, each as wide as the one before; may be infinite.
        max_depth: After how many layers to give up.

    Returns:
        The depth, and how many inputs and outputs are left out at it.

    Raises:
        ValueError: If the sizes of two layers do not fit, or there is no layer.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> stack_depth(make_graph("biregular", 64, 64, degree=4, seed=i) for i in range(9))
        StackDepth(depth=5, lost_inputs=0, blind_outputs=0, layers=5)
        >>> stack_depth([make_graph("grouped", 64, 64, degree=4)] * 9).depth is None
        True
    """
    stack = _Stack(layers, check_size("max_depth", max_depth))
    first = stack.layer(0)
    if first is None:
        raise ValueError("`layers` must hold at least one graph")
    depth = lost = 0
    for start in range(0, first.num_in, _STARTS):
        found = _follow(stack, np.arange(start, min(start + _STARTS, first.num_in)))
        if found is None:
            return StackDepth(None, 0, 0, len(stack.layers))
        depth, lost = max(depth, found[0]), lost + found[1]
    blind = int(np.count_nonzero(~stack.sighted[depth]))
    return StackDepth(depth, lost, blind, len(stack.layers))


class _Stack:
    """The layers drawn so far, and which vertices after each layer see any input at all."""

    def __init__(self, layers: Iterable[BipartiteGraph], max_depth: int) -> None:
        self._source: Iterator[BipartiteGraph] = iter(layers)
        self._max_depth = max_depth
        self.layers: list[BipartiteGraph] = []
        self.sighted: list[NDArray[np.bool_]] = []

    def layer(self, number: int) -> BipartiteGraph | None:
        """The layer after `number` others; None if there is none."""
        if number == self._max_depth:
            return None
        if number == len(self.layers):
            graph = next(self._source, None)
            if graph is None:
                return None
            self._append(graph)
        return self.layers[number]

    def _append(self, graph: BipartiteGraph) -> None:
        before = self.sighted[-1] if self.sighted else np.ones(graph.num_in, dtype=bool)
        if len(before) != graph.num_in:
            raise ValueError(
                f"layer {len(self.layers)} has `num_in` (={graph.num_in}), but the layer before "
                f"has {len(before)} outputs; they must be equal"
            )
        if not self.sighted:
            self.sighted.append(before)
        # A block's vertices differ in what they saw before: follow every vertex.
        graph = graph.with_block((1, 1))
        self.layers.append(graph)
        bits = hear(graph, np.ascontiguousarray(before[:, None].astype(np.uint64)))
        self.sighted.append(bits[:, 0] > 0)


def _follow(stack: _Stack, starts: NDArray[np.int64]) -> tuple[int, int] | None:
    """(depth, lost inputs) of some inputs; None if the layers end before."""
    layer = stack.layer(0)
    assert layer is not None
    near = np.zeros((layer.num_in, -(-len(starts) // 64) * 64), dtype=bool)
    near[starts, np.arange(len(starts))] = True
    reached: BitArray = np.packbits(near, axis=1).view(np.uint64)
    depth = 0
    while layer is not None:
        reached, depth = hear(layer, reached), depth + 1
        seen = np.bitwise_or.reduce(reached, axis=0)
        common = np.bitwise_and.reduce(reached[stack.sighted[depth]], axis=0)
        if np.array_equal(seen, common):
            lost = len(starts) - int(np.unpackbits(seen.view(np.uint8)).sum())
            return depth, lost
        layer = stack.layer(depth)
    return None


def hear(graph: BipartiteGraph, inputs: BitArray) -> BitArray:
    """Let every output hear all that its inputs know, as bits.

    Args:
        graph: A graph of block (1, 1).
        inputs: What each input knows, shape (num_in, words).

    Returns:
        The union over the inputs of each output, shape (num_out, words).
    """
    outputs = np.zeros((graph.num_out, inputs.shape[1]), dtype=np.uint64)
    degrees = np.diff(graph.indptr)
    for place in range(int(degrees.max())):
        rows = slice(None) if place < degrees.min() else np.flatnonzero(degrees > place)
        outputs[rows] |= inputs[graph.indices[graph.indptr[:-1][rows] + place]]
    return outputs
