"""Means, spreads and differences."""

from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from xnets.compare import difference, list_trials
from xnets.compare._report import format_points
from xnets.compare._rows import trial_row
from xnets.compare._summary import summarize
from xnets.train import Result, Size


def result(trial, accuracy):
    size = Size(
        params=10, macs=100, bytes=40, edges=5, layers=4,
        expander_layers=0 if trial.kind == "dense" else 2,
    )  # fmt: skip
    return Result(
        test_accuracy=accuracy, size=size, dense=size, recipe=trial.recipe, seconds=2.0,
        folder=Path(), versions={"torch": "2"},
    )  # fmt: skip


def points(tiny, accuracies, **options):
    """The points of some networks, by label; accuracies by label, one a seed."""
    seeds = len(next(iter(accuracies.values())))
    trials = list_trials(
        tiny, ["dense", "grouped", "expander"], [4, 8], seeds=seeds,
        blocks=[(1, 1), (4, 1)], **options,
    )  # fmt: skip
    rows = [
        trial_row(t, result(t, accuracies[t.label][t.recipe.seed]))
        for t in trials
        if t.label in accuracies
    ]
    return {point.label: point for point in summarize(rows)}


def test_mean_spread_and_difference(tiny):
    grouped, expander = [0.80, 0.84, 0.82], [0.90, 0.92, 0.91]
    found = points(tiny, {"dense": [0.95] * 3, "grouped 4": grouped, "expander 4": expander})
    assert list(found) == ["dense", "grouped 4", "expander 4"]
    point = found["expander 4"]
    assert point.seeds == 3
    assert point.accuracy == pytest.approx(mean(expander))
    assert point.accuracy_std == pytest.approx(stdev(expander))
    assert point.against == "grouped"
    interval = stats.ttest_ind(expander, grouped, equal_var=False).confidence_interval(0.95)
    assert (point.difference_low, point.difference_high) == pytest.approx(tuple(interval))
    for other in ("dense", "grouped 4"):
        assert found[other].difference is None


def test_blocks_are_held_against_single_edges(tiny):
    found = points(
        tiny,
        {"grouped 4": [0.7, 0.7], "expander 4": [0.9, 0.8], "expander 4 block 4x1": [0.8, 0.8]},
    )
    assert found["expander 4 block 4x1"].against == "expander, single edges"
    assert found["expander 4 block 4x1"].difference == pytest.approx(-0.05)


def test_nothing_to_compare_with(tiny):
    found = points(tiny, {"grouped 4": [0.7, 0.7], "expander 8": [0.9, 0.8]})
    assert found["expander 8"].difference is None
    assert "from" not in format_points(list(found.values()))


def test_one_seed_has_no_spread(tiny):
    point = points(tiny, {"grouped 4": [0.7], "expander 4": [0.9]})["expander 4"]
    assert point.accuracy_std is None
    assert point.difference == pytest.approx(0.2)
    assert point.difference_low is None
    assert "±" not in format_points([point])


def test_seeds_that_agree_show_no_interval():
    assert difference([0.9, 0.9], [0.8, 0.8]).low is None


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        found = difference(list(rng.normal(0.1, 1, 5)), list(rng.normal(0, 2, 4)))
        covered += found.low < 0.1 < found.high
    assert 930 <= covered <= 970
