"""`xnets bench models` at tiny size. No test asserts a time."""

import csv
import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import xnets
from xnets.bench._model_parity import check_against_dense, dense_twin
from xnets.cli import app
from xnets.models import build_model, full_name, input_size
from xnets.ops import _dispatch

FAST = ["--seconds", "0.001", "--threads", 1]


def invoke(*args):
    return CliRunner().invoke(app, ["bench", "models", *map(str, args)], prog_name="xnets")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    return tmp_path


def test_models(here):
    shown = invoke("--models", "mlp", "--batch", "2,3", "-C", 4, *FAST)
    assert shown.exit_code == 0, shown.output
    [path] = (here / "results").glob("*.csv")
    assert path.name.startswith(
        "models_mlp_inference-training_C-4_random_blocks-4x1_batch-2-3_threads-1_"
    )
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(r["step"], r["batch"]) for r in rows[::3]] == [
        ("inference", "2"), ("inference", "3"), ("training", "2"), ("training", "3"),
    ]  # fmt: skip
    for dense, last, sparse in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert (dense["layout"], last["layout"]) == ("", "channels_last")
        assert int(sparse["params"]) < int(dense["params"])
        assert int(sparse["macs"]) < int(dense["macs"])
        faster = min(float(dense["ms"]), float(last["ms"]))
        assert float(sparse["speedup"]) == pytest.approx(faster / float(sparse["ms"]), rel=1e-4)
        images = 1000 * int(sparse["batch"]) / float(sparse["ms"])
        assert float(sparse["images_per_second"]) == pytest.approx(images, rel=1e-4)
        assert sparse["input"] == "1x8x8"
    assert "(geometric mean of 2)" in shown.stdout


def test_torchvision_with_another_input(here):
    shown = invoke(
        "--models", "squeezenet1_1", "--input", "3x64x64", "--batch", 2,
        "--backends", "auto,masked", "--families", "grouped", "--blocks", "1x1", "--json", *FAST,
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    assert {row["status"] for row in data["rows"]} == {"ok"}
    assert [row["backend"] for row in data["rows"]] == [None, None, "auto", "masked"] * 2
    assert {mean["backend"] for mean in data["means"]} == {"auto", "masked"}
    assert "3x64x64" in data["files"][0]


def test_a_network_that_differs_is_reported_and_not_timed(here, monkeypatch):
    def run(call):
        return call.run_dense(xnets.ops.dense_weight(call.weight, call.pattern, call.groups)) + 0.1

    bad = _dispatch.Backend("bad", "wrong", run)
    monkeypatch.setattr(_dispatch, "BACKENDS", (*_dispatch.BACKENDS, bad))
    shown = invoke("--models", "mlp", "--batch", 2, "--backends", "bad,masked", *FAST)
    assert shown.exit_code == 1
    [path] = (here / "results").glob("*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for row in rows:
        if row["backend"] == "bad":
            assert row["status"].startswith("wrong: the output is off by")
            assert row["ms"] == ""
        else:
            assert row["status"] == "ok"
    assert "wrong: the output is off by" in shown.stdout


def test_wrong_gradients_are_found():
    net = nn.Sequential(
        nn.Linear(8, 8), xnets.nn.ExpanderLinear(8, 8, compression=2), nn.Linear(8, 2)
    )
    x = torch.randn(4, 8)
    assert check_against_dense(net, x, training=True)[1] == ""
    net[1].register_full_backward_hook(lambda module, grads, _: (grads[0] * 1.1,))
    assert check_against_dense(net, x, training=False)[1] == ""
    assert "the gradient to 0." in check_against_dense(net, x, training=True)[1]
    assert type(dense_twin(net)[1]) is nn.Linear


def test_names():
    assert full_name("convnet") == "convnet"
    assert full_name("torchvision:vgg11") == full_name("vgg11") == "torchvision:vgg11"
    assert full_name("vgg16") == "vgg16"  # ours
    assert input_size("X-MobileNet-0.5-8") == [3, 224, 224]
    assert input_size("convnet", {"in_channels": 2, "image_size": 5}) == [2, 5, 5]


def test_timm():
    pytest.importorskip("timm")
    assert input_size("timm:resnet10t") == [3, 176, 176]
    net = build_model("timm:resnet10t", compression=4, settings={"num_classes": 3})
    assert any(isinstance(m, xnets.nn.ExpanderConv2d) for m in net.modules())
    with pytest.raises(ValueError, match="unknown model 'timm:resnet10z'; did you mean"):
        full_name("timm:resnet10z")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "resnt50"], "unknown model 'resnt50'"),
        (["--models", "mlp", "--input", "8"], "cannot take"),
        (["--input", "a"], "`input` (='a') must be sizes without the batch"),
        (["--steps", "forward"], "unknown step 'forward'"),
        (["--batch", "0"], "`batches` (=0) must be at least 1"),
        (["--models", "mlp", "--backends", "x"], "unknown backend 'x'"),
    ],
)
def test_bad_options_give_one_line(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_graph_that_does_not_exist_is_said(here):
    shown = invoke(
        "--models", "mlp", "--batch", 1, "--blocks", "7x7", "--steps", "inference", *FAST
    )
    assert shown.exit_code == 0
    assert "cannot: no layer of model 'mlp' can be thinned so" in shown.stdout
