"""Lifts of complete bipartite graphs: K(a, b) with every edge replaced by a permutation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray, as_integers, check_range, check_size
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._size import BaseSize, base_size, divisors, nearest

KINDS = ("random", "cyclic")


def lift_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
    kind: str = "random",
) -> BipartiteGraph:
    """Return a k-lift of the complete graph K(D, num_out / k), where k = num_in / D.

    The mask is a matrix of k x k permutation matrices, so the graph is exactly biregular for any D.
    As k grows, the new singular values of a random lift come, with high probability, within a
    vanishing distance of the Ramanujan bound (Bordenave, Collins, "Eigenvalues of random lifts and
    polynomials of random permutation matrices", 2019, arXiv 1801.00876). Those of a cyclic lift are
    the singular values of k - 1 matrices of random phases, near sqrt(D) + sqrt(num_out / k) while K
    is large against log k; no cyclic lift expands if k is exponential in the size of K (Agarwal,
    Chandrasekaran, Kolla, Madan, "On the expansion of group-based lifts", 2019, arXiv 1311.3268).
    The singular values of K, sqrt(D num_out / k) once and else 0, stay.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output D. Give this or `compression`.
        compression: The size k of the lift.
        block: (b_out, b_in); the lift is made between blocks.
        seed: An int or a numpy Generator.
        kind: "random": each edge of K becomes a random permutation; "cyclic": a random rotation, so
            that the graph can be kept as one shift per edge of K (see `CyclicLift`).

    Returns:
        A graph of fan-in D and fan-out num_out / k.

    Raises:
        ValueError: If D does not divide num_in, k does not divide num_out, or the kind is unknown.

    Examples:
        >>> lift_graph(6, 4, degree=3, kind="cyclic").mask().astype(int)
        array([[0, 1, 1, 0, 1, 0],
               [1, 0, 0, 1, 0, 1],
               [1, 0, 0, 1, 0, 1],
               [0, 1, 1, 0, 1, 0]])
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` (={kind!r}) must be one of {', '.join(map(repr, KINDS))}")
    size, lift = _lift_size(num_in, num_out, degree, compression, block)
    rows = size.num_out // lift
    stream = Stream(seed)
    if kind == "cyclic":
        shifts = stream.below(lift, rows * size.degree).reshape(rows, size.degree)
        base = CyclicLift(shifts, lift).graph()
        return BipartiteGraph(num_in, num_out, base.indptr, base.indices, block)
    order = stream.words(rows * size.degree * lift).reshape(rows, size.degree, lift)
    permutations = np.argsort(order, axis=2, kind="stable")
    neighbors = permutations + lift * np.arange(size.degree)[:, None]
    return BipartiteGraph.from_neighbors(
        neighbors.transpose(0, 2, 1).reshape(size.num_out, size.degree), num_in, block=block
    )


@dataclass(frozen=True, eq=False)
class CyclicLift:
    """A cyclic lift of a complete bipartite graph, held as its shifts alone.

    Output (r, t) is joined to the inputs (c, t + shifts[r, c] mod size), for every c. Vertex (i, t)
    has number i * size + t. The table is `size` times smaller than the list of neighbours. In
    coding theory, the mask is a quasi-cyclic parity check matrix (Fossorier, 2004).

    Args:
        shifts: Shape (a, b), one shift in [0, size) per edge of K(b inputs, a outputs).
        size: The size k of the lift.

    Raises:
        ValueError: If the shifts are no matrix or out of range.

    Examples:
        >>> lift = CyclicLift([[0, 1]], size=3)
        >>> lift.graph().mask().astype(int)
        array([[1, 0, 0, 0, 1, 0],
               [0, 1, 0, 0, 0, 1],
               [0, 0, 1, 1, 0, 0]])
        >>> lift.singular_values()
        array([1.41421356, 1.41421356, 1.41421356])
    """

    shifts: IntArray
    size: int

    def __post_init__(self) -> None:
        """Normalise and check."""
        shifts = as_integers("shifts", self.shifts).copy()
        object.__setattr__(self, "size", check_size("size", self.size))
        if shifts.ndim != 2 or shifts.size == 0:
            raise ValueError(f"`shifts` must have shape (outputs, inputs), got {shifts.shape}")
        check_range("shifts", shifts.reshape(-1), self.size)
        shifts.setflags(write=False)
        object.__setattr__(self, "shifts", shifts)

    @classmethod
    def from_graph(cls, graph: BipartiteGraph, size: int) -> CyclicLift:
        """Find the shifts of a graph that is a cyclic lift of a complete graph.

        Args:
            graph: The graph; of a graph with blocks, its base is taken.
            size: The size k of the lift.

        Returns:
            The lift whose `graph()` is the base of this graph.

        Raises:
            ValueError: If the graph is no such lift.

        Examples:
            >>> graph = lift_graph(64, 32, compression=4, kind="cyclic")
            >>> CyclicLift.from_graph(graph, size=4).graph() == graph
            True
        """
        size = check_size("size", size)
        rows, columns = graph.base_shape
        problem = f"the graph is no cyclic lift of size {size} of a complete graph"
        if rows % size or columns % size or len(graph.indices) != rows * (columns // size):
            raise ValueError(problem)
        # Position 0 of every output group tells the shifts; the rest must follow from them.
        first_rows = np.arange(0, rows, size)
        if not np.all(np.diff(graph.indptr) == columns // size):
            raise ValueError(problem)
        table = graph.indices.reshape(rows, columns // size)[first_rows]
        if not np.array_equal(
            table // size, np.broadcast_to(np.arange(columns // size), table.shape)
        ):
            raise ValueError(problem)
        lift = cls(table % size, size)
        if lift.graph() != graph.base:
            raise ValueError(problem)
        return lift

    def graph(self) -> BipartiteGraph:
        """The lift as a graph of block (1, 1)."""
        rows, columns = self.shifts.shape
        place = (np.arange(self.size)[:, None] + self.shifts[:, None, :]) % self.size
        neighbors = place + self.size * np.arange(columns)
        table = neighbors.reshape(rows * self.size, columns)
        return BipartiteGraph.from_neighbors(table, columns * self.size)

    def singular_values(self) -> NDArray[np.float64]:
        """All singular values, decreasing: `size` small decompositions instead of a large one.

        The discrete Fourier transform makes the biadjacency matrix block diagonal; block j is
        exp(2 pi i j shifts / size).
        """
        turn = 2j * np.pi / self.size
        parts = [
            np.linalg.svd(np.exp(turn * (j * self.shifts % self.size)), compute_uv=False)
            for j in range(self.size)
        ]
        return np.sort(np.concatenate(parts))[::-1]


def _lift_size(
    num_in: int,
    num_out: int,
    degree: int | None,
    compression: float | None,
    block: tuple[int, int],
) -> tuple[BaseSize, int]:
    size = base_size(num_in, num_out, degree, compression, block)
    lift = size.num_in // size.degree
    if size.num_in % size.degree or size.num_out % lift:
        possible = divisors(math.gcd(size.num_in, size.num_out))
        if degree is None:
            asked, fits = (
                f"`compression` (={compression})",
                nearest(possible, size.num_in / size.degree),
            )
        else:
            degrees = [size.num_in // k * block[1] for k in possible]
            asked, fits = f"`degree` (={degree})", nearest(degrees, degree)
        raise ValueError(
            f"{asked} does not give a lift: the size of the lift, num_in / degree, must divide "
            f"{size.num_in} and {size.num_out} (`num_in` and `num_out` in blocks); the nearest "
            f"that fit are {fits}"
        )
    return size, lift
