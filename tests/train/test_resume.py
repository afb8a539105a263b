"""Resumption: killed anywhere, a run ends as it would have; and what is refused."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from xnets.train import DivergedError, evaluate, train
from xnets.train._run import locked, open_run

# Trains a tiny recipe; argument 1 is the folder, 2 the write at which to die by SIGKILL, 3 when:
# "before" the file is renamed to its name, half written or whole, or "after".
SCRIPT = """
import os, runpy, signal, sys
sys.path.insert(0, {source!r})
from xnets.train import train
folder, at, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rename, count = os.replace, 0

def replace(a, b):
    global count
    count += 1
    if count == at and when == "half":
        os.truncate(a, os.path.getsize(a) // 2)
    if count == at and when in ("half", "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(a, b)
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
recipe = runpy.run_path({conftest!r})["TINY"]
import dataclasses
recipe = dataclasses.replace(recipe, **{changes!r})
train(recipe, out=folder, resume="auto", quiet=True)
print(count)
"""
HARD = {"epochs": 3, "ema": 0.9, "accumulate": 2, "precision": "bf16-mixed", "flip": True}
ROOT = Path(__file__).parents[2]


def script(changes):
    return SCRIPT.format(
        source=str(ROOT / "src"),
        conftest=str(Path(__file__).with_name("conftest.py")),
        changes=changes,
    )


def run(code, *args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


def outcome(folder):
    """All that must be the same after a resumption."""
    result = json.loads((folder / "result.json").read_text())
    weights = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    names = sorted(p.name for p in folder.iterdir())
    return result["test_accuracy"], (folder / "metrics.csv").read_text(), names, weights


def same(one, two):
    *values, weights = one
    *others, other_weights = two
    return values == others and all(torch.equal(weights[k], other_weights[k]) for k in weights)


MIXED = {"accumulate": 2, "precision": "bf16-mixed", "optimizer": "sgd", "nesterov": True}
DROPOUT = {"model": "alexnet-like", "schedule": "cosine"}


@pytest.mark.parametrize(
    ("changes", "last"),  # of three epochs: killed half way, or when all were done
    [
        pytest.param({"ema": 0.9}, 2, id="average, all done"),
        pytest.param({**MIXED, "ema": 0.9}, 1, id="mixed precision in pieces, half way"),
        pytest.param(DROPOUT, 1, id="dropout, half way"),
        pytest.param({}, 1, id="plain, half way", marks=pytest.mark.slow),
        pytest.param({}, 2, id="plain, all done", marks=pytest.mark.slow),
        pytest.param({"ema": 0.9}, 1, id="average, half way", marks=pytest.mark.slow),
        pytest.param(MIXED, 2, id="mixed precision, all done", marks=pytest.mark.slow),
        pytest.param(DROPOUT, 2, id="dropout, all done", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_as_an_undisturbed_one(changes, last, tiny, tmp_path, monkeypatch):
    if changes.get("model") == "alexnet-like":
        add_dropout(monkeypatch)
        changes = {**changes, "model": "mlp", "model_args": {"width": 32, "depth": 1}}
    recipe = dataclasses.replace(tiny, epochs=3, **changes)
    train(recipe, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        from xnets.train._writer import RunWriter

        end = RunWriter.on_train_epoch_end

        def broken(self, trainer, module):
            end(self, trainer, module)
            if trainer.current_epoch == last:
                raise MemoryError("killed")

        patch.setattr(RunWriter, "on_train_epoch_end", broken)
        with pytest.raises(MemoryError):
            train(recipe, out=tmp_path / "broken", quiet=True)
    assert evaluate(tmp_path / "broken") > 0
    torch.rand(7)
    result = train(recipe, out=tmp_path / "broken", resume="auto", quiet=True)
    assert result.recipe == recipe
    assert 0 < result.seconds < 600
    assert same(outcome(tmp_path / "whole"), outcome(tmp_path / "broken"))


def add_dropout(monkeypatch):
    """Put dropout before the last layer of the mlp."""
    from xnets.models import _registry

    entry = _registry._MODELS["mlp"]

    def mlp(in_channels=1, num_classes=10, image_size=8, width=256, depth=2):
        net = entry.build(in_channels, num_classes, image_size, width, depth)
        net.insert(len(net) - 1, torch.nn.Dropout(0.5))
        return net

    monkeypatch.setitem(_registry._MODELS, "mlp", entry._replace(build=mlp))


@pytest.mark.slow
def test_killed_at_every_write_a_run_ends_the_same(tmp_path):
    code = script(HARD)
    whole = run(code, tmp_path / "whole", 0, "never")
    assert whole.returncode == 0, whole.stderr
    writes = int(whole.stdout)
    assert writes == 1 + 3 * 3 + 2  # recipe; metrics, network, state; picture, result
    expected = outcome(tmp_path / "whole")
    for at in range(1, writes + 1):
        when = random.Random(at).choice(["half", "before", "after"])
        folder = tmp_path / f"{at}"
        killed = run(code, folder, at, when)
        assert killed.returncode == -signal.SIGKILL
        if at == 1 and when != "after":
            continue  # not even begun: the claimed folder is not a run
        resumed = run(code, folder, 0, "never")
        assert resumed.returncode == 0, resumed.stderr
        assert same(outcome(folder), expected), (at, when)


@pytest.mark.slow
def test_killed_again_and_again_at_random_a_run_ends_the_same(tmp_path):
    code = script({**HARD, "epochs": 8})
    assert run(code, tmp_path / "whole", 0, "never").returncode == 0
    epoch = json.loads((tmp_path / "whole/result.json").read_text())["seconds"] / 8
    folder = tmp_path / "killed"
    dice, kills = random.Random(), 0  # another course each time
    while kills < 30:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), "0", "never"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in `run`: threads change rounding
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        before = rows_of(folder)
        while process.poll() is None and rows_of(folder) == before:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, epoch))  # into writing, training or testing
        process.kill()
        _, error = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error
        kills += 1
    ended = run(code, folder, 0, "never")
    assert ended.returncode == 0, ended.stderr
    assert kills > 1
    assert same(outcome(folder), outcome(tmp_path / "whole"))


def rows_of(folder):
    """What metrics.csv holds, if there is one."""
    path = folder / "metrics.csv"
    return path.read_text() if path.exists() else ""


def test_a_run_killed_in_its_first_epoch_begins_anew(tiny, tmp_path):
    run_ = open_run(tiny, tmp_path / "run", None)
    (run_.folder / ".partial-resume.1.ckpt").write_bytes(b"half a checkpoint")
    (run_.folder / "tensorboard").mkdir()
    train(tiny, out=run_.folder, resume="auto", quiet=True)
    train(tiny, out=tmp_path / "whole", quiet=True)
    assert same(outcome(run_.folder), outcome(tmp_path / "whole"))


def test_auto_finds_the_newest_unfinished_run_of_the_same_recipe(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = dataclasses.replace(tiny, seed=1)
    first = open_run(tiny, None, "auto").folder
    assert str(first) == "runs/tiny/1"
    assert open_run(tiny, None, "auto").folder == first
    assert str(open_run(other, None, "auto").folder) == "runs/tiny/2"
    assert open_run(tiny, None, "auto").folder == first
    assert str(open_run(tiny, None, None).folder) == "runs/tiny/3"
    assert str(open_run(tiny, None, "auto").folder) == "runs/tiny/3"
    with locked(Path("runs/tiny/3")):  # another process trains there
        assert open_run(tiny, None, "auto").folder == first
    Path("runs/tiny/3/result.json").write_text("{}")
    assert open_run(tiny, None, "auto").folder == first
    faster = dataclasses.replace(tiny, threads=2)
    assert open_run(faster, None, "auto").folder == first


def test_a_finished_run_gives_its_result_again(tiny_run, tiny):
    again = train(tiny, out=tiny_run.folder, resume="auto", quiet=True)
    assert again.to_dict() == json.loads((tiny_run.folder / "result.json").read_text())
    assert again.test_accuracy == tiny_run.test_accuracy
    assert (again.size, again.dense, again.recipe) == (tiny_run.size, tiny_run.dense, tiny)


def test_what_cannot_be_resumed(tiny, tmp_path):
    folder = open_run(tiny, tmp_path / "run", None).folder
    changed = dataclasses.replace(tiny, lr=0.5, block=(2, 2), threads=1)
    with pytest.raises(
        ValueError, match=r"begun with another `block` .*, `lr` \(=0.02, now 0.5\); "
    ):
        train(changed, out=folder, resume="auto", quiet=True)
    with pytest.raises(ValueError, match=r"`resume` \(='yes'\) must be 'auto'"):
        train(tiny, out=folder, resume="yes", quiet=True)
    with (
        locked(folder),
        pytest.raises(ValueError, match=r"the run in .* is being trained by another process"),
    ):
        train(tiny, out=folder, resume="auto", quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty; name a new one"):
        train(tiny, out=tmp_path / "mine", resume="auto", quiet=True)
    (folder / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe.json is damaged: "):
        train(tiny, out=folder, resume="auto", quiet=True)


@pytest.mark.parametrize("damage", [lambda d: d[:-1000], lambda d: b"", lambda d: b"text"])
def test_a_damaged_state_is_one_line(damage, tiny, tmp_path, monkeypatch):
    from xnets.train._writer import RunWriter

    end = RunWriter.on_train_epoch_end

    def broken(self, trainer, module):
        end(self, trainer, module)
        raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "on_train_epoch_end", broken)
        with pytest.raises(MemoryError):
            train(tiny, out=tmp_path, quiet=True)
    path = tmp_path / "resume.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"^{path} is damaged: .* remove it to begin anew$") as e:
        train(tiny, out=tmp_path, resume="auto", quiet=True)
    assert "\n" not in str(e.value)


def test_a_full_disk_while_training_names_the_file(tiny, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if "resume" in path.name:
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/resume.ckpt'"):
            train(tiny, out=tmp_path, quiet=True)
    assert not list(tmp_path.glob(".*"))
    train(tiny, out=tmp_path, resume="auto", quiet=True)  # there is room again


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser mounts"
)
@pytest.mark.parametrize("size", ["120k", "400k"])
def test_a_truly_full_disk_is_one_line(size, tmp_path):
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(tmp_path / "disk")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        out = str(tmp_path / "disk" / "run")
        command = [sys.executable, "-m", "xnets", "train", "digits", "--epochs", "3", "--out", out]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("xnets: error: No space left on device")


def test_a_diverged_run_diverges_again(tiny, tmp_path):
    recipe = dataclasses.replace(tiny, lr=1e30)
    for resume in (None, "auto"):
        with pytest.raises(DivergedError):
            train(recipe, out=tmp_path, resume=resume, quiet=True)
