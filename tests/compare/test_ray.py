"""Trials on a Ray cluster of this machine."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xnets.compare import compare, list_trials
from xnets.compare._ray import _store, _train_in_scratch
from xnets.train import evaluate, get_recipe

ROOT = Path(__file__).parents[2]


def test_without_ray_the_message_says_how_to_get_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs Ray: python -m pip install 'xnets\[ray\]'"):
        compare(tiny, kinds=["dense"], seeds=1, out=tmp_path, quiet=True, ray="local")


def test_what_a_worker_does(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")  # the worker was started by srun
    [trial] = list_trials(tiny, ["expander"], [4], seeds=1)
    files = _train_in_scratch(trial, {"device": "cpu"})
    stored = _store(files, tmp_path / "run")
    assert stored.folder == tmp_path / "run"
    assert stored.recipe == trial.recipe
    assert evaluate(tmp_path / "run", device="cpu") == stored.test_accuracy


def run(address, out, kinds):
    """Compare in a process of its own, for Ray leaves its sockets to the end of the process."""
    command = [
        sys.executable, "-m", "xnets", "compare", "digits", "--kinds", kinds, "--compression", "8",
        "--seeds", "2", "--epochs", "1",
    ]  # fmt: skip
    return subprocess.run(
        [*command, "--ray", address, "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra")
class TestCluster:
    def test_the_same_as_without(self, tmp_path):
        here = compare(
            get_recipe("digits", epochs=1), kinds=["dense", "expander", "lps"],
            compressions=[8], seeds=2, out=tmp_path / "here", quiet=True,
        )  # fmt: skip
        there = run("local", tmp_path / "there", "dense,expander,lps")
        assert there.returncode == 2, there.stderr
        assert "xnets: error: 2 of 6 trials failed; lps-8-seed-" in there.stderr
        assert next(iter(here.failures.values())) in there.stderr
        assert "Traceback" not in there.stderr
        assert len(here.results) == 4
        for trial, result in here.results:
            folder = tmp_path / "there" / "trials" / trial.name
            values = json.loads((folder / "result.json").read_text())
            assert values["test_accuracy"] == result.test_accuracy
            assert values["folder"] == str(folder)
            twin = tmp_path / "here" / "trials" / trial.name
            for name in ("metrics.csv", "recipe.json"):
                assert (folder / name).read_text() == (twin / name).read_text()

        again = run("local", tmp_path / "there", "dense,expander")
        assert again.returncode == 0, again.stderr
        assert "4 of them done already" in again.stderr

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
    def test_a_cluster_that_is_not_there(self, address, tmp_path):
        found = run(address, tmp_path, "dense")
        assert found.returncode == 2
        assert "Traceback" not in found.stderr
        last = found.stderr.splitlines()[-1]
        assert last.startswith(f"xnets: error: `ray` (='{address}'): no cluster can be reached: ")
