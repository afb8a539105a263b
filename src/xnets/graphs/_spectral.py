"""Singular values of the biadjacency matrix: all of them, or the two that matter.

The second singular value of a bipartite graph is what the second eigenvalue is of other graphs.
(The eigenvalues of the whole graph are the singular values and their negatives, so that a checker
for other graphs finds -D and calls no bipartite graph an expander.) Blocks cost nothing: the
singular values of A (x) J, with J the all-ones matrix of (b_out, b_in), are those of A times
sqrt(b_out b_in), and 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._seed import Stream

if TYPE_CHECKING:
    import scipy.sparse

FloatArray = NDArray[np.float64]

DENSE_LIMIT = 1024  # base vertices on the smaller side up to which all singular values are computed
_RELATIVE_TOLERANCE = 1e-9
_LANCZOS_RESTARTS = 100  # of 48 vectors; an expander needs few


@dataclass(frozen=True)
class Leading:
    """The two largest singular values, and the norm of the deviation from the mean.

    Args:
        first: The largest singular value.
        second: The next one, counted with multiplicity; 0 if there is no other.
        deviation: The largest singular value of A - c J, where c is the density: the constant of
            the mixing lemma, equal to `second` if the graph is biregular.
        error: A bound on the distance of each number from a true singular value of its matrix;
            with "iterative" of the residual, with "dense" by LAPACK's backward stability.
        method: "dense" (all singular values were computed) or "iterative" (Lanczos).
    """

    first: float
    second: float
    deviation: float
    error: float
    method: str

    @property
    def gap(self) -> float:
        """The spectral gap 1 - second / first, 0 for a graph without edges."""
        difference = self.first - self.second
        return difference / self.first if difference > 2 * self.error else 0.0  # both may err


def singular_values(graph: BipartiteGraph) -> FloatArray:
    """Compute all singular values of the biadjacency matrix, by a dense decomposition.

    Args:
        graph: The graph; the cost is cubic in the smaller side of its base.

    Returns:
        All min(num_in, num_out) singular values, decreasing.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> singular_values(make_graph("complete", 6, 4, block=(2, 2))).round(6)
        array([4.898979, 0.      , 0.      , 0.      ])
    """
    values = _dense_values(graph.base.biadjacency().toarray()) * _scale(graph)
    padded = np.zeros(min(graph.num_in, graph.num_out))
    padded[: len(values)] = values
    return padded


def leading_singular_values(graph: BipartiteGraph, *, exact: bool | None = None) -> Leading:
    """Compute the two largest singular values and the mixing constant.

    Small graphs are decomposed densely. Large ones are split into connected components, whose
    largest singular values are simple (Perron, Frobenius), and go through Lanczos iterations from
    a seeded start; of a biregular component the largest is known and projected out. The error
    bound is the residual's. Lanczos values never exceed the true ones, and miss the largest with
    probability 0 over the start.

    Args:
        graph: The graph.
        exact: True for the dense decomposition whatever the size, False for the iteration; by
            default, dense up to 1024 base vertices on the smaller side.

    Returns:
        The values, with an error bound.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> leading = leading_singular_values(make_graph("grouped", 64, 64, compression=4))
        >>> round(leading.first, 9), round(leading.second, 9), leading.gap
        (16.0, 16.0, 0.0)
    """
    matrix = graph.base.biadjacency()
    if exact is None:
        exact = min(matrix.shape) <= DENSE_LIMIT
    found = _dense_leading(matrix) if exact else _iterative_leading(matrix)
    scale = _scale(graph)
    return Leading(
        first=found.first * scale,
        second=found.second * scale,
        deviation=found.deviation * scale,
        error=found.error * scale,
        method=found.method,
    )


def ramanujan_bound(fan_in: float, fan_out: float) -> float:
    """The biregular Ramanujan bound sqrt(fan_in - 1) + sqrt(fan_out - 1).

    No infinite family of connected graphs of these degrees stays below any smaller number (Feng,
    Li, "Spectra of hypergraphs and applications", 1996), which makes the bound the best possible.

    Args:
        fan_in: The degree of every output, at least 1.
        fan_out: The degree of every input, at least 1.

    Returns:
        What the second singular value of a Ramanujan graph does not exceed.

    Examples:
        >>> ramanujan_bound(5, 10)
        5.0
    """
    return math.sqrt(fan_in - 1) + math.sqrt(fan_out - 1)


def is_within(value: float, bound: float) -> bool:
    """Whether value <= bound, but for rounding: many explicit graphs meet their bound exactly."""
    return value <= bound * (1 + _RELATIVE_TOLERANCE) + 1e-12


def is_exactly_biregular(graph: BipartiteGraph) -> bool:
    """Whether all fan-ins are one number, all fan-outs are one number, and there are edges.

    Stricter than `BipartiteGraph.is_biregular`, which lets fan-outs differ by 1.
    """
    return (
        len(graph.indices) > 0
        and graph.degree is not None
        and int(graph.fan_out.min()) == int(graph.fan_out.max())
    )


def _scale(graph: BipartiteGraph) -> float:
    return math.sqrt(graph.block[0] * graph.block[1])


def estimated_values(
    graph: BipartiteGraph, *, probes: int = 8, steps: int = 96
) -> tuple[FloatArray, FloatArray]:
    """Estimate how the singular values of a large base graph are distributed.

    Stochastic Lanczos quadrature (Golub, Meurant, 1994; Lin, Saad, Yang, "Approximating spectral
    densities of large matrices", 2016), times the square root of the block's size.

    Args:
        graph: The graph.
        probes: The number of random start vectors.
        steps: Lanczos steps from each.

    Returns:
        Singular values and how many of the base graph's each stands for.
    """
    matrix = graph.base.biadjacency()
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T.tocsr()
    size = matrix.shape[0]
    transposed, steps = matrix.T.tocsr(), min(steps, size)
    stream = Stream(0)
    values, weights = [], []
    for _ in range(probes):
        basis = np.zeros((steps, size))
        vector = _uniform(stream, size)
        diagonal, beside = np.zeros(steps), np.zeros(steps)
        for step in range(steps):
            basis[step] = vector / np.linalg.norm(vector)
            vector = matrix @ (transposed @ basis[step])
            diagonal[step] = vector @ basis[step]
            # Twice is enough (Kahan, Parlett): rounding would bring found directions back.
            for _ in range(2):
                vector -= basis[: step + 1].T @ (basis[: step + 1] @ vector)
            beside[step] = np.linalg.norm(vector)
            if beside[step] <= _rounding(matrix.shape, float(diagonal[0])):
                diagonal, beside = diagonal[: step + 1], beside[: step + 1]
                break
        tridiagonal = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
        eigenvalues, vectors = np.linalg.eigh(tridiagonal)
        values.append(np.sqrt(np.maximum(eigenvalues, 0)))
        weights.append(vectors[0] ** 2 * (size / probes))
    return np.concatenate(values) * _scale(graph), np.concatenate(weights)


def second_singular_vectors(graph: BipartiteGraph) -> tuple[FloatArray, FloatArray]:
    """Compute the vectors of the second singular value of the base graph.

    Args:
        graph: The graph; if the value is a multiple one, some vectors of it are returned.

    Returns:
        The vectors of the base outputs and of the base inputs.

    Examples:
        >>> import numpy as np
        >>> from xnets.graphs import make_graph
        >>> graph = make_graph("biregular", 64, 32, degree=8)
        >>> left, right = second_singular_vectors(graph)
        >>> second = leading_singular_values(graph).second
        >>> bool(np.allclose(graph.biadjacency() @ right, second * left))
        True
    """
    matrix = graph.base.biadjacency()
    rows, columns = matrix.shape
    regular = _regular(matrix)
    uniform = matrix.nnz / (rows * columns) if regular else 0.0
    place = 0 if regular else 1
    if min(rows, columns) <= DENSE_LIMIT // 4:
        left, _, right = np.linalg.svd(matrix.toarray() - uniform, full_matrices=False)
        if place < len(right):
            return left[:, place], right[place]
        return np.zeros(rows), np.zeros(columns)
    found = _lanczos(matrix, place + 1, uniform=uniform)[place]
    return found.left, found.right


# --- dense ---------------------------------------------------------------------------------------


def _dense_values(matrix: FloatArray) -> FloatArray:
    values = np.linalg.svd(matrix, compute_uv=False).astype(np.float64)
    values[values <= _rounding(matrix.shape, float(values[0]))] = 0
    return values


def _rounding(shape: tuple[int, ...], first: float) -> float:
    return float(max(shape) * np.finfo(np.float64).eps * first)


def _dense_error(shape: tuple[int, ...], first: float) -> float:
    """A bound on the error of a value computed densely.

    LAPACK's values are exact for a matrix within p eps first of the given one (LAPACK Users' Guide,
    section 4.9), so that each errs by as much (Weyl); p grows modestly with the size, seen to stay
    far below the larger side. Twice that covers small values taken for 0; as much again, that the
    entries of the centred matrix and the factor of the blocks are rounded.
    """
    return 4 * _rounding(shape, first)


def _dense_leading(matrix: scipy.sparse.csr_array) -> Leading:
    dense = matrix.toarray()
    values = _dense_values(dense)
    first, second = float(values[0]), float(values[1]) if len(values) > 1 else 0.0
    deviation = second
    if not _regular(matrix):
        deviation = float(np.linalg.norm(dense - dense.mean(), ord=2))
    return Leading(first, second, deviation, _dense_error(matrix.shape, first), "dense")


def _regular(matrix: scipy.sparse.csr_array) -> bool:
    rows, columns = matrix.sum(axis=1), matrix.sum(axis=0)
    return bool(np.all(rows == rows[0]) and np.all(columns == columns[0]))


# --- iterative -----------------------------------------------------------------------------------


def _iterative_leading(matrix: scipy.sparse.csr_array) -> Leading:
    if matrix.nnz == 0:
        return Leading(0.0, 0.0, 0.0, 0.0, "iterative")
    values, error = [0.0, 0.0], 0.0
    for component in split_components(matrix):
        first, second, off = _component_leading(component)
        values += [first, second]
        error = max(error, off)
    first, second = sorted(values, reverse=True)[:2]
    deviation = second
    if not _regular(matrix):
        top = _lanczos(matrix, 1, uniform=matrix.nnz / math.prod(matrix.shape))[0]
        deviation, error = top.value, max(error, top.error)
    return Leading(first, second, deviation, error, "iterative")


def join_sides(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The adjacency matrix of the whole graph, outputs first, of its biadjacency matrix."""
    from scipy.sparse import block_array

    return block_array([[None, matrix], [matrix.T, None]], format="csr")


def split_components(matrix: scipy.sparse.csr_array) -> list[scipy.sparse.csr_array]:
    """The biadjacency matrix of each connected component that has an edge."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    out, into = matrix.tocoo().coords
    count, label = connected_components(join_sides(matrix), directed=False)
    of_edge = label[out]
    if len(np.unique(of_edge)) == 1 and count == 1:
        return [matrix]
    order = np.argsort(of_edge, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(of_edge[order])) + 1)
    components = []
    for part in parts:
        kept_out, new_out = np.unique(out[part], return_inverse=True)
        kept_in, new_in = np.unique(into[part], return_inverse=True)
        shape = (len(kept_out), len(kept_in))
        components.append(csr_array((np.ones(len(part)), (new_out, new_in)), shape=shape))
    return components


def _component_leading(matrix: scipy.sparse.csr_array) -> tuple[float, float, float]:
    """(first, second, error) of a connected graph."""
    rows, columns = matrix.shape
    if matrix.nnz == rows * columns:
        first = math.sqrt(rows * columns)
        return first, 0.0, _dense_error(matrix.shape, first)
    if min(rows, columns) <= DENSE_LIMIT // 4:
        found = _dense_values(matrix.toarray())
        return float(found[0]), float(found[1]), _dense_error(matrix.shape, float(found[0]))
    if _regular(matrix):
        first = matrix.nnz / math.sqrt(rows * columns)
        top = _lanczos(matrix, 1, uniform=matrix.nnz / (rows * columns))[0]
        return first, top.value, top.error
    one, two = _lanczos(matrix, 2)
    return one.value, two.value, max(one.error, two.error)


class _Triple(NamedTuple):
    """A singular value with its error bound and vectors, of the outputs and of the inputs."""

    value: float
    error: float
    left: FloatArray
    right: FloatArray


def _lanczos(matrix: scipy.sparse.csr_array, count: int, *, uniform: float = 0.0) -> list[_Triple]:
    """The `count` largest singular values of A - uniform * J."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    if matrix.shape[0] > matrix.shape[1]:
        found = _lanczos(matrix.T.tocsr(), count, uniform=uniform)
        return [_Triple(t.value, t.error, left=t.right, right=t.left) for t in found]
    size = matrix.shape[0]
    if size <= 2 * count:  # too small for the iteration
        left, values, right = np.linalg.svd(matrix.toarray() - uniform, full_matrices=False)
        error = _dense_error(matrix.shape, float(values[0]))
        return [_Triple(float(values[i]), error, left[:, i], right[i]) for i in range(count)]
    transposed = matrix.T.tocsr()

    def down(vector: FloatArray) -> FloatArray:
        image: FloatArray = transposed @ vector - uniform * vector.sum()
        return image

    def gram(vector: FloatArray) -> FloatArray:
        inner = down(vector)
        image: FloatArray = matrix @ inner - uniform * inner.sum()
        return image

    operator: Any = LinearOperator((size, size), matvec=gram, dtype=np.float64)
    start = _uniform(Stream(0), size)
    options: Any = {"k": count, "which": "LA", "v0": start}
    try:
        eigenvalues, vectors = eigsh(
            operator, ncv=min(size, 48), tol=1e-11, maxiter=_LANCZOS_RESTARTS, **options
        )
    except ArpackNoConvergence:  # next to no gap, as in a long chain: less exact, in less time
        eigenvalues, vectors = eigsh(operator, ncv=min(size, 128), tol=1e-6, **options)
    # The residual is rounded, too, by no more than this: the norm of a product of absolute values
    # is at most the root of the largest row sum times the largest column sum.
    rows, columns = matrix.sum(axis=1).max(), matrix.sum(axis=0).max()
    off = 2 * _rounding(matrix.shape, float(rows * columns))
    found = []
    for eigenvalue, vector in zip(eigenvalues[::-1], vectors.T[::-1], strict=True):
        residual = float(np.linalg.norm(gram(vector) - eigenvalue * vector)) + off
        value = math.sqrt(max(float(eigenvalue), 0.0))
        # Some eigenvalue of the Gram matrix is within the residual of this one.
        error = min(residual / value if value else math.inf, math.sqrt(residual))
        error += _rounding(matrix.shape, value)
        found.append(_Triple(value, error, vector, down(vector) / (value or 1.0)))
    return found


def _uniform(stream: Stream, size: int) -> FloatArray:
    """Numbers in [-1/2, 1/2): a start for Lanczos."""
    return (stream.words(size) >> np.uint64(11)).astype(np.float64) / 2.0**53 - 0.5
