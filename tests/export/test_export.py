"""Exported models compute the same, elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import xnets
from xnets.export import lower, to_onnx, to_program
from xnets.nn import ExpanderConv1d, ExpanderConv2d, ExpanderConv3d, ExpanderLayer, ExpanderLinear

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def irregular(num_in, num_out, block=(1, 1)):
    return xnets.graphs.make_graph("random_fan_out", num_in, num_out, compression=4, block=block)


def empty(num_in, num_out):
    return xnets.graphs.BipartiteGraph.from_mask(np.zeros((num_out, num_in), dtype=bool))


LAYERS = {
    "linear": (lambda: ExpanderLinear(16, 12, compression=4), (5, 16)),
    "linear of sequences": (lambda: ExpanderLinear(16, 12, degree=4, block=(4, 2)), (3, 7, 16)),
    "linear, no bias": (lambda: ExpanderLinear(16, 12, compression=4, bias=False), (5, 16)),
    "linear, irregular": (lambda: ExpanderLinear(16, 12, graph=irregular(16, 12)), (5, 16)),
    "linear, no edges": (lambda: ExpanderLinear(4, 4, graph=empty(4, 4)), (5, 4)),
    "conv1d": (lambda: ExpanderConv1d(8, 4, 3, padding="same", degree=2), (3, 8, 9)),
    "conv2d": (
        lambda: ExpanderConv2d(8, 12, 3, stride=2, padding=1, degree=2, block=(4, 1)),
        (3, 8, 9, 9),
    ),
    "conv2d, circular": (
        lambda: ExpanderConv2d(8, 4, 3, padding=1, padding_mode="circular", degree=2),
        (3, 8, 9, 9),
    ),
    "conv2d, even kernel": (
        lambda: ExpanderConv2d(8, 4, 4, padding="same", dilation=2, degree=2),
        (3, 8, 9, 9),
    ),
    "conv2d, groups": (lambda: ExpanderConv2d(8, 12, 3, groups=2, degree=2), (3, 8, 9, 9)),
    "conv2d, irregular": (
        lambda: ExpanderConv2d(8, 12, 3, graph=irregular(8, 12, (2, 2))),
        (3, 8, 9, 9),
    ),
    "conv3d": (lambda: ExpanderConv3d(4, 6, 3, degree=2, bias=False), (3, 4, 5, 5, 5)),
}


def run_onnx(path, *inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    outputs = [torch.from_numpy(y) for y in session.run(None, fed)]
    return outputs if len(outputs) > 1 else outputs[0]


def floats_in(path):
    graph = onnx.load(path).graph
    return sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == 1)


@pytest.mark.parametrize("lowering", ["dense", "gather"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_lowered(name, lowering):
    make, shape = LAYERS[name]
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    lowered = lower(layer, lowering)
    assert not any(isinstance(m, ExpanderLayer) for m in lowered.modules())
    torch.testing.assert_close(lowered(x), layer(x))
    params = sum(p.numel() for p in lowered.parameters())
    if lowering == "gather":
        assert params == sum(p.numel() for p in layer.parameters())
    shared = {p.data_ptr() for p in layer.parameters() if p.numel()}
    assert not any(p.data_ptr() in shared for p in lowered.parameters())


class Several(nn.Module):
    """Layers side by side, each with an input of its own: one export for all of them."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, a, b, c, d):
        return tuple(f(x) for f, x in zip(self.layers, (a, b, c, d), strict=True))


@pytest.mark.parametrize("lowering", ["dense", "gather"])
def test_every_kind_of_layer_in_onnxruntime(lowering, tmp_path):
    names = ["linear", "linear, irregular", "conv2d", "conv2d, irregular"]
    model = Several(*(LAYERS[name][0]() for name in names))
    inputs = [torch.randn(3, *LAYERS[name][1][1:]) for name in names]
    path = tmp_path / "l.onnx"
    to_onnx(model, tuple(x[:1] for x in inputs), path, lowering=lowering)
    for name, ours, theirs in zip(names, model(*inputs), run_onnx(path, *inputs), strict=True):
        torch.testing.assert_close(theirs, ours.detach(), msg=name)


@pytest.mark.parametrize("lowering", ["dense", "gather"])
def test_a_network_in_onnxruntime(lowering, tmp_path):
    model = xnets.create_model("convnet", compression=4, block=(4, 1), width=16, stages=2)
    randomise_norms(model)
    x = torch.rand(5, 1, 12, 12)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    to_onnx(model, x[:1], tmp_path / "m.onnx", lowering=lowering)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for batch in (1, 5):
        torch.testing.assert_close(
            run_onnx(tmp_path / "m.onnx", x[:batch]), model.eval()(x[:batch]).detach()
        )
    # The exporter folds batch norms away: scale and shift become one bias.
    dense = sum(p.numel() for p in xnets.create_model("convnet", width=16, stages=2).parameters())
    kept = {"gather": sum(p.numel() for p in model.parameters()), "dense": dense}[lowering]
    assert 0.95 * kept < floats_in(tmp_path / "m.onnx") <= kept
    kinds = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert kinds <= {"Conv", "Relu", "ReduceMean", "Gemm", "Gather"}
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def randomise_norms(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)


def test_a_fixed_batch_and_two_inputs(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = ExpanderLinear(8, 8, degree=2)

        def forward(self, a, b):
            return self.layer(a) + b

    a, b = torch.randn(1, 8), torch.randn(1, 8)
    model = Two()
    to_onnx(model, (a, b), tmp_path / "t.onnx", lowering="gather", dynamic_batch=False)
    torch.testing.assert_close(run_onnx(tmp_path / "t.onnx", a, b), model(a, b).detach())
    with pytest.raises(Exception, match="Got invalid dimensions"):
        run_onnx(tmp_path / "t.onnx", torch.randn(2, 8), torch.randn(2, 8))


def test_shared_layers_and_a_layer_alone():
    net = nn.Sequential(ExpanderLinear(8, 8, degree=2))
    net.append(net[0])
    lowered = lower(net, "gather")
    assert lowered[0] is lowered[1]
    assert isinstance(lower(net[0], "dense"), nn.Linear)


LOADS = """
import sys, torch
x, y = torch.load("xy.pt", weights_only=True)

def check(lowering):
    program = torch.export.load(f"{lowering}.pt2")
    torch.testing.assert_close(program.module()(x), y)

check("dense")
check("gather")
assert "xnets" not in sys.modules
import xnets
check("custom")
print("done")
"""


def test_programs_run_in_another_process(tmp_path):
    """Lowered ones where xnets is not imported, those with our kernels after it is."""
    model = xnets.create_model("convnet", compression=4, width=16, stages=2, depth=1)
    randomise_norms(model)
    x = torch.rand(5, 1, 12, 12)
    with torch.no_grad():
        torch.save((x, model.eval()(x)), tmp_path / "xy.pt")
    for lowering in ("dense", "gather", "custom"):
        program = to_program(model.train(), x[:1], tmp_path / f"{lowering}.pt2", lowering=lowering)
        assert model.training
        targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert ("xnets.cpu.default" in targets) == (lowering == "custom")
    run = subprocess.run(
        [sys.executable, "-c", LOADS],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            "PYTHONPATH": str(Path(xnets.__file__).parents[1]),
            "PATH": "",
            **{k: v for k, v in os.environ.items() if k == "XNETS_CPU_LIBRARY"},
        },
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "done"


def test_a_backend_that_was_chosen_stays(tmp_path):
    layer = ExpanderLinear(8, 8, degree=2, backend="masked")
    program = to_program(nn.Sequential(layer), torch.rand(2, 8), lowering="custom")
    assert "xnets.cpu.default" not in {str(node.target) for node in program.graph.nodes}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x, p: to_onnx(m, x, p, lowering="sparse"), ValueError, "unknown lowering 'spar"),
        (lambda m, x, p: to_onnx(m, x, p, lowering="custom"), ValueError, "known: dense, gather"),
        (to_onnx, TypeError, "missing 1 required keyword.*'lowering'"),
        (lambda m, x, p: to_program(m, x, lowering="gathr"), ValueError, "did you mean 'gather'"),
        (
            lambda m, x, p: to_program(3, x, lowering="custom"),
            TypeError,
            "torch.nn.Module, got int",
        ),
        (
            lambda m, x, p: to_program(m, x, p / "no" / "m.pt2", lowering="dense"),
            OSError,
            r"No such file or directory: '.*no/m.pt2'",
        ),
        (lambda m, x, p: lower("m", "dense"), TypeError, "must be a torch.nn.Module, got str"),
        (
            lambda m, x, p: to_program(m.double(), x.double(), lowering="custom"),
            ValueError,
            "float",
        ),
    ],
)
def test_wrong_calls(call, error, message, tmp_path):
    with pytest.raises(error, match=message):
        call(ExpanderLinear(8, 8, degree=2), torch.rand(1, 8), tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["auto", "cpu", "gather", "masked"])
def test_compiles_without_graph_breaks(backend):
    """Both kinds of layers in one network, as compiling is what takes time."""
    options = {"degree": 4, "block": (2, 1), "backend": backend}
    model = nn.Sequential(
        ExpanderConv2d(8, 16, 3, padding=1, stride=2, **options),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        ExpanderLinear(256, 4, **options),
    )
    check_compiled(model, torch.rand(2, 8, 8, 8), "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("mlp", (1, 8, 8)), ("convnet", (1, 16, 16)), ("mobilenet", (3, 32, 32))],
)
@pytest.mark.parametrize("backend", ["auto", "cpu", "gather", "masked"])
def test_networks_compile_without_graph_breaks(name, size, backend):
    model = xnets.create_model(name, compression=4, backend=backend, num_classes=4)
    check_compiled(model, torch.rand(2, *size), "aot_eager")


@pytest.mark.slow
def test_compiles_with_inductor():
    model = xnets.create_model("convnet", compression=4, width=16, stages=2, num_classes=4)
    check_compiled(model, torch.rand(2, 1, 16, 16), "inductor")


def check_compiled(model, x, backend):
    """One training step and one inference, compiled as one graph, against eager."""
    import copy

    torch._dynamo.reset()
    eager = copy.deepcopy(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for net in (compiled, eager):
        net(x).square().sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(compiled.eval()(x), eager.eval()(x), rtol=1e-4, atol=1e-5)
