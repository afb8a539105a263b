"""Whole comparisons: what is left, skipped, taken up again and reported."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from xnets.bench.timer import Timing
from xnets.compare import _compare as module
from xnets.compare import _time, compare
from xnets.train import Interrupted, Result, train

ROOT = Path(__file__).parents[2]
SMALL = {"kinds": ["dense", "grouped", "expander"], "compressions": [4], "seeds": 2, "quiet": True}
ONE_SEED = {**SMALL, "seeds": 1}


def accuracies(comparison):
    return {trial.name: result.test_accuracy for trial, result in comparison.results}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison of a few seconds."""
    from runpy import run_path

    tiny = run_path(str(Path(__file__).with_name("conftest.py")))["TINY"]
    return compare(tiny, out=tmp_path_factory.mktemp("whole"), command="xnets compare", **SMALL)


def test_what_is_left(whole):
    assert len(whole.results) == 6
    assert not whole.failures
    assert {p.name for p in whole.folder.iterdir()} == {
        ".lock", "points.csv", "trials.csv", "report.md", "tradeoff.png", "trials",
    }  # fmt: skip
    with (whole.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [trial.name for trial, _ in whole.results]
    assert {p.name for p in (whole.folder / "trials").iterdir()} == {row["trial"] for row in rows}
    with (whole.folder / "points.csv").open() as file:
        points = {row["label"]: row for row in csv.DictReader(file)}
    assert list(points) == ["dense", "grouped 4", "expander 4"]
    own = [float(r["test_accuracy"]) for r in rows if r["kind"] == "expander"]
    assert float(points["expander 4"]["accuracy"]) == pytest.approx(sum(own) / 2, abs=1e-5)
    for point in points.values():
        times = [float(point[f"forward_{name}"]) for name in ("low", "ms", "high")]
        assert 0 < times[0] <= times[1] <= times[2]
    report = (whole.folder / "report.md").read_text()
    assert report.startswith("# tiny: convnet (width 8, stages 2, depth 1) on digits, 1 epoch\n")
    assert report.count("| expander 4 |") == 1
    assert json.loads(json.dumps(whole.to_dict()))["points"][0]["label"] == "dense"


def test_a_trial_is_what_train_does(whole, tiny, tmp_path):
    trial, result = next(pair for pair in whole.results if pair[0].kind == "expander")
    alone = train(replace(tiny, compression=4, family="random"), out=tmp_path / "run", quiet=True)
    assert alone.recipe == trial.recipe
    assert alone.test_accuracy == result.test_accuracy
    assert alone.size == result.size
    metrics = (whole.folder / "trials" / trial.name / "metrics.csv").read_text()
    assert (tmp_path / "run" / "metrics.csv").read_text() == metrics
    saved = json.loads((whole.folder / "trials" / trial.name / "result.json").read_text())
    assert saved["command"] == "xnets compare"


def test_what_is_done_is_skipped(whole, tiny, monkeypatch, capsys):
    def never(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "run_trial", never)
    again = compare(tiny, out=whole.folder, **{**SMALL, "quiet": False})
    assert accuracies(again) == accuracies(whole)
    assert not again.failures
    assert "6 trials in" in capsys.readouterr().err


def test_networks_are_timed_in_turns_unless_told_not_to(tiny, whole, monkeypatch):
    raced = []

    def race(runs, *, seconds, device):
        for calls in runs.values():
            [call] = calls
            assert call().shape == (16, 10)
        raced.append(list(runs))
        return {label: Timing(2.0, 1.5, 3.0, 9) for label in runs}

    monkeypatch.setattr(_time, "time_interleaved", race)
    before = torch.get_rng_state()
    again = compare(tiny, out=whole.folder, **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    assert raced == [["dense", "grouped 4", "expander 4"]]  # one network of all its seeds
    assert {(p.forward_low, p.forward_ms, p.forward_high) for p in again.points} == {(1.5, 2, 3)}
    assert "| 2 of 4 | 2 |" in (whole.folder / "report.md").read_text()
    untimed = compare(tiny, out=whole.folder, timed=False, **SMALL)
    assert len(raced) == 1
    assert {p.forward_ms for p in untimed.points} == {None}


def test_new_trials_join_the_old_ones(tiny, tmp_path, monkeypatch):
    trained = []
    run = module.run_trial

    def spy(trial, *args, **options):
        trained.append((trial.label, trial.recipe.seed))
        return run(trial, *args, **options)

    monkeypatch.setattr(module, "run_trial", spy)
    few = {"compressions": [8], "out": tmp_path, "quiet": True}
    compare(tiny, kinds=["expander"], seeds=1, **few)
    found = compare(tiny, kinds=["expander", "biregular"], seeds=1, **few)
    assert trained == [("expander 8", 0), ("biregular 8", 0)]
    assert [point.label for point in found.points] == ["expander 8", "biregular 8"]


def test_a_failed_trial_does_not_stop_the_others(tiny, tmp_path, monkeypatch, capsys):
    run = module.run_trial

    def fail(trial, *args, **options):
        if trial.kind == "grouped":
            raise RuntimeError("out of\nmemory")
        return run(trial, *args, **options)

    options = {**ONE_SEED, "quiet": False, "out": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_trial", fail)
        found = compare(tiny, **options)
    assert [trial.kind for trial, _ in found.results] == ["dense", "expander"]
    [(name, reason)] = found.failures.items()
    assert reason == "RuntimeError: out of memory"
    assert f"- `{name}`: {reason}" in (tmp_path / "report.md").read_text()
    assert "grouped 4, seed 0  failed: RuntimeError: out of memory" in capsys.readouterr().err
    failure = tmp_path / "trials" / name / "failure.txt"
    assert "in fail" in failure.read_text()  # the whole traceback

    mended = compare(tiny, **options)  # a failed trial is tried again
    assert len(mended.results) == 3
    assert not mended.failures
    assert not failure.exists()


def test_a_network_that_cannot_be_built_is_reported(tiny, tmp_path):
    found = compare(
        tiny, kinds=["dense", "margulis"], compressions=[4], seeds=1, out=tmp_path, quiet=True
    )
    assert [trial.kind for trial, _ in found.results] == ["dense"]
    [reason] = found.failures.values()
    assert "no layer of model 'convnet' can be thinned so" in reason


def test_an_interruption_leaves_a_report(tiny, tmp_path, monkeypatch):
    run, calls = module.run_trial, []

    def interrupted(trial, *args, **options):
        calls.append(trial)
        if len(calls) == 2:
            raise Interrupted("interrupted after 0 epochs")
        return run(trial, *args, **options)

    monkeypatch.setattr(module, "run_trial", interrupted)
    with pytest.raises(Interrupted, match=r"1 of 3 trials are done; the same command goes on in"):
        compare(tiny, out=tmp_path, **ONE_SEED)
    assert "dense" in (tmp_path / "report.md").read_text()
    monkeypatch.setattr(module, "run_trial", run)
    assert len(compare(tiny, out=tmp_path, **ONE_SEED).results) == 3


def test_a_folder_that_a_kill_left_without_a_recipe_is_begun_anew(tiny, tmp_path):
    options = {**ONE_SEED, "kinds": ["dense"], "out": tmp_path}
    name = next(iter(accuracies(compare(tiny, **options))))
    folder = tmp_path / "trials" / name
    for path in folder.iterdir():
        if path.is_file() and path.name != "metrics.csv":
            path.unlink()
    found = compare(tiny, **options)
    assert len(found.results) == 1
    assert not found.failures


def test_two_comparisons_keep_out_of_each_others_way(tiny, tmp_path):
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(ValueError, match="another process is comparing in"),
    ):
        compare(tiny, out=tmp_path, **SMALL)


def test_a_folder_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        compare(tiny, out=tmp_path / "file", **SMALL)


def test_a_damaged_result_is_named(tiny, tmp_path):
    options = {**ONE_SEED, "kinds": ["dense"], "out": tmp_path}
    name = next(iter(accuracies(compare(tiny, **options))))
    (tmp_path / "trials" / name / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result\.json is no result of a training run"):
        compare(tiny, **options)


def test_one_process_compares(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="start it without torchrun and srun"):
        compare(tiny, out=tmp_path / "new", **SMALL)
    assert not (tmp_path / "new").exists()


# Compares; argument 1 is the folder, 2 the write at which to die by SIGKILL, 3 when: "before" the
# file is renamed to its name, half written or whole, or "after". A clock would not do: a fast
# machine finishes before it is killed.
DYING = f"""
import os, runpy, signal, sys
from xnets.compare import compare
rename, count = os.replace, 0

def replace(a, b):
    global count
    count += 1
    if count == int(sys.argv[2]):
        if sys.argv[3] == "half":
            os.truncate(a, os.path.getsize(a) // 2)
        if sys.argv[3] == "after":
            rename(a, b)
        os.kill(os.getpid(), signal.SIGKILL)
    rename(a, b)

os.replace = replace
tiny = runpy.run_path({str(Path(__file__).with_name("conftest.py"))!r})["TINY"]
compare(tiny, out=sys.argv[1], **{SMALL!r})
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_the_same(whole, tiny, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    for at, when in ((2, "half"), (9, "before"), (3, "after"), (11, "half")):  # a trial writes six
        command = [sys.executable, "-c", DYING, str(tmp_path), str(at), when]
        killed = subprocess.run(
            command, env=environment, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = list(tmp_path.glob("trials/*/result.json"))
    assert 0 < len(done) < 6
    times = {path: path.stat().st_mtime_ns for path in done}
    found = compare(tiny, out=tmp_path, **SMALL)
    assert accuracies(found) == accuracies(whole)
    assert not found.failures
    assert {path: path.stat().st_mtime_ns for path in done} == times
    for trial, _ in found.results:
        one, two = (f / "trials" / trial.name / "metrics.csv" for f in (tmp_path, whole.folder))
        assert one.read_text() == two.read_text()
        assert isinstance(Result.load(one.parent), Result)
