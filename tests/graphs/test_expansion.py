"""Expansion and mixing: the bounds hold for every set, and the search finds the worst."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xnets.graphs._expansion as expansion_module
from xnets.graphs import (
    BipartiteGraph,
    exact_expansion,
    expansion_bound,
    leading_singular_values,
    make_graph,
    mixing_bound,
    sample_mixing,
)


def worst_neighbors(graph: BipartiteGraph, size: int) -> int:
    mask = graph.mask()
    return min(
        int(mask[list(chosen)].any(axis=0).sum())
        for chosen in itertools.combinations(range(graph.num_out), size)
    )


GRAPHS = [
    make_graph("biregular", 12, 8, degree=3),
    make_graph("biregular", 9, 9, degree=4),
    make_graph("random", 12, 8, degree=2),
    make_graph("random", 6, 12, degree=3),
    make_graph("random_fan_out", 10, 10, degree=2),
    make_graph("grouped", 8, 8, degree=2),
    make_graph("array_code", 6, 9),
    make_graph("random", 12, 12, degree=4, block=(2, 2)),
    make_graph("biregular", 12, 12, degree=3, block=(3, 1)),
    make_graph("complete", 5, 4),
]


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_every_set_of_outputs(graph: BipartiteGraph) -> None:
    constant = leading_singular_values(graph).deviation
    exact = exact_expansion(graph)
    assert len(exact) == graph.num_out
    for size in range(1, graph.num_out + 1):
        worst = worst_neighbors(graph, size)
        assert exact[size - 1] == worst, size
        assert expansion_bound(graph, constant, size) <= worst, size


def test_tanners_bound_is_sharp_somewhere() -> None:
    # K minus a matching: any two outputs see everything, and the bound knows.
    graph = BipartiteGraph.from_mask(1 - np.eye(6))
    constant = leading_singular_values(graph).deviation
    assert expansion_bound(graph, constant, 2) == 6
    # The groups of a grouped layer see their own inputs only, and the bound is exact.
    grouped = make_graph("grouped", 32, 32, degree=8)
    constant = leading_singular_values(grouped).deviation
    assert [expansion_bound(grouped, constant, size) for size in (8, 16, 32)] == [8, 16, 32]
    # A good expander is proved to see far more than the groups do.
    good = make_graph("array_code", 121, 121)
    constant = leading_singular_values(good).deviation
    assert expansion_bound(good, constant, 11) > 60


def test_the_search_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph("biregular", 40, 40, degree=4, block=(2, 1))
    full = exact_expansion(graph)
    assert len(full) > 6
    monkeypatch.setattr(expansion_module, "_SUBSETS_WORK", 1000)
    assert exact_expansion(graph) == full[:4]  # pairs of base outputs only
    monkeypatch.setattr(expansion_module, "_MASK_LIMIT", 1)
    assert exact_expansion(graph) == [4, 4]


@given(
    index=st.integers(0, len(GRAPHS) - 1),
    inputs=st.sets(st.integers(0, 99), min_size=1),
    outputs=st.sets(st.integers(0, 99), min_size=1),
)
def test_theorem_2_with_its_constant(index: int, inputs: set[int], outputs: set[int]) -> None:
    graph = GRAPHS[index]
    chosen_in = sorted({i % graph.num_in for i in inputs})
    chosen_out = sorted({o % graph.num_out for o in outputs})
    edges = int(graph.mask()[np.ix_(chosen_out, chosen_in)].sum())
    expected = len(chosen_in) * len(chosen_out) * graph.density
    constant = leading_singular_values(graph).deviation
    bound = mixing_bound(graph, constant, len(chosen_in), len(chosen_out))
    assert abs(edges - expected) <= bound + 1e-9


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_samples_stay_below_the_provable_constant(graph: BipartiteGraph) -> None:
    constant = leading_singular_values(graph).deviation
    mixing = sample_mixing(graph, constant, samples=32)
    assert mixing.sampled <= constant + 1e-9
    assert mixing.samples == 32
    assert mixing == sample_mixing(graph, constant, samples=32)
    if graph.density < 1:
        assert mixing.sampled > 0


def test_groups_mix_worse_than_expanders() -> None:
    def half(family: str) -> float:
        graph = make_graph(family, 256, 256, degree=16)
        return sample_mixing(graph, 0.0).sampled_half

    # Random halves do not see it; the provable constant does.
    constants = {
        family: leading_singular_values(make_graph(family, 256, 256, degree=16)).deviation
        for family in ("grouped", "biregular")
    }
    assert half("biregular") < 0.2
    assert constants["grouped"] == pytest.approx(16)
    assert constants["biregular"] < 8


def test_samples_in_blocks_count_the_edges_of_the_whole_graph() -> None:
    graph = make_graph("random", 64, 64, degree=16, block=(4, 4))
    blocked, plain = sample_mixing(graph, 1.0), sample_mixing(graph.with_block((1, 1)), 1.0)
    assert blocked == plain


def test_an_empty_graph() -> None:
    empty = BipartiteGraph.from_edges(np.zeros((0, 2), dtype=int), 4, 3)
    assert expansion_bound(empty, 0.0, 2) == 0
    assert exact_expansion(empty) == [0, 0, 0]
    assert sample_mixing(empty, 0.0).sampled == 0
