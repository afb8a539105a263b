"""Checkpoints: exact round trip, and files that are none."""

import os
import pickle
import shutil

import pytest
import torch

from xnets.nn import ExpanderLayer
from xnets.train import evaluate, load_checkpoint


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_a_run_folder_and_its_file_give_the_same_accuracy(tiny_run):
    assert evaluate(tiny_run.folder) == tiny_run.test_accuracy
    assert evaluate(tiny_run.folder / "checkpoint.ckpt") == tiny_run.test_accuracy


def test_a_checkpoint_holds_the_network_and_the_recipe(tiny_run, tiny):
    checkpoint = load_checkpoint(tiny_run.folder)
    assert checkpoint.recipe == tiny
    assert checkpoint.epoch == tiny.epochs
    assert not checkpoint.model.training
    assert sum(isinstance(m, ExpanderLayer) for m in checkpoint.model.modules()) == 2


def test_a_checkpoint_is_plain(tiny_run):
    values = torch.load(tiny_run.folder / "checkpoint.ckpt", weights_only=True)
    assert values["format"] == "xnets checkpoint 1"
    assert values["recipe"]["name"] == "tiny"


def test_the_pattern_comes_from_the_file_not_from_the_seed(tiny_run, tmp_path):
    def change(values):
        values["recipe"]["seed"] = 7

    assert evaluate(changed(tiny_run, tmp_path, change)) == tiny_run.test_accuracy


def changed(run, folder, change):
    values = torch.load(run.folder / "checkpoint.ckpt", weights_only=True)
    change(values)
    torch.save(values, folder / "changed.ckpt")
    return folder / "changed.ckpt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("recipe"), r"is not an xnets checkpoint: it lacks recipe"),
        (lambda v: v.pop("format"), r"does not say that its format is 'xnets checkpoint 1'"),
        (lambda v: v.update(format="other"), r"does not say that its format is"),
        (lambda v: v.update(recipe=3), r"is a damaged checkpoint: "),
        (lambda v: v.update(data=[]), r"is a damaged checkpoint: "),
        (lambda v: v.update(state_dict=None), r"is a damaged checkpoint: "),
        (lambda v: v["recipe"].pop("epochs"), r"damaged checkpoint: .*'epochs'"),
        (lambda v: v["recipe"].update(epochs=0), r"damaged checkpoint: `epochs` \(=0\) must be"),
        (lambda v: v["recipe"].update(extra=0), r"damaged checkpoint: .*'extra'"),
        (lambda v: v["recipe"].update(model="vgg99"), r"unknown model 'vgg99'"),
        (lambda v: v["recipe"]["model_args"].update(width=16), r"damaged checkpoint: "),
        (lambda v: v["state_dict"].popitem(), r"damaged checkpoint: .*Missing key"),
    ],
)
def test_changed_checkpoints(change, message, tiny_run, tmp_path):
    path = changed(tiny_run, tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(path)
    caught.match(f"^{path} is ")
    assert "\n" not in str(caught.value)


def truncated(run):
    return (run.folder / "checkpoint.ckpt").read_bytes()[:-1000]


def flipped(run):
    data = bytearray((run.folder / "checkpoint.ckpt").read_bytes())
    middle = data.index(b"data.pkl") + 100
    data[middle : middle + 60] = bytes(60)
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda run: b"",
        lambda run: bytes(range(256)) * 10,
        lambda run: b"PK\x03\x04 looks like a zip file",
        lambda run: pickle.dumps({"format": "xnets checkpoint 1"}),
        lambda run: pickle.dumps(RunsCode()),
        truncated,
        flipped,
    ],
    ids=["empty", "random", "zip-like", "pickle", "pickle with code", "truncated", "flipped"],
)
def test_bytes_that_are_no_checkpoint(make, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.ckpt").write_bytes(make(tiny_run))
    with pytest.raises(ValueError, match=r"^file.ckpt is not an xnets checkpoint: ") as caught:
        evaluate("file.ckpt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "value",
    [RunsCode(), torch.nn.Linear(2, 2), {"weight": torch.zeros(2)}, torch.zeros(2), {}],
    ids=["code", "module", "state_dict", "tensor", "empty dict"],
)
def test_torch_files_that_are_no_checkpoint(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(value, tmp_path / "file.ckpt")
    with pytest.raises(ValueError, match=r"^file.ckpt is not an xnets checkpoint: "):
        evaluate("file.ckpt")
    assert not (tmp_path / "owned").exists()


def test_places_without_a_checkpoint(tmp_path, tiny_run):
    with pytest.raises(ValueError, match=rf"^no such file or folder: {tmp_path}/none$"):
        evaluate(tmp_path / "none")
    with pytest.raises(ValueError, match=rf"^{tmp_path} is no finished run: it holds no checkp"):
        evaluate(tmp_path)
    with pytest.raises(ValueError, match=rf"^{os.devnull} is neither a file nor a folder$"):
        evaluate(os.devnull)
    shutil.copy(tiny_run.folder / "result.json", tmp_path)
    with pytest.raises(ValueError, match=r"result.json is not an xnets checkpoint"):
        evaluate(tmp_path / "result.json")
