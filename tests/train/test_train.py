"""Training: what a run leaves, that it can be repeated, and what stops it before it starts."""

import csv
import dataclasses
import json
import os
import re

import pytest
import torch

from xnets.count import count
from xnets.models import create_model
from xnets.train import DivergedError, evaluate, load_checkpoint, train


def test_the_run_folder_is_complete(tiny_run):
    names = {p.name for p in tiny_run.folder.iterdir()}
    assert names == {
        "result.json",
        "recipe.json",
        "metrics.csv",
        "checkpoint.ckpt",
        "curve.png",
        "tensorboard",
    }
    assert (tiny_run.folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_result_json(tiny_run, tiny):
    result = json.loads((tiny_run.folder / "result.json").read_text())
    assert result["test_accuracy"] == tiny_run.test_accuracy
    assert result["seed"] == tiny.seed
    assert result["command"] == "xnets tiny"
    assert result["recipe"] == tiny.to_dict()
    assert set(result["versions"]) == {"python", "xnets", "torch", "lightning", "numpy"}
    assert 0 < result["seconds"] < 600
    image = torch.zeros(1, 1, 8, 8)
    for size, compression in ((result, 4), (result["dense"], 1)):
        model = create_model("convnet", compression=compression, **tiny.model_args)
        counted = count(model, image)
        for name in ("params", "macs", "bytes", "edges"):
            assert size[name] == getattr(counted, name)
    assert (result["layers"], result["expander_layers"]) == (4, 2)
    assert (result["dense"]["layers"], result["dense"]["expander_layers"]) == (4, 0)


def test_metrics_csv(tiny_run, tiny):
    with (tiny_run.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "lr",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["test_accuracy"]) == pytest.approx(tiny_run.test_accuracy, abs=1e-6)
    assert float(rows[0]["lr"]) > float(rows[1]["lr"]) > 0
    assert float(rows[0]["train_loss"]) > float(rows[1]["train_loss"])


def test_tensorboard_has_the_metrics(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tiny_run.folder / "tensorboard")).Reload()
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Scalars("test_accuracy")[-1].value == pytest.approx(tiny_run.test_accuracy)


def test_the_same_seed_gives_the_same_network(tiny_run, tiny, tmp_path):
    torch.rand(3)  # whatever the global generator did before
    again = train(tiny, out=tmp_path / "again", quiet=True)
    other = train(dataclasses.replace(tiny, seed=1), out=tmp_path / "other", quiet=True)
    assert again.test_accuracy == tiny_run.test_accuracy
    metrics = [
        (folder / "metrics.csv").read_text()
        for folder in (tiny_run.folder, again.folder, other.folder)
    ]
    assert metrics[0] == metrics[1]
    assert metrics[0] != metrics[2]


def test_the_global_random_state_is_left_alone(tiny, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    train(dataclasses.replace(tiny, epochs=1), out=tmp_path, quiet=True)
    assert torch.equal(torch.rand(4), expected)


def test_small_parameters_have_no_weight_decay(tiny):
    from xnets.train.module import Classifier

    model = create_model("convnet", compression=4, **tiny.model_args)
    module = Classifier(model, tiny, num_classes=10)
    module._trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    decayed, exempt = module.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == tiny.weight_decay
    assert exempt["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in exempt["params"])
    both = [*decayed["params"], *exempt["params"]]
    assert {id(p) for p in both} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    "changes",
    [
        {"compression": 1},
        {"family": "shuffled", "block": (2, 2), "compression": 2},
        {"backend": "gather"},
        {"model": "mlp", "model_args": {"width": 32, "depth": 1}},
    ],
    ids=["dense", "family and block", "gather", "mlp"],
)
def test_other_networks_train_too(changes, tiny, tmp_path):
    recipe = dataclasses.replace(tiny, epochs=1, **changes)
    result = train(recipe, out=tmp_path / "run", quiet=True)
    assert evaluate(result.folder) == result.test_accuracy
    assert (result.size.params < result.dense.params) == (recipe.compression > 1)


def test_fashion_mnist_trains_from_a_folder(fashion_dir, tiny, tmp_path):
    recipe = dataclasses.replace(tiny, dataset="fashion-mnist", flip=True, batch_size=20, epochs=1)
    result = train(recipe, out=tmp_path / "run", data_dir=fashion_dir, quiet=True)
    assert evaluate(result.folder, data_dir=fashion_dir) == result.test_accuracy


def test_a_run_that_diverges_says_so_and_keeps_no_such_network(tiny, tmp_path):
    recipe = dataclasses.replace(tiny, lr=1e30)
    with pytest.raises(
        DivergedError, match=r"^training diverged in epoch 1 of 2: the loss is nan; "
    ):
        train(recipe, out=tmp_path, quiet=True)
    assert {p.name for p in tmp_path.iterdir()} == {"recipe.json", "metrics.csv", "tensorboard"}
    with pytest.raises(ValueError, match=r"is no finished run"):
        evaluate(tmp_path)


def test_a_run_that_diverges_late_keeps_the_last_good_network(tiny, tmp_path, monkeypatch):
    from xnets.train.module import Classifier

    step = Classifier.training_step

    def breaks(self, batch, batch_idx):
        images, labels = batch
        factor = 1 if self.current_epoch == 0 else float("nan")
        return step(self, (images * factor, labels), batch_idx)

    monkeypatch.setattr(Classifier, "training_step", breaks)
    with pytest.raises(DivergedError, match=r"epoch 2 of 3: .* lower `lr` \(=0.02\)$") as caught:
        train(dataclasses.replace(tiny, epochs=3), out=tmp_path, quiet=True)
    assert caught.value.epoch == 2
    assert load_checkpoint(tmp_path).epoch == 1
    assert evaluate(tmp_path) > 0


def test_progress_has_a_line_per_epoch_on_standard_error(tiny, tmp_path, capsys):
    train(tiny, out=tmp_path, device="cpu")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, *lines = captured.err.splitlines()
    assert first.startswith("tiny: convnet with 738 parameters, ")
    assert first.endswith(f" times fewer than dense, on cpu; run folder {tmp_path}")
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_long_epochs_show_progress_in_a_file(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xnets.train._progress.SECONDS", 0.0)
    train(dataclasses.replace(tiny, batch_size=512), out=tmp_path, device="cpu")
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [line.split("  ")[:2] for line in lines if "step" in line] == [
        [f"epoch {epoch}/2", f"step {step}/2"] for epoch in (1, 2) for step in (1, 2)
    ]
    assert all(
        re.search(r"loss \d\.\d{4}  0:00:\d\d left$", line) for line in lines if "step" in line
    )


def test_a_path_that_is_not_utf8_is_refused(tiny, tmp_path):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff")
    with pytest.raises(ValueError, match=r"run-\\xff must have a name in UTF-8") as caught:
        train(tiny, out=out, quiet=True)
    str(caught.value).encode()
    assert not os.path.exists(out)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"device": "tpu"}, r"`device` \(='tpu'\) must be one of auto, cpu, cuda"),
        ({}, {"data_dir": "x"}, r"the digits come with scikit-learn"),
        (
            {"batch_size": 1438},
            {},
            r"`batch_size` \(=1438\) must be between 1 and the number of training",
        ),
        ({"block": (5, 5)}, {}, r"no layer of model 'convnet' can be thinned so: `block`"),
        ({"compression": 1000}, {}, r"can be thinned so: too small"),
        ({"model_args": {"width": -3}}, {}, r"`width` \(=-3\) must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_done_leaves_no_folder(changes, arguments, message, tiny, tmp_path):
    recipe = dataclasses.replace(tiny, **changes)
    with pytest.raises(ValueError, match=message):
        train(recipe, out=tmp_path / "run", quiet=True, **arguments)
    assert not (tmp_path / "run").exists()


def test_a_full_folder_is_refused_before_training(tiny, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty; name a new one"):
        train(tiny, out=tmp_path, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"`device` \(='cuda'\) is not available"):
        train(tiny, out=tmp_path, device="cuda")


def test_an_epoch_is_announced_once_its_files_are_there(tiny, tmp_path, monkeypatch):
    from xnets.train._progress import EpochProgress

    seen = []
    monkeypatch.setattr(
        EpochProgress,
        "print_epoch",
        lambda self, trainer: seen.append(
            (trainer.current_epoch, load_checkpoint(tmp_path / "run").epoch)
        ),
    )
    train(dataclasses.replace(tiny, epochs=2), out=tmp_path / "run", quiet=True)
    assert seen == [(0, 1), (1, 2)]
