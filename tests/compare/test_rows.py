"""trials.csv, read back: results from elsewhere that need no training."""

import csv

import pytest

from xnets.bench._output import write_rows
from xnets.compare import _compare as module
from xnets.compare import compare, list_trials
from xnets.compare._rows import TrialRow, read_rows

OPTIONS = {"kinds": ["dense", "expander"], "compressions": [4], "seeds": 2, "quiet": True}


def row(trial, accuracy=0.5, **changes):
    values = {
        "trial": trial.name, "kind": trial.kind, "compression": trial.compression,
        "block_out": 1, "block_in": 1, "seed": trial.recipe.seed, "test_accuracy": accuracy,
        "macs": 1000, "params": 100, "bytes": 400, "layers": 4, "expander_layers": 2,
        "seconds": 1.5, "torch": "2.9.1", **changes,
    }  # fmt: skip
    return TrialRow(**values)


@pytest.fixture
def trials(tiny):
    return list_trials(tiny, ["dense", "expander"], [4], seeds=2)


def test_rows_are_read_as_they_were_written(trials, tmp_path):
    rows = [row(trial, 1 / 3) for trial in trials]
    found = read_rows(write_rows(rows, tmp_path / "trials.csv"))
    assert list(found) == [trial.name for trial in trials]
    assert found[trials[1].name] == row(trials[1], 0.333333)
    assert found[trials[1].name].label == "expander 4"


def test_what_is_known_is_not_trained(tiny, trials, tmp_path, monkeypatch):
    trained, run = [], module.run_trial

    def spy(trial, *args, **options):
        trained.append(trial.name)
        return run(trial, *args, **options)

    monkeypatch.setattr(module, "run_trial", spy)
    [other] = list_trials(tiny, ["expander"], [8], seeds=1)  # not asked for: passed over
    rows = [row(trials[0], 0.9), row(trials[1], 0.8), row(trials[2], 0.7), row(other)]
    file = write_rows(rows, tmp_path / "theirs.csv")
    found = compare(tiny, out=tmp_path / "ours", known=[file], **OPTIONS)
    assert trained == [trials[3].name]
    assert [trial.name for trial, _ in found.results] == trained
    dense, expander = found.points
    assert (dense.seeds, dense.accuracy) == (2, pytest.approx(0.8))
    ours = found.results[0][1].test_accuracy
    assert expander.accuracy == pytest.approx((0.8 + ours) / 2)
    with (tmp_path / "ours" / "trials.csv").open() as stored:
        assert [r["torch"] for r in csv.DictReader(stored)][:3] == ["2.9.1"] * 3
    # What was trained here comes before what is known of it from elsewhere.
    file = write_rows([row(trial, 0.1) for trial in trials], tmp_path / "theirs.csv")
    again = compare(tiny, out=tmp_path / "ours", known=[file], **OPTIONS)
    assert again.points[1].accuracy == pytest.approx((0.1 + ours) / 2)
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("seed", "sead", 1), r"is no trials.csv: it has no column 'seed"),
        (lambda text: "", "is no trials.csv: it has no column 'trial'"),
        (
            lambda text: text.replace("0.5", "half"),
            r"line 2: `test_accuracy` .* must be a number",
        ),
        (lambda text: text.replace("0.5", "50"), r"`test_accuracy` \(='50'\) must be from 0 to 1"),
        (lambda text: text.replace(",1000,", ","), "line 2: .* must be a number"),
        (lambda text: text.replace(",dense,", ",grouped,"), "is damaged: the row of dense-seed-0-"),
    ],
)
def test_a_file_that_is_none(damage, message, tiny, trials, tmp_path):
    file = write_rows([row(trials[0])], tmp_path / "theirs.csv")
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=message):
        compare(tiny, out=tmp_path / "ours", known=[file], **OPTIONS)
    assert not (tmp_path / "ours").exists()


def test_a_file_that_is_missing(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none.csv: No such file or directory"):
        compare(tiny, out=tmp_path, known=[tmp_path / "none.csv"], **OPTIONS)
