"""`xnets bench models` at tiny size. No test asserts a time."""

import copy
import csv
import importlib.util
import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import xnets
from xnets.bench import ModelsReport, model_peers
from xnets.bench._model_parity import (
    check_against_dense,
    compare_outputs,
    dense_twin,
    without_zeros,
)
from xnets.bench.models import ModelRow
from xnets.cli import app
from xnets.models import build_model, full_name, input_size
from xnets.ops import _dispatch

FAST = ["--seconds", "0.001", "--threads", 1]
ALONE = [*FAST, "--peers", "none"]


def invoke(*args):
    return CliRunner().invoke(app, ["bench", "models", *map(str, args)], prog_name="xnets")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    return tmp_path


def test_models(here):
    shown = invoke("--models", "mlp", "--batch", "2,3", "-C", 4, *ALONE)
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
    assert "(geometric mean of 2; at least" in shown.stdout


def test_torchvision_with_another_input(here):
    shown = invoke(
        "--models", "squeezenet1_1", "--input", "3x64x64", "--batch", 2,
        "--backends", "auto,masked", "--families", "grouped", "--blocks", "1x1", "--json", *ALONE,
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
    shown = invoke("--models", "mlp", "--batch", 2, "--backends", "bad,masked", *ALONE)
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
        (["--models", "mlp", "--peers", "tvm"], "unknown peer 'tvm'"),
    ],
)
def test_bad_options_give_one_line(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_graph_that_does_not_exist_is_said(here):
    shown = invoke(
        "--models", "mlp", "--batch", 1, "--blocks", "7x7", "--steps", "inference", *ALONE
    )
    assert shown.exit_code == 0
    assert "cannot: no layer of model 'mlp' can be thinned so" in shown.stdout


def rows_of(here):
    [path] = (here / "results").glob("*.csv")
    return list(csv.DictReader(path.read_text().splitlines()))


def test_peers(here, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(xnets, "optimize", lambda net, x: copy.deepcopy(net), raising=False)
    peers = ["onnxruntime", "grouped", "optimized"]
    if importlib.util.find_spec("openvino"):
        peers.insert(1, "openvino")
    shown = invoke("--models", "mlp", "--batch", 3, "--peers", ",".join(peers), *FAST)
    assert shown.exit_code == 0, shown.output
    rows = rows_of(here)
    assert {row["status"] for row in rows} == {"ok"}
    inference = {row["competitor"]: row for row in rows if row["step"] == "inference"}
    assert set(inference) == {"dense", "expander", "grouped-onnxruntime", *peers}
    assert {row["competitor"] for row in rows if row["step"] == "training"} == {
        "dense", "expander", "grouped",
    }  # fmt: skip
    dense, ort = inference["dense"], inference["onnxruntime"]
    assert ort["params"] == dense["params"]
    assert float(ort["error"]) < 1e-5
    # The ONNX file holds the weights, as the safetensors file does, and little else.
    assert int(ort["file_bytes"]) == pytest.approx(int(dense["file_bytes"]), rel=0.05)
    assert int(inference["grouped"]["params"]) == int(inference["expander"]["params"])
    assert "as ONNX Runtime" in shown.stdout


def test_means_are_ratios_of_the_same_case():
    def row(competitor, batch, ms, compression=1, **kind):
        return ModelRow(
            "inference", "net", "1x8x8", batch, 1, competitor, compression=compression, ms=ms,
            speedup=8 / ms, **kind,
        )  # fmt: skip

    ours = {"family": "random", "block_out": 4, "block_in": 1, "backend": "auto"}
    groups = {"family": "grouped", "block_out": 1, "block_in": 1}
    rows = [
        row("dense", 1, 8.0), row("onnxruntime", 1, 4.0), row("expander", 1, 2.0, 4, **ours),
        row("grouped", 1, 6.0, 4, **groups), row("grouped", 1, 99.0, 2, **groups),
        row("dense", 2, 8.0), row("onnxruntime", 2, 1.0), row("expander", 2, 2.0, 4, **ours),
        row("grouped-onnxruntime", 2, 3.0, 4, **groups),
    ]  # fmt: skip
    report = ModelsReport(tuple(rows), ())
    mean, grouped = report.means()[:2]
    assert (mean["competitor"], mean["cases"]) == ("expander", 2)
    assert mean["over_onnxruntime"] == pytest.approx((4 / 2 * 1 / 2) ** 0.5)
    assert mean["over_grouped"] == pytest.approx(3)  # of equal compression
    assert mean["over_grouped_onnxruntime"] == pytest.approx(1.5)
    assert mean["over_openvino"] is None
    assert (grouped["competitor"], grouped["over_grouped"]) == ("grouped", None)
    assert "C=4 random 4x1 auto: 4.00 times as fast as the faster dense layout" in str(report)
    assert "at least 4.00), 1.00 as ONNX Runtime, 3.00 as grouped, 1.50 as grouped in" in str(
        report
    )


@pytest.mark.slow
def test_compiled(here):
    shown = invoke("--models", "convnet", "--batch", 2, "--peers", "compiled", *FAST)
    assert shown.exit_code == 0, shown.output
    [compiled] = [row for row in rows_of(here) if row["competitor"] == "compiled"]
    assert compiled["status"] == "ok"
    assert float(compiled["ms"]) > 0


def test_a_missing_package_is_said(here, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        model_peers.importlib.util, "find_spec",
        lambda name: None if name in ("onnxruntime", "openvino") else find_spec(name),
    )  # fmt: skip
    shown = invoke(
        "--models", "mlp", "--batch", 2, "--steps", "inference",
        "--peers", "onnxruntime,openvino,optimized", *FAST,
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    status = {row["competitor"]: row["status"] for row in rows_of(here)}
    assert status["onnxruntime"] == ("cannot: onnxruntime not installed: pip install 'xnets[onnx]'")
    assert status["openvino"] == "cannot: openvino not installed: pip install 'xnets[bench]'"


def test_a_peer_that_computes_something_else_is_not_timed(here, monkeypatch):
    pytest.importorskip("onnxruntime")
    write = model_peers.to_onnx

    def write_another(model, *args, **kwargs):
        other = copy.deepcopy(model)
        with torch.no_grad():
            next(other.parameters()).mul_(1.01)
        write(other, *args, **kwargs)

    monkeypatch.setattr(model_peers, "to_onnx", write_another)
    shown = invoke(
        "--models", "mlp", "--batch", 2, "--steps", "inference", "--peers", "onnxruntime", *FAST
    )
    assert shown.exit_code == 1
    [row] = [row for row in rows_of(here) if row["competitor"] == "onnxruntime"]
    assert row["status"].startswith("wrong: the output is off by")
    assert row["ms"] == ""


def test_grouped_network():
    sparse = build_model("convnet", compression=5, block=(4, 1))
    grouped, definition = model_peers.grouped_network("convnet", sparse)
    layers = dict(grouped.named_modules())
    expanders = [n for n, m in sparse.named_modules() if isinstance(m, xnets.nn.ExpanderConv2d)]
    assert expanders
    for name in expanders:  # widths are powers of two: 4 is nearest to 5
        assert type(layers[name]) is nn.Conv2d
        assert layers[name].groups == 4
    x = torch.randn(2, 1, 28, 28)
    assert torch.allclose(grouped.eval()(x), definition.eval()(x), atol=1e-5)
    # Layers that share no divisor stay dense; nothing is left of such a network.
    alone = nn.Sequential(xnets.nn.ExpanderConv2d(7, 9, 3, degree=2))
    with pytest.raises(ValueError, match="no layer of model 'odd' can have groups"):
        model_peers.grouped_network("odd", alone)


def test_outputs_are_compared_by_shape_and_value():
    assert compare_outputs([torch.ones(2)], [torch.tensor([1.0, 1.1])])[1] != ""
    assert compare_outputs([torch.ones(2)], [torch.tensor([1.0, float("nan")])])[1] != ""
    assert "shapes" in compare_outputs(torch.ones(1), torch.ones(2))[1]


def test_heads_that_start_at_zero_hide_nothing():
    """Torchvision's vision transformers start so: any two of them give the same outputs."""
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    nn.init.zeros_(net[1].weight)
    before = net[0].weight.clone()
    assert without_zeros(net)(torch.randn(2, 8)).std() > 0.1
    assert torch.equal(net[0].weight, before)
