"""The graph of a network's units, and the paths in it: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

NOTHING = 0  # the unit that stands for constants: no source reaches it
_TINY = -900.0  # log2: what lies this far under a column's maximum is summed on its own


@dataclass(frozen=True)
class Join:
    """New units, each reading a set of older ones.

    Args:
        first: The first of the new units; the others follow.
        indptr: Row pointers of the sets.
        indices: The units read by each set, increasing, never NOTHING.
        set_of: Which set each new unit reads; a dense layer has one set for all its units.
        is_layer: Whether there are weights on it, so that it adds to the depth if it mixes.
    """

    first: int
    indptr: IntArray
    indices: IntArray
    set_of: IntArray
    is_layer: bool

    @property
    def units(self) -> slice:
        """The new units."""
        return slice(self.first, self.first + len(self.set_of))

    @property
    def fan_in(self) -> IntArray:
        """How many units each new unit reads."""
        sizes: IntArray = np.diff(self.indptr)[self.set_of]
        return sizes


class UnitGraph:
    """All units of a network in the order in which they are computed, and what each one reads.

    Units are numbers; unit 0 is NOTHING. The graph grows by `sources` and `join`, and is acyclic
    because a join reads only what exists.
    """

    def __init__(self) -> None:
        self.size = 1
        self.joins: list[Join] = []

    def sources(self, count: int) -> IntArray:
        """Add units that read nothing: inputs of the network."""
        self.size += count
        return np.arange(self.size - count, self.size)

    def join(
        self, rows: IntArray, read: IntArray, set_of: IntArray, *, is_layer: bool = False
    ) -> IntArray:
        """Add units that read others.

        Args:
            rows: For each connection the set it belongs to.
            read: For each connection the unit read; repeated ones count once, NOTHING never.
            set_of: For each new unit the set that it reads.
            is_layer: Whether there are weights on it.

        Returns:
            The new units.

        Examples:
            >>> graph = UnitGraph()
            >>> a, b = graph.sources(2)
            >>> graph.join(np.array([0, 0, 1]), np.array([a, b, b]), np.array([0, 1]))
            array([3, 4])
        """
        keys = np.unique(rows[read != NOTHING] * self.size + read[read != NOTHING])
        counts = np.bincount(keys // self.size, minlength=int(set_of.max(initial=-1)) + 1)
        indptr = np.concatenate(([0], np.cumsum(counts)))
        join = Join(self.size, indptr, keys % self.size, set_of, is_layer)
        self.joins.append(join)
        self.size += len(set_of)
        return np.arange(join.first, self.size)

    def reached(self, sources: IntArray) -> NDArray[np.bool_]:
        """For each unit, whether at least one of the sources reaches it."""
        reached = np.zeros(self.size, dtype=bool)
        reached[sources] = True
        for join in self.joins:
            totals = np.concatenate(([0], np.cumsum(reached[join.indices])))
            hit = totals[join.indptr[1:]] > totals[join.indptr[:-1]]
            reached[join.units] |= hit[join.set_of]
        return reached

    def reaching(self, targets: IntArray) -> NDArray[np.bool_]:
        """For each unit, whether it reaches at least one of the targets."""
        reaching = np.zeros(self.size, dtype=bool)
        reaching[targets] = True
        for join in reversed(self.joins):
            wanted = np.zeros(len(join.indptr) - 1, dtype=bool)
            wanted[join.set_of[reaching[join.units]]] = True
            reaching[join.indices[np.repeat(wanted, np.diff(join.indptr))]] = True
        reaching[NOTHING] = False
        return reaching

    def paths(self, sources: Sequence[IntArray]) -> Paths:
        """Count the paths from sources to all units.

        Args:
            sources: For each source the units that it consists of; what these read is cut off.

        Returns:
            The counts, in log2.
        """
        return Paths(self, sources)


class Paths:
    """The number of paths from each source to each unit, in log2, and the depth of each unit.

    Counts are summed in float64 relative to the largest of their column, so they never overflow;
    the rare ones that this would lose are summed on their own, so that -inf means exactly: no path.
    Units that read the same set share a row.
    """

    def __init__(self, graph: UnitGraph, sources: Sequence[IntArray]) -> None:
        self.num_sources = len(sources)
        num_rows = 1 + len(sources) + sum(len(join.indptr) - 1 for join in graph.joins)
        self._log2 = np.full((num_rows, len(sources)), -np.inf)
        self._depth = np.full(num_rows, -1)
        self._row = np.zeros(graph.size, dtype=np.int64)
        own = np.arange(len(sources))
        self._log2[1 + own, own] = 0
        self._depth[1 + own] = 0
        is_source = np.zeros(graph.size, dtype=bool)
        for source, units in enumerate(sources):
            self._row[units] = 1 + source
            is_source[units] = True
        is_source[NOTHING] = False
        self._row[NOTHING] = 0
        next_row = 1 + len(sources)
        for join in graph.joins:
            rows = slice(next_row, next_row + len(join.indptr) - 1)
            next_row = rows.stop
            self._add(join, rows)
            of_units = self._row[join.units]
            free = ~is_source[join.units]
            of_units[free] = (rows.start + join.set_of)[free]

    def _add(self, join: Join, rows: slice) -> None:
        from scipy.sparse import csr_array

        read, columns = np.unique(self._row[join.indices], return_inverse=True)
        known = self._log2[read]
        if not np.isfinite(known).any():
            return
        shape = (len(join.indptr) - 1, len(read))
        entries = (np.ones(len(columns)), columns, join.indptr)
        matrix = csr_array(entries, shape=shape, copy=True)
        matrix.sum_duplicates()  # units that share a row
        self._log2[rows] = _log2_product(matrix, known)
        depth = _row_max(matrix.indptr, self._depth[read][matrix.indices])
        mixes = join.is_layer and bool((np.diff(join.indptr) > 1).any())
        self._depth[rows] = np.where(depth < 0, -1, depth + mixes)

    def log2(self, units: IntArray) -> FloatArray:
        """Number of paths from each source to each unit, shape (*units.shape, num_sources)."""
        counts: FloatArray = self._log2[self._row[units]]
        return counts

    def depth(self, units: IntArray) -> IntArray:
        """Mixing layers on the longest way from a source to each unit; -1 where there is none."""
        depth: IntArray = self._depth[self._row[units]]
        return depth


def _log2_product(matrix: Any, logs: FloatArray) -> FloatArray:
    """log2 of `matrix` @ 2**logs, for a sparse matrix of positive entries."""
    top = logs.max(axis=0)
    top[~np.isfinite(top)] = 0
    with np.errstate(divide="ignore"):
        result: FloatArray = np.log2(matrix @ np.exp2(logs - top))
        if not (logs - top < _TINY)[np.isfinite(logs)].any():
            result += top
            return result
        # Some terms are so much smaller than others that they may have vanished.
        lost = (matrix @ np.isfinite(logs).astype(float) > 0) & (result < _TINY)
        result += top
        for row, column in np.argwhere(lost):
            entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
            terms = logs[matrix.indices[entries], column] + np.log2(matrix.data[entries])
            result[row, column] = terms.max() + np.log2(np.exp2(terms - terms.max()).sum())
    return result


def _row_max(indptr: IntArray, values: IntArray) -> IntArray:
    """The maximum of each row of a CSR matrix; -1 for empty rows."""
    result = np.full(len(indptr) - 1, -1)
    filled = np.diff(indptr) > 0
    if filled.any():
        result[filled] = np.maximum.reduceat(values, indptr[:-1][filled])
    return result
