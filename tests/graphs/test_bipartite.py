"""The graph contract: CSR in, everything else derived."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnets.graphs import BipartiteGraph, disjoint_union, random_graph


@st.composite
def graphs(draw: st.DrawFn) -> BipartiteGraph:
    block = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    cells = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    base = np.array(cells).reshape(rows, columns)
    return BipartiteGraph.from_mask(np.kron(base, np.ones(block)), block=block)


@given(graphs())
def test_every_form_tells_the_same_graph(graph: BipartiteGraph) -> None:
    mask = graph.mask()
    inputs, outputs = graph.edges().T
    assert graph.num_edges == mask.sum() == len(inputs)
    np.testing.assert_array_equal(np.nonzero(mask), [outputs, inputs])  # the canonical order
    np.testing.assert_array_equal(graph.fan_in, mask.sum(1))
    np.testing.assert_array_equal(graph.fan_out, mask.sum(0))
    np.testing.assert_array_equal(graph.biadjacency().toarray(), mask)
    np.testing.assert_array_equal(graph.transpose().mask(), mask.T)
    assert graph.transpose().transpose() == graph
    assert BipartiteGraph.from_mask(mask, block=graph.block) == graph
    shuffled = np.random.default_rng(0).permutation(graph.edges())
    assert (
        BipartiteGraph.from_edges(shuffled, graph.num_in, graph.num_out, block=graph.block) == graph
    )
    for v in range(graph.num_out):
        np.testing.assert_array_equal(graph.neighbors(v), np.flatnonzero(mask[v]))


@given(graphs())
def test_block_is_only_a_way_to_hold_the_edges(graph: BipartiteGraph) -> None:
    plain = graph.with_block((1, 1))
    np.testing.assert_array_equal(plain.mask(), graph.mask())
    np.testing.assert_array_equal(plain.edges(), graph.edges())
    assert plain.with_block(graph.block) == graph
    kron = np.kron(graph.base.mask(), np.ones(graph.block, dtype=bool))
    np.testing.assert_array_equal(graph.mask(), kron)


def test_networkx_form() -> None:
    nx = pytest.importorskip("networkx")
    graph = random_graph(6, 4, degree=3)
    other = graph.to_networkx()
    assert nx.is_bipartite(other)
    assert other.number_of_edges() == graph.num_edges
    assert other.degree[("out", 2)] == 3


def test_equality_hash_and_fingerprint() -> None:
    one, same, other = (random_graph(8, 8, degree=2, seed=s) for s in (0, 0, 1))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one.fingerprint() != other.fingerprint()
    # The same edges in another block are held otherwise, and say so.
    full = BipartiteGraph.from_mask(np.ones((2, 2)))
    assert full != full.with_block((2, 2))
    assert full.fingerprint() != full.with_block((2, 2)).fingerprint()


def test_frozen() -> None:
    graph = random_graph(8, 8, degree=2)
    with pytest.raises(ValueError, match="read-only"):
        graph.indices[0] = 5
    with pytest.raises(AttributeError):
        graph.num_in = 9  # type: ignore[misc]


def test_keeps_no_reference_to_the_users_arrays() -> None:
    indices = np.array([0, 1])
    graph = BipartiteGraph(2, 2, np.array([0, 1, 2]), indices)
    indices[0] = 1
    assert graph.indices[0] == 0
    assert indices.flags.writeable


def test_degree_is_none_when_it_varies() -> None:
    graph = BipartiteGraph(4, 2, [0, 2, 3], [0, 3, 1])
    assert graph.degree is None
    assert random_graph(8, 8, degree=3).degree == 3
    empty = BipartiteGraph(4, 2, [0, 0, 0], [])
    assert empty.num_edges == 0
    assert empty.compression == float("inf")


def test_disjoint_union() -> None:
    parts = [random_graph(4, 6, degree=2, block=(2, 1), seed=s) for s in range(3)]
    union = disjoint_union(parts)
    expected = np.zeros((18, 12), dtype=bool)
    for i, part in enumerate(parts):
        expected[6 * i : 6 * i + 6, 4 * i : 4 * i + 4] = part.mask()
    np.testing.assert_array_equal(union.mask(), expected)
    with pytest.raises(ValueError, match="must all have the same block"):
        disjoint_union([parts[0], random_graph(4, 6, degree=2)])
    with pytest.raises(ValueError, match="at least one graph"):
        disjoint_union([])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((4, 2, [0, 2, 3], [0, 4, 1]), ValueError, r"`indices` must lie in \[0, 4\), but entry 1"),
        ((4, 2, [0, 2, 3], [0, -1, 1]), ValueError, r"`indices` must lie in \[0, 4\)"),
        ((4, 2, [0, 2, 3], [3, 3, 1]), ValueError, r"duplicate edge \(input 3, output 0\)"),
        ((4, 2, [0, 2, 3], [3, 0, 1]), ValueError, "must increase within each output"),
        ((4, 2, [0, 3], [0, 1, 2]), ValueError, r"`indptr` has shape \(2,\)"),
        ((4, 2, [0, 2, 2], [0, 1, 2]), ValueError, "must run from 0 to the number of `indices`"),
        ((4, 3, [0, 2, 1, 3], [0, 1, 2]), ValueError, "`indptr` must not decrease"),
        ((0, 2, [0, 0, 0], []), ValueError, r"`num_in` \(=0\) must be at least 1"),
        ((4.0, 2, [0, 0, 0], []), TypeError, r"`num_in` \(=4.0\) must be an int"),
        ((4, 2, [0, 1, 2], [0.5, 1.0]), TypeError, "`indices` must hold integers"),
        ((4, 2, [0, 1], [0], (2, 3)), ValueError, r"`num_in` \(=4\) must be a multiple of 3"),
        ((4, 2, [0, 1], [0], (3, 2)), ValueError, r"`num_out` \(=2\) must be a multiple of 3"),
        ((4, 2, [0, 1], [0], 2), TypeError, r"`block` \(=2\) must be a pair"),
    ],
)
def test_bad_csr(arguments: tuple, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        BipartiteGraph(*arguments)


def test_bad_edges_and_masks() -> None:
    with pytest.raises(ValueError, match=r"inputs of `edges` must lie in \[0, 2\)"):
        BipartiteGraph.from_edges([(2, 0)], 2, 2)
    with pytest.raises(ValueError, match=r"outputs of `edges` must lie in \[0, 2\)"):
        BipartiteGraph.from_edges([(0, 2)], 2, 2)
    with pytest.raises(ValueError, match=r"duplicate edge \(input 1, output 0\)"):
        BipartiteGraph.from_edges([(1, 0), (0, 0), (1, 0)], 2, 2)
    with pytest.raises(ValueError, match=r"must have shape \(num_edges, 2\)"):
        BipartiteGraph.from_edges([(1, 0, 3)], 2, 2)
    with pytest.raises(ValueError, match="only zeros and ones"):
        BipartiteGraph.from_mask([[0, 2]])
    with pytest.raises(ValueError, match=r"must have shape \(num_out, num_in\)"):
        BipartiteGraph.from_mask([0, 1])
    with pytest.raises(ValueError, match=r"outputs 0.., inputs 2.. holds 1 of 2 edges"):
        BipartiteGraph.from_mask([[1, 1, 0, 1]], block=(1, 2))
    with pytest.raises(ValueError, match=r"duplicate edge \(input 2, output 1\)"):
        BipartiteGraph.from_neighbors([[0, 1], [2, 2]], num_in=3)
    with pytest.raises(ValueError, match=r"`output` \(=5\) must be in \[0, 2\)"):
        BipartiteGraph.from_mask(np.eye(2)).neighbors(5)
