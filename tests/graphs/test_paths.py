"""Components, diameter and girth against networkx, closed forms, and bounds beyond the limits."""

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xnets.graphs._paths as paths_module
from xnets.graphs import BipartiteGraph, count_components, diameter, girth, make_graph
from xnets.graphs._paths import Range


def ring(size: int) -> BipartiteGraph:
    return BipartiteGraph.from_neighbors([[i, (i + 1) % size] for i in range(size)], size)


@st.composite
def graphs(draw: st.DrawFn) -> BipartiteGraph:
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    density = draw(st.sampled_from([0.1, 0.2, 0.4, 0.8]))
    mask = np.random.default_rng(draw(st.integers(0, 10**6))).random((rows, columns)) < density
    base = BipartiteGraph.from_mask(mask)
    block = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return BipartiteGraph(columns * block[1], rows * block[0], base.indptr, base.indices, block)


@given(graph=graphs())
def test_against_networkx(graph: BipartiteGraph) -> None:
    reference = graph.to_networkx()
    assert count_components(graph) == networkx.number_connected_components(reference)
    longest, shortest = diameter(graph), girth(graph)
    if networkx.is_connected(reference):
        assert longest == (networkx.diameter(reference),) * 2
    else:
        assert longest is None
    expected = networkx.girth(reference)
    assert shortest == (None if expected == float("inf") else (expected, expected))


@pytest.mark.parametrize("size", [2, 3, 7, 600])
def test_rings(size: int) -> None:
    # More than 512 vertices a side: several words, several sets of starts.
    if size == 2:
        assert girth(ring(2)) == (4, 4)
    assert diameter(ring(size)) == (size, size)
    assert girth(ring(size)) == (2 * size, 2 * size)


def test_paths_and_stars() -> None:
    path = BipartiteGraph.from_edges([(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2)], 4, 3)
    assert diameter(path) == (6, 6)  # between two inputs
    assert diameter(path.transpose()) == (6, 6)  # between two outputs
    assert girth(path) is None
    assert diameter(make_graph("complete", 5, 1)) == (2, 2)
    assert diameter(make_graph("complete", 1, 5)) == (2, 2)
    assert diameter(make_graph("complete", 1, 1)) == (1, 1)


def test_only_the_shortest_cycle_counts() -> None:
    # A ring of 40 with one chord that closes a cycle of 6, at every place.
    for place in range(20):
        edges = [(i, i) for i in range(20)] + [((i + 1) % 20, i) for i in range(20)]
        edges.append(((place + 3) % 20, place))
        assert girth(BipartiteGraph.from_edges(edges, 20, 20)) == (6, 6)


@pytest.mark.parametrize(
    "graph",
    [make_graph("biregular", 700, 700, degree=3), make_graph("lps", 168, 168, degree=6), ring(40)],
)
@pytest.mark.parametrize("limit", ["_DIAMETER_WORK", "_DIAMETER_STEPS"])
def test_bounds_beyond_the_limit_of_work(
    graph: BipartiteGraph, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest, shortest = diameter(graph), girth(graph)
    assert longest is not None
    assert shortest is not None
    assert longest.low == longest.high
    monkeypatch.setattr(paths_module, limit, 0)
    monkeypatch.setattr(paths_module, "_GIRTH_WORK", 1)
    monkeypatch.setattr(paths_module, "_STARTS", 5)
    bounded = diameter(graph)
    assert bounded is not None
    assert bounded.high is not None
    assert bounded.low <= longest.low <= bounded.high
    assert bounded.low < bounded.high
    some = girth(graph)
    assert some is not None
    assert some.low in (4, shortest.low)  # of rings it is known at once
    assert some.high is None or some.high >= shortest.low


def never(*_: object) -> None:
    raise AssertionError("too slow for graphs of this size")


def test_rings_and_chains_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 6000
    chain = BipartiteGraph.from_edges([(j, i) for i in range(size) for j in (i, i + 1)], 6001, size)
    monkeypatch.setattr(paths_module, "_eccentricities", never)
    monkeypatch.setattr(paths_module, "_shortest_cycle", never)
    assert diameter(ring(size)) == (size, 2 * size)
    assert girth(ring(size)) == (2 * size, 2 * size)
    assert diameter(chain) == (2 * size, 2 * size)
    assert girth(chain) is None
    two_rings = np.kron(np.eye(2, dtype=int), ring(5).mask())
    two_rings[5:, 5:] = 0
    two_rings[5:8, 5:8] = ring(3).mask()
    assert girth(BipartiteGraph.from_mask(two_rings)) == (6, 6)


def test_ranges_print() -> None:
    assert [str(Range(4, 4)), str(Range(4, 6)), str(Range(4, None))] == [
        "4",
        "4 to 6",
        "at least 4",
    ]
