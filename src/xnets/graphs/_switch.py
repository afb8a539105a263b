"""Edge switches: the one move that keeps every degree.

A switch takes two edges (u, v) and (x, y) and joins u to y and x to v instead. Every vertex keeps
its degree, and any simple bipartite graph can be reached from any other with the same degrees
(Ryser, 1957). Thousands of switches are tried at once, with integer arithmetic alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xnets.graphs._checks import IntArray
from xnets.graphs._seed import Stream

_SLOTS_PER_EDGE = 16  # the size of the edge counts; part of the seed's meaning, never change


class EdgeSwitcher:
    """A list of edges, possibly with repetitions, that changes by switches only.

    Edges are numbered by their position in the list, and edge e always keeps its output
    `outputs[e]`. Which edges exist is looked up in a table of counts. The table has one entry per
    pair of vertices while that costs O(edges); beyond, pairs share entries, and a switch may be
    refused that was possible, but never made that was not.

    Args:
        inputs: The input of every edge.
        outputs: The output of every edge.
        shape: (number of outputs, number of inputs).
    """

    def __init__(self, inputs: IntArray, outputs: IntArray, shape: tuple[int, int]) -> None:
        self.inputs = inputs.copy()
        self.outputs = outputs
        self._columns = shape[1]
        # An odd size spreads the pairs that share an entry.
        self._size = min(shape[0] * shape[1], _SLOTS_PER_EDGE * len(inputs) + 1)
        self._count = np.bincount(self._entry(outputs, inputs), minlength=self._size)

    def _entry(self, outputs: IntArray, inputs: IntArray) -> IntArray:
        return (outputs * self._columns + inputs) % self._size

    def try_pairs(self, first: IntArray, second: IntArray) -> NDArray[np.bool_]:
        """Switch edge first[i] with edge second[i] wherever that gives no repeated edge.

        Args:
            first: Numbers of edges.
            second: As many numbers of edges.

        Returns:
            Which pairs were switched. Of two pairs that disturb each other, the earlier wins.
        """
        out_1, out_2 = self.outputs[first], self.outputs[second]
        in_1, in_2 = self.inputs[first], self.inputs[second]
        free = (self._count[self._entry(out_1, in_2)] == 0) & (
            self._count[self._entry(out_2, in_1)] == 0
        )
        # Edges with a common end are refused too: what they would become is there already.
        tried = np.flatnonzero(free)
        tried = tried[_undisturbed(first[tried], second[tried])]
        # New edges are compared by table entry: two that share one are not both made.
        new_1 = self._entry(out_1[tried], in_2[tried])
        new_2 = self._entry(out_2[tried], in_1[tried])
        kept = _undisturbed(new_1, new_2)
        tried, new_1, new_2 = tried[kept], new_1[kept], new_2[kept]
        for gone in (self._entry(out_1, in_1), self._entry(out_2, in_2)):
            np.subtract.at(self._count, gone[tried], 1)
        self._count[new_1] += 1
        self._count[new_2] += 1
        self.inputs[first[tried]] = in_2[tried]
        self.inputs[second[tried]] = in_1[tried]
        switched = np.zeros(len(first), dtype=bool)
        switched[tried] = True
        return switched

    def repair(self, repeated: IntArray, stream: Stream, rounds: int) -> IntArray:
        """Switch the given edges away, each with random partners, until none is left.

        Args:
            repeated: Numbers of the edges that repeat another edge.
            stream: Where the partners are drawn.
            rounds: After how many rounds to give up.

        Returns:
            The numbers that are still to be switched, none if all went well.
        """
        for _ in range(rounds):
            if len(repeated) == 0:
                break
            # A few stubborn edges get many partners a round, so that the rounds stay few.
            tries = np.tile(repeated, max(1, 64 // len(repeated)))
            partners = stream.below(len(self.inputs), len(tries))
            switched = self.try_pairs(tries, partners)
            done = np.concatenate([tries[switched], partners[switched]])
            repeated = repeated[~np.isin(repeated, done)]
        return repeated

    def shuffle(self, switches: int, stream: Stream, limit: int) -> tuple[int, int]:
        """Make random switches.

        Args:
            switches: How many to make.
            stream: Where the edges are drawn.
            limit: After how many tries to stop.

        Returns:
            (switches made, pairs tried).
        """
        edges = len(self.inputs)
        made = tried = 0
        while made < switches and tried < limit:
            batch = min(switches - made, limit - tried, max(1, edges // 4))
            first, second = stream.below(edges, batch), stream.below(edges, batch)
            made += int(self.try_pairs(first, second).sum())
            tried += batch
        return made, tried


def _undisturbed(first: IntArray, second: IntArray) -> NDArray[np.bool_]:
    """Which pairs (first[i], second[i]) share no entry with an earlier pair or with themselves."""
    both = np.stack([first, second], axis=1).reshape(-1)
    _, earliest = np.unique(both, return_index=True)
    fresh = np.zeros(len(both), dtype=bool)
    fresh[earliest] = True
    return fresh[0::2] & fresh[1::2]
