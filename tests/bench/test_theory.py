"""The theorems of the paper hold, by measurement, and the measurement can tell when they do not."""

import math

import numpy as np
import pytest

from xnets.bench import fit_growth, measure_block, measure_depth, measure_mixing
from xnets.bench._sizes import nearest_size
from xnets.bench.depth import DepthRow, depth_cases, guaranteed_depth, lower_bound
from xnets.bench.mixing import search_deviation
from xnets.graphs import (
    BipartiteGraph,
    leading_singular_values,
    list_families,
    make_graph,
    stack_depth,
)

WIDTHS = (16, 64, 256, 1024)
# Every draw of `ramanujan` is checked by all singular values: at 1024, that is all the time.
CHECKED_WIDTHS = (16, 64, 256, 512)
EXPANDERS = ["biregular", "ramanujan", "lift"]
PERMUTED_GROUPS = ["shuffled", "butterfly", "radix"]


def depths(family: str, degree: int, widths=WIDTHS, seeds=(0, 1)) -> list[DepthRow]:
    return [measure_depth(family, n, degree, seed=seed) for n in widths for seed in seeds]


# --- theorem 1 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", EXPANDERS)
@pytest.mark.parametrize(("degree", "allowed"), [(4, 3), (8, 2)])
def test_expanders_connect_everything_in_logarithmically_many_layers(family, degree, allowed):
    rows = depths(family, degree, CHECKED_WIDTHS if family == "ramanujan" else WIDTHS)
    assert all(row.lost_inputs == row.blind_outputs == 0 for row in rows)
    assert all(row.depth is not None and row.depth >= row.lower_bound for row in rows)
    growth = fit_growth(rows)
    assert growth.unconnected == 0
    assert growth.over_bound <= allowed
    assert 1 - 1e-9 <= growth.slope <= 1.75
    assert growth.worst <= 0.8  # a straight line in log n


@pytest.mark.parametrize("family", PERMUTED_GROUPS)
def test_shuffles_and_butterflies_are_as_fast_as_can_be(family):
    for row in depths(family, 4, seeds=[0]):
        assert row.depth == row.lower_bound
        assert row.guaranteed is None  # the gap of one layer is 0, and promises nothing


def test_groups_never_connect():
    rows = depths("grouped", 4, seeds=[0])
    assert [row.depth for row in rows] == [None] * 4
    growth = fit_growth(rows)
    assert growth.unconnected == growth.stacks == 4
    assert math.isnan(growth.slope)


def test_one_sided_graphs_lose_what_they_leave_unused():
    row = measure_depth("random", 1024, 4)
    assert 5 <= row.lost_inputs <= 40  # e^-4 of 1024 is 19
    assert row.blind_outputs == 0
    mirrored = measure_depth("random_fan_out", 1024, 4)
    assert 5 <= mirrored.blind_outputs <= 50
    assert mirrored.lost_inputs == 0
    assert 1.3 <= fit_growth(depths("random", 4)).slope <= 2.3  # slower, still logarithmic


def test_a_band_grows_linearly_and_the_fit_says_so():
    rows = []
    for n in WIDTHS:
        mask = sum(np.roll(np.eye(n, dtype=int), shift, axis=1) for shift in (-1, 0, 1, 2))
        band = BipartiteGraph.from_mask(mask)
        depth = stack_depth([band] * n, max_depth=n).depth
        assert depth == math.ceil((n - 1) / 3)
        rows.append(DepthRow("band", 4, n, 0, depth, 0, 0, lower_bound(n, 4), None, None))
    growth = fit_growth(rows)
    assert growth.slope > 10
    assert growth.worst > 10
    assert growth.over_bound > 100


@pytest.mark.parametrize("family", [*EXPANDERS, "lps"])
@pytest.mark.parametrize("degree", [4, 8])
def test_no_stack_is_later_than_its_gap_guarantees(family, degree):
    for n in (16, 64, 1092):
        own = nearest_size(family, n, degree)
        if own is None:
            continue
        row = measure_depth(family, own, degree)
        assert row.depth is not None
        assert row.guaranteed is not None
        assert row.lower_bound <= row.depth <= row.guaranteed
        # The guarantee is what makes every entry of the product of masks positive.
        assert (degree / row.second) ** row.guaranteed > own - 1


def test_path_counts_are_within_the_bound_behind_the_guarantee():
    n, degree = 64, 8
    product, bound = np.eye(n), 1.0
    for layer in range(6):
        graph = make_graph("biregular", n, n, degree=degree, seed=layer)
        product = graph.mask().astype(float) @ product
        bound *= leading_singular_values(graph).second
        off = np.abs(product - degree ** (layer + 1) / n).max()
        assert bound / 1000 < off <= bound * (1 - 1 / n) + 1e-6


def test_bounds_by_hand():
    assert [lower_bound(n, 3) for n in (1, 2, 3, 4, 9, 10)] == [0, 1, 1, 2, 2, 3]
    assert guaranteed_depth(17, 4, 2.0) == 5  # 2^4 is not above 16
    assert guaranteed_depth(16, 4, 2.0) == 4
    assert guaranteed_depth(16, 4, 4.0) is None
    assert guaranteed_depth(16, 16, 0.0) == 1
    with pytest.raises(ValueError, match=r"`degree` \(=1\) must be at least 2"):
        lower_bound(5, 1)


def test_cases():
    cases = depth_cases([8], [64], seeds=2)
    assert ("margulis", 64, 8, 0) in cases
    assert ("biregular", 64, 8, 1) in cases
    assert ("grouped", 64, 8, 1) not in cases  # there is only one
    assert {case[0] for case in cases} == set(list_families()) - {"lps", "array_code", "complete"}


def test_growth_of_mixed_degrees_is_refused():
    rows = [measure_depth("biregular", 16, degree) for degree in (2, 4)]
    with pytest.raises(ValueError, match="`rows` must be of one degree"):
        fit_growth(rows)


# --- theorem 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list_families())
@pytest.mark.parametrize("degree", [4, 16])
def test_nothing_deviates_more_than_is_proved(family, degree):
    n = nearest_size(family, 256, degree)
    if n is None:
        pytest.skip("no such graph")
    row = measure_mixing(family, n, degree)
    assert row.sampled <= row.found + 1e-9
    assert row.found <= row.bound + 1e-9
    assert row.sampled_constant <= row.constant + 1e-9


@pytest.mark.parametrize("family", EXPANDERS)
def test_mixing_of_expanders_improves_as_the_root_of_the_degree(family):
    rows = [measure_mixing(family, 512, degree) for degree in (4, 8, 16, 32)]
    x = np.log([row.degree for row in rows])
    for name in ("bound", "found"):
        slope = np.polyfit(x, np.log([getattr(row, name) for row in rows]), 1)[0]
        assert -0.6 <= slope <= -0.35, name
    for row in rows:
        assert row.bound <= 1.06 * 2 * (row.degree - 1) ** 0.5 / row.degree
        assert row.found >= row.bound / 2  # the bound is no formality


@pytest.mark.parametrize("family", ["grouped", *PERMUTED_GROUPS])
def test_layers_made_of_groups_do_not_mix_at_any_degree(family):
    for degree in (4, 16):
        row = measure_mixing(family, 256, degree)
        assert row.found > 0.9
        assert row.bound == pytest.approx(1, abs=0.01)
        assert row.sampled < 0.1  # and random halves do not notice


def test_the_search_finds_what_all_halves_show():
    graph = make_graph("biregular", 8, 8, degree=3)
    mask = graph.mask()
    halves = [[i for i in range(8) if bits >> i & 1] for bits in range(256)]
    halves = [half for half in halves if len(half) == 4]
    best = max(abs(mask[np.ix_(t, s)].sum() - 6.0) for s in halves for t in halves)
    assert best / 2 <= search_deviation(graph) <= best


# --- blocks --------------------------------------------------------------------------------------


def test_a_block_costs_what_a_smaller_degree_costs():
    block = measure_block("biregular", 256, 256, 4, (4, 4), seeds=1)
    base = measure_block("biregular", 64, 64, 4, (1, 1), seeds=1)
    assert block.gap == pytest.approx(base.gap)
    fine = measure_block("biregular", 256, 256, 4, (1, 1), seeds=1)
    assert block.gap < fine.gap - 0.1
    assert (block.degree, block.unused_inputs, block.dead_outputs) == (64, 0, 0)


def test_shared_inputs_leave_inputs_unused():
    row = measure_block("random", 256, 256, 16, (16, 1), seeds=3)
    assert 75 <= row.unused_inputs <= 115  # 256 (1 - 1/16)^16 = 91
    assert row.seeds == 3
