"""Several processes: who they are, and that together they compute what one does alone."""

import csv
import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xnets.models import _registry
from xnets.train import Recipe, load_checkpoint, train
from xnets.train._distributed import World, connected, find_world

ROOT = Path(__file__).parents[2]
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")

# Trains by the recipe whose fields argument 2 gives; prints rank, accuracy, and a digest of graphs.
SCRIPT = """
import hashlib, json, os, sys
from torch import nn
from xnets.models import register_model
from xnets.train import Recipe, load_checkpoint, train

def graphs(model):
    digest = hashlib.sha256()
    for name, buffer in model.named_buffers():
        if "ind" in name:
            digest.update(buffer.numpy().tobytes())
    return digest.hexdigest()

@register_model
def without_norms(in_channels: int = 1, num_classes: int = 10, image_size: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (image_size // 2) ** 2, num_classes),
    )

if __name__ == "__main__":
    recipe = Recipe.from_dict(json.loads(sys.argv[2]))
    result = train(recipe, out=sys.argv[1], device="cpu", resume="auto")
    model = load_checkpoint(result.folder).model
    out = {"rank": os.environ["RANK"], "accuracy": result.test_accuracy,
           "graphs": graphs(model), "params": result.size.params}
    print(json.dumps(out) + "\\n", end="", flush=True)
"""


@pytest.fixture
def launch(tmp_path):
    """Run the script in two processes; return how each ended, what they printed, the errors."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k not in LAUNCHERS}
    environment.update(PYTHONPATH=str(ROOT / "src"), OMP_NUM_THREADS="1")

    def run(folder, recipe):
        command = [sys.executable, str(path), str(folder), json.dumps(recipe.to_dict())]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
        }  # fmt: skip
        started = [
            subprocess.Popen(
                command,
                env={**environment, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        ended = [process.communicate(timeout=300) for process in started]
        lines = [
            json.loads(line) for out, _ in ended for line in out.splitlines() if line[0] == "{"
        ]
        return [p.returncode for p in started], lines, [errors for _, errors in ended]

    # The parent knows the network too; its registry is another test's affair.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registry, "_MODELS", dict(_registry._MODELS))
        run.graphs = runpy.run_path(str(path))["graphs"]
        yield run


def shared(**values):
    """A recipe."""
    usual = {"model": "without_norms", "epochs": 2, "batch_size": 96, "lr": 0.01}
    return Recipe(
        name="shared", dataset="digits", shift=1, flip=True, threads=1, **{**usual, **values}
    )


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "values",
    [{}, pytest.param({"accumulate": 3, "ema": 0.9}, marks=pytest.mark.slow)],
    ids=["plain", "in pieces"],
)
def test_two_processes_give_what_one_gives(values, launch, tmp_path):
    codes, both, (first, second) = launch(tmp_path / "two", shared(**values))
    assert codes == [0, 0], first + second
    alone = train(shared(**values), out=tmp_path / "one", device="cpu", quiet=True)
    assert {line["rank"] for line in both} == {"0", "1"}
    for line in both:
        assert line["graphs"] == launch.graphs(load_checkpoint(alone.folder).model)
        assert line["params"] == alone.size.params
        assert line["accuracy"] == pytest.approx(alone.test_accuracy, abs=2 / 360)
    for ours, theirs in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert ours["lr"] == theirs["lr"]
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
        assert ours["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-2)
        assert ours["train_accuracy"] == pytest.approx(theirs["train_accuracy"], abs=0.005)
    weights = [
        torch.load(tmp_path / name / "checkpoint.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=2e-3)
    assert first.count("epoch 1/2") == 1  # the first process alone speaks
    assert "on 2 x cpu" in first
    assert "epoch" not in second


@pytest.mark.slow
def test_batch_statistics_are_shared_before_each_test(launch, tmp_path):
    codes, both, errors = launch(tmp_path / "run", shared(model="convnet", epochs=3))
    assert codes == [0, 0], errors
    accuracies = {line["accuracy"] for line in both}
    assert len(accuracies) == 1
    assert accuracies == {json.loads((tmp_path / "run/result.json").read_text())["test_accuracy"]}
    assert rows(tmp_path / "run")[-1]["test_accuracy"] == pytest.approx(accuracies.pop(), abs=1e-6)


@pytest.mark.slow
def test_an_error_of_the_user_ends_all_processes(launch, tmp_path):
    codes, lines, errors = launch(tmp_path / "run", shared(batch_size=97))
    assert 0 not in codes
    assert not lines
    for error in errors:
        assert "`batch_size` (=97) must be a multiple of the number of processes" in error
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    codes, lines, errors = launch(tmp_path / "full", shared())
    assert 0 not in codes
    assert not lines
    assert all("the output folder" in error for error in errors)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_command_line_prints_one_result(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in LAUNCHERS}
    environment.update(PYTHONPATH=str(ROOT / "src"), OMP_NUM_THREADS="1")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "xnets", "train", "digits", "--epochs", "1", "--out", str(tmp_path / "run"),
        "--device", "cpu", "--json",
    ]  # fmt: skip
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["folder"] == str(tmp_path / "run")


def set_environment(monkeypatch, **values):
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_one_process_alone(monkeypatch):
    set_environment(monkeypatch)
    assert find_world() == World()
    # A job of four tasks whose script runs without srun is one process.
    set_environment(monkeypatch, SLURM_NTASKS="4", SLURM_PROCID="0", SLURM_JOB_ID="7")
    assert find_world() == World()
    set_environment(monkeypatch, SLURM_NTASKS="4", SLURM_STEP_NUM_TASKS="1", SLURM_PROCID="0")
    assert find_world() == World()
    with connected(World(), torch.device("cpu")):
        assert not torch.distributed.is_initialized()


def test_torchrun_and_srun_say_who_this_is(monkeypatch):
    set_environment(monkeypatch, RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
    assert find_world() == World(5, 8, 1, 4, "torchrun")
    slurm = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "8"}
    set_environment(monkeypatch, **slurm, SLURM_PROCID="6", SLURM_LOCALID="2")
    assert find_world() == World(6, 8, 2, 4, "slurm")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "cannot read the launcher's environment variables: inv"),
        ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2"}, "srun started 3 tasks on 2 "),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, "variables: 'SLURM_LOCALID'"),
    ],
)
def test_an_environment_that_contradicts_itself(values, message, monkeypatch):
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    set_environment(monkeypatch, **values)
    with pytest.raises(ValueError, match=message):
        find_world()


def test_lightning_is_told_the_same_of_slurm(monkeypatch):
    from xnets.train._distributed import cluster_environment

    set_environment(
        monkeypatch,
        SLURM_STEP_NUM_TASKS="4", SLURM_STEP_NUM_NODES="2", SLURM_NTASKS="4", SLURM_PROCID="3",
        SLURM_LOCALID="1", SLURM_NODEID="1", SLURM_NODELIST="node[07-08]", SLURM_JOB_ID="1234567",
        SLURM_JOB_NAME="training", SLURM_NTASKS_PER_NODE="2",
    )  # fmt: skip
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "x")  # so that what Lightning sets is undone
        monkeypatch.delenv(name)
    environment = cluster_environment(find_world())
    assert environment.main_address == "node07"
    assert environment.main_port == 15000 + 4567
    assert (environment.world_size(), environment.global_rank()) == (4, 3)
    assert (environment.local_rank(), environment.node_rank()) == (1, 1)
