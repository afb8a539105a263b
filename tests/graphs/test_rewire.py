"""Rewiring keeps degrees and blocks, reports the truth, and improves when asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xnets.graphs import BipartiteGraph, leading_singular_values, make_graph, rewire

GRAPHS = [
    make_graph("random", 24, 16, degree=4),
    make_graph("biregular", 24, 16, degree=6),
    make_graph("grouped", 24, 24, compression=3),
    make_graph("random_fan_out", 16, 16, degree=3),
    make_graph("shuffled", 48, 48, compression=3, block=(4, 2)),
]


@given(
    index=st.integers(0, len(GRAPHS) - 1),
    switches=st.integers(0, 60),
    seed=st.integers(0, 999),
    improve=st.booleans(),
)
@settings(max_examples=40)
def test_degrees_and_blocks_stay(index: int, switches: int, seed: int, improve: bool) -> None:
    graph = GRAPHS[index]
    before = graph.fingerprint()
    rewired, report = rewire(graph, switches=switches, seed=seed, improve=improve)
    assert graph.fingerprint() == before
    np.testing.assert_array_equal(rewired.fan_in, graph.fan_in)
    np.testing.assert_array_equal(rewired.fan_out, graph.fan_out)
    assert rewired.block == graph.block
    assert rewired.num_edges == graph.num_edges
    assert report.made <= report.switches == switches
    # A switch moves two base edges; what several switches moved may come back.
    shared = (graph.base.mask() & rewired.base.mask()).sum()
    assert report.kept == pytest.approx(shared / len(graph.indices))
    assert shared >= len(graph.indices) - 2 * report.made
    old, new = leading_singular_values(graph), leading_singular_values(rewired)
    assert (report.gap_before, report.gap_after) == (old.gap, new.gap)
    assert (report.second_before, report.second_after) == (old.second, new.second)
    if improve:
        assert new.second <= old.second + 1e-9


def test_as_many_switches_as_asked() -> None:
    graph = make_graph("random", 128, 128, degree=8)
    for switches in (0, 1, 7, 5000):
        rewired, report = rewire(graph, switches=switches)
        assert report.made == switches
        assert (rewired == graph) == (switches == 0)
    one, _ = rewire(graph, switches=1)
    assert (one.mask() != graph.mask()).sum() == 4
    assert rewire(graph, switches=50)[0] == rewire(graph, switches=50, seed=0)[0]
    assert rewire(graph, switches=50)[0] != rewire(graph, switches=50, seed=1)[0]


def test_rewiring_connects_groups() -> None:
    grouped = make_graph("grouped", 64, 64, compression=8)
    rewired, report = rewire(grouped, switches=1000)
    assert report.gap_before == 0
    assert report.gap_after > 0.3
    assert "spectral gap 0.0000 before" in str(report)
    assert "1000 of 1000 switches" in str(report)
    assert rewired != grouped


@pytest.mark.parametrize("graph", [make_graph("biregular", 96, 96, degree=4), GRAPHS[0], GRAPHS[2]])
def test_improving_beats_chance(graph: BipartiteGraph) -> None:
    _, report = rewire(graph, switches=200, improve=True)
    assert report.gap_after > report.gap_before + 0.01
    chance = [rewire(graph, switches=200, seed=seed).report.gap_after for seed in range(5)]
    assert report.gap_after > max(chance)


@pytest.mark.parametrize("improve", [False, True])
def test_graphs_that_allow_no_switch(improve: bool) -> None:
    single = BipartiteGraph.from_edges([(1, 0)], 3, 2)
    empty = BipartiteGraph.from_edges(np.zeros((0, 2), dtype=int), 3, 2)
    nested = BipartiteGraph.from_mask(np.tri(4))
    for graph in (make_graph("complete", 5, 4), single, empty, nested):
        rewired, report = rewire(graph, switches=10, improve=improve)
        assert rewired == graph
        assert report.made == 0
        assert report.kept == 1


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"`switches` \(=-1\) must be at least 0"):
        rewire(GRAPHS[0], switches=-1)
    with pytest.raises(TypeError, match=r"`switches` \(=1.5\) must be an int"):
        rewire(GRAPHS[0], switches=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an int or a numpy"):
        rewire(GRAPHS[0], switches=1, seed="0")  # type: ignore[arg-type]
