"""The graph contract: a frozen bipartite graph in CSR form, and everything derived from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xnets.graphs._checks import IntArray, as_integers, check_block, check_range, check_size

if TYPE_CHECKING:
    import networkx
    import scipy.sparse


@dataclass(frozen=True, eq=False, repr=False)
class BipartiteGraph:
    """A bipartite graph G = (U, V, E) from `num_in` inputs U to `num_out` outputs V.

    The graph is the Kronecker product of a *base graph*, held in CSR form by output, with the
    complete graph on a `block` of (b_out, b_in) vertices. Block (1, 1) is any bipartite graph.
    Edges have one canonical order, whatever the block: by output, then by input. Source: section
    3.1 of the paper.

    Args:
        num_in: Number of inputs |U|.
        num_out: Number of outputs |V|.
        indptr: Row pointers of the base graph, shape (num_out / b_out + 1,).
        indices: Base inputs of each base output, shape (base edges,), increasing within a row.
        block: (b_out, b_in), how many outputs and inputs one base edge joins completely.

    Attributes:
        drawn_from: (family, seed) if `make_graph` drew the graph from an int, else None; it takes
            no part in comparisons.

    Raises:
        ValueError: If the block does not divide the sizes, or the CSR arrays are no simple graph.

    Examples:
        >>> graph = BipartiteGraph(num_in=4, num_out=2, indptr=[0, 2, 3], indices=[0, 3, 1])
        >>> graph
        BipartiteGraph(num_in=4, num_out=2, num_edges=3, degree=1..2)
        >>> graph.mask().astype(int)
        array([[1, 0, 0, 1],
               [0, 1, 0, 0]])
    """

    num_in: int
    num_out: int
    indptr: IntArray
    indices: IntArray
    block: tuple[int, int] = (1, 1)
    drawn_from: ClassVar[tuple[str, int] | None] = None

    def __post_init__(self) -> None:
        """Normalise the arrays, check them, and make them read-only."""
        object.__setattr__(self, "num_in", check_size("num_in", self.num_in))
        object.__setattr__(self, "num_out", check_size("num_out", self.num_out))
        object.__setattr__(self, "block", check_block(self.block, self.num_in, self.num_out))
        for name in ("indptr", "indices"):
            array = as_integers(name, getattr(self, name)).copy()
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        self._check_csr()

    def _check_csr(self) -> None:
        rows, columns = self.base_shape
        if self.indptr.shape != (rows + 1,):
            raise ValueError(
                f"`indptr` has shape {self.indptr.shape}, "
                f"but {rows} base outputs need shape ({rows + 1},)"
            )
        if self.indices.ndim != 1:
            raise ValueError(f"`indices` must be one-dimensional, got shape {self.indices.shape}")
        if self.indptr[0] != 0 or self.indptr[-1] != len(self.indices):
            raise ValueError(
                f"`indptr` must run from 0 to the number of `indices` (={len(self.indices)}), "
                f"but runs from {self.indptr[0]} to {self.indptr[-1]}"
            )
        if np.any(np.diff(self.indptr) < 0):
            raise ValueError("`indptr` must not decrease")
        check_range("indices", self.indices, columns)
        row_of_edge = np.repeat(np.arange(rows), np.diff(self.indptr))
        step = np.diff(self.indices)
        within_row = np.diff(row_of_edge) == 0
        if np.any(within_row & (step == 0)):
            edge = int(np.flatnonzero(within_row & (step == 0))[0])
            raise ValueError(
                f"duplicate edge (input {self.indices[edge]}, output {row_of_edge[edge]}): "
                "list every edge once"
            )
        if np.any(within_row & (step < 0)):
            raise ValueError(
                "`indices` must increase within each output; "
                "BipartiteGraph.from_edges sorts them for you"
            )

    # --- other ways in ---------------------------------------------------------------------------

    @classmethod
    def from_edges(
        cls,
        edges: ArrayLike | Iterable[tuple[int, int]],
        num_in: int,
        num_out: int,
        *,
        block: tuple[int, int] = (1, 1),
    ) -> BipartiteGraph:
        """Build a graph from a list of (input, output) pairs, in any order.

        Args:
            edges: The edges, shape (num_edges, 2): input first, output second.
            num_in: Number of inputs.
            num_out: Number of outputs.
            block: (b_out, b_in); every block of the graph must be complete or empty.

        Returns:
            The graph with these edges.

        Raises:
            ValueError: If an edge is out of range or listed twice, or a block is only partly
            filled.

        Examples:
            >>> BipartiteGraph.from_edges([(3, 0), (0, 0), (1, 1)], num_in=4, num_out=2)
            BipartiteGraph(num_in=4, num_out=2, num_edges=3, degree=1..2)
        """
        num_in, num_out = check_size("num_in", num_in), check_size("num_out", num_out)
        listed = edges if isinstance(edges, np.ndarray) else list(cast("Iterable[Any]", edges))
        pairs = as_integers("edges", listed)
        if pairs.size == 0:
            pairs = pairs.reshape(0, 2)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"`edges` must have shape (num_edges, 2), got {pairs.shape}")
        check_range("inputs of `edges`", pairs[:, 0], num_in)
        check_range("outputs of `edges`", pairs[:, 1], num_out)
        pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
        indptr = np.concatenate(([0], np.cumsum(np.bincount(pairs[:, 1], minlength=num_out))))
        return cls(num_in, num_out, indptr, pairs[:, 0]).with_block(block)

    @classmethod
    def from_mask(cls, mask: ArrayLike, *, block: tuple[int, int] = (1, 1)) -> BipartiteGraph:
        """Build a graph from a 0/1 matrix, laid out as the weight of a linear layer.

        Args:
            mask: Shape (num_out, num_in); 1 (or True) where there is an edge.
            block: (b_out, b_in); every block of the mask must be all ones or all zeros.

        Returns:
            The graph whose biadjacency matrix is `mask`.

        Raises:
            ValueError: If the mask is not a 0/1 matrix or a block is only partly filled.

        Examples:
            >>> BipartiteGraph.from_mask([[1, 1, 0, 0], [1, 1, 0, 0]], block=(2, 2))
            BipartiteGraph(num_in=4, num_out=2, num_edges=4, degree=2, block=(2, 2))
        """
        matrix = np.asarray(mask)
        if matrix.ndim != 2:
            raise ValueError(f"`mask` must have shape (num_out, num_in), got {matrix.shape}")
        if not np.all((matrix == 0) | (matrix == 1)):
            raise ValueError("`mask` must hold only zeros and ones")
        outputs, inputs = np.nonzero(matrix)
        num_out, num_in = matrix.shape
        edges = np.stack([inputs, outputs], axis=1)
        return cls.from_edges(edges, num_in, num_out, block=block)

    @classmethod
    def from_neighbors(
        cls, neighbors: ArrayLike, num_in: int, *, block: tuple[int, int] = (1, 1)
    ) -> BipartiteGraph:
        """Build a graph of constant degree from each base output's list of base inputs.

        Args:
            neighbors: Shape (num_out / b_out, base degree), in any order within a row.
            num_in: Number of inputs of the whole graph.
            block: (b_out, b_in).

        Returns:
            The graph with num_out = len(neighbors) * b_out.

        Raises:
            ValueError: If a neighbour is out of range or listed twice in a row.

        Examples:
            >>> BipartiteGraph.from_neighbors([[2, 0], [1, 2]], num_in=3).indices
            array([0, 2, 1, 2])
        """
        table = as_integers("neighbors", neighbors)
        if table.ndim != 2:
            raise ValueError(
                f"`neighbors` must have shape (base outputs, degree), got {table.shape}"
            )
        table = np.sort(table, axis=1)
        rows, degree = table.shape
        indptr = np.arange(rows + 1) * degree
        return cls(num_in, rows * block[0], indptr, table.reshape(-1), block)

    # --- derived: sizes and degrees --------------------------------------------------------------

    @property
    def base_shape(self) -> tuple[int, int]:
        """(base outputs, base inputs): the sizes divided by the block."""
        return self.num_out // self.block[0], self.num_in // self.block[1]

    @property
    def num_edges(self) -> int:
        """Number of edges M of the whole graph."""
        return len(self.indices) * self.block[0] * self.block[1]

    @property
    def density(self) -> float:
        """Edges divided by those of the complete graph."""
        return self.num_edges / (self.num_in * self.num_out)

    @property
    def compression(self) -> float:
        """How many times fewer edges than the complete graph; infinite without edges."""
        return 1 / self.density if self.num_edges else float("inf")

    @cached_property
    def fan_in(self) -> IntArray:
        """Inputs of each output, shape (num_out,)."""
        return _frozen(np.repeat(np.diff(self.indptr) * self.block[1], self.block[0]))

    @cached_property
    def fan_out(self) -> IntArray:
        """Outputs of each input, shape (num_in,)."""
        base = np.bincount(self.indices, minlength=self.base_shape[1])
        return _frozen(np.repeat(base * self.block[0], self.block[1]).astype(np.int64))

    @property
    def degree(self) -> int | None:
        """The fan-in D if every output has the same, else None."""
        low, high = int(self.fan_in.min()), int(self.fan_in.max())
        return low if low == high else None

    @property
    def is_biregular(self) -> bool:
        """Whether all outputs have one fan-in, and all fan-outs are equal within 1 base edge."""
        spread = int(self.fan_out.max() - self.fan_out.min())
        return self.degree is not None and spread <= self.block[0]

    # --- derived: other forms --------------------------------------------------------------------

    @cached_property
    def base(self) -> BipartiteGraph:
        """The base graph, of block (1, 1)."""
        rows, columns = self.base_shape
        return BipartiteGraph(columns, rows, self.indptr, self.indices)

    def with_block(self, block: tuple[int, int]) -> BipartiteGraph:
        """The same edges, held with another `block`.

        Args:
            block: (b_out, b_in); every block of the graph must be complete or empty.

        Returns:
            A graph with the same edges and this block.

        Raises:
            ValueError: If the block does not divide the sizes or is only partly filled somewhere.

        Examples:
            >>> graph = BipartiteGraph.from_mask([[1, 0], [1, 0]])
            >>> graph.with_block((2, 1)).indices
            array([0])
        """
        block = check_block(block, self.num_in, self.num_out)
        if block == self.block:
            return self
        inputs, outputs = self.edges().T
        columns = self.num_in // block[1]
        cells, filled = np.unique(
            (outputs // block[0]) * columns + inputs // block[1], return_counts=True
        )
        partial = np.flatnonzero(filled != block[0] * block[1])
        if len(partial):
            row, column = divmod(int(cells[partial[0]]), columns)
            raise ValueError(
                f"`block` (={block}) does not fit: the block at outputs {row * block[0]}.., inputs "
                f"{column * block[1]}.. holds {filled[partial[0]]} of {block[0] * block[1]} edges; "
                "every block must be complete or empty"
            )
        rows = self.num_out // block[0]
        counts = np.bincount(cells // columns, minlength=rows)
        indptr = np.concatenate(([0], np.cumsum(counts)))
        return BipartiteGraph(self.num_in, self.num_out, indptr, cells % columns, block)

    def edges(self) -> IntArray:
        """All edges in canonical order as (input, output) pairs, shape (num_edges, 2)."""
        b_out, b_in = self.block
        base_degree = np.repeat(np.diff(self.indptr), b_out)
        outputs = np.repeat(np.arange(self.num_out), base_degree * b_in)
        # Output v repeats its base row: walk positions within the row, b_in inputs a step.
        row_start = np.concatenate(([0], np.cumsum(base_degree * b_in)))[outputs]
        position = np.arange(self.num_edges) - row_start
        base_edge = self.indptr[outputs // b_out] + position // b_in
        inputs = self.indices[base_edge] * b_in + position % b_in
        return np.stack([inputs, outputs], axis=1)

    def neighbors(self, output: int) -> IntArray:
        """The inputs joined to one output, increasing."""
        if not 0 <= output < self.num_out:
            raise ValueError(f"`output` (={output}) must be in [0, {self.num_out})")
        row = output // self.block[0]
        base = self.indices[self.indptr[row] : self.indptr[row + 1]]
        return (base[:, None] * self.block[1] + np.arange(self.block[1])).reshape(-1)

    def mask(self) -> NDArray[np.bool_]:
        """The biadjacency matrix as a dense boolean array, shape (num_out, num_in)."""
        mask = np.zeros((self.num_out, self.num_in), dtype=bool)
        inputs, outputs = self.edges().T
        mask[outputs, inputs] = True
        return mask

    def biadjacency(self) -> scipy.sparse.csr_array:
        """The biadjacency matrix in scipy's CSR form, shape (num_out, num_in), float64."""
        from scipy.sparse import csr_array

        indptr = np.concatenate(([0], np.cumsum(self.fan_in)))
        data = np.ones(self.num_edges)
        return csr_array((data, self.edges()[:, 0], indptr), shape=(self.num_out, self.num_in))

    def transpose(self) -> BipartiteGraph:
        """The same graph with inputs and outputs exchanged."""
        rows, columns = self.base_shape
        row_of_edge = np.repeat(np.arange(rows), np.diff(self.indptr))
        order = np.argsort(self.indices, kind="stable")
        counts = np.bincount(self.indices, minlength=columns)
        indptr = np.concatenate(([0], np.cumsum(counts)))
        block = (self.block[1], self.block[0])
        return BipartiteGraph(self.num_out, self.num_in, indptr, row_of_edge[order], block)

    def to_networkx(self) -> networkx.Graph:
        """A networkx graph on the nodes ("in", u) and ("out", v), with attribute `bipartite`."""
        import networkx

        graph = networkx.Graph()
        graph.add_nodes_from((("in", u) for u in range(self.num_in)), bipartite=0)
        graph.add_nodes_from((("out", v) for v in range(self.num_out)), bipartite=1)
        graph.add_edges_from((("in", int(u)), ("out", int(v))) for u, v in self.edges())
        return graph

    def fingerprint(self) -> str:
        """A SHA-256 of sizes, block and edges: equal exactly when the graphs are equal."""
        digest = hashlib.sha256()
        header = np.array([self.num_in, self.num_out, *self.block], dtype="<i8")
        for array in (header, self.indptr, self.indices):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    # --- Python's own ----------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built anew, so that they are checked and read-only too."""
        return (type(self), (self.num_in, self.num_out, self.indptr, self.indices, self.block))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BipartiteGraph):
            return NotImplemented
        return (
            (self.num_in, self.num_out, self.block) == (other.num_in, other.num_out, other.block)
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        degree = self.degree
        shown = f"{self.fan_in.min()}..{self.fan_in.max()}" if degree is None else str(degree)
        block = "" if self.block == (1, 1) else f", block={self.block}"
        return (
            f"BipartiteGraph(num_in={self.num_in}, num_out={self.num_out}, "
            f"num_edges={self.num_edges}, degree={shown}{block})"
        )


def _frozen(array: IntArray) -> IntArray:
    array.setflags(write=False)
    return array
