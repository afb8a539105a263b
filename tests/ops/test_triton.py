"""The Triton backend: what torch asks of an operator, precisions, tables, large tensors, tiles.

Parity with the reference is in test_parity.py. Without a GPU all of it runs in Triton's interpreter
(conftest.py).
"""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import xnets
from xnets import ops
from xnets.graphs import make_graph
from xnets.nn import ExpanderConv1d, ExpanderConv2d, ExpanderConv3d, ExpanderLinear
from xnets.ops import _on_device, _transposed, _triton
from xnets.ops._triton import config, operator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and not _triton._INTERPRETED:
    pytest.skip("no GPU, and no interpreter (conftest.py)", allow_module_level=True)

LAYERS = {
    "linear": (
        lambda: ExpanderLinear(48, 64, degree=16, block=(32, 16), backend="triton"),
        (5, 48),
    ),
    "conv": (
        lambda: ExpanderConv2d(
            32, 16, (2, 3), degree=16, block=(16, 16), stride=(2, 1), padding=1, backend="triton"
        ),
        (2, 32, 3, 2),
    ),
    "shared lists": (
        lambda: ExpanderConv1d(20, 32, 2, degree=5, block=(16, 1), backend="triton"),
        (2, 20, 4),
    ),
}


# What torch itself takes seconds to look through: two kinds by default.
SOME_LAYERS = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "shared lists" else [])
    for name in LAYERS
]


def build(name: str) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[name]
    return make().to(DEVICE), torch.randn(shape, device=DEVICE)


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and gradients of a layer, detached."""
    x = x.detach().requires_grad_()
    output = layer(x)
    seed = torch.linspace(-1, 2, output.numel(), device=x.device, dtype=output.dtype)
    grads = torch.autograd.grad(output, [x, *layer.parameters()], seed.view(output.shape))
    return [output.detach(), *grads]


def operator_arguments(layer: nn.Module, x: Tensor) -> tuple[object, ...]:
    call = layer.call(x)
    pattern = call.pattern
    return (
        x.requires_grad_(),
        layer.weight,
        layer.bias,
        pattern.indptr,
        pattern.indices,
        [pattern.num_in, pattern.num_out, *pattern.block],
        list(call.stride),
        list(call.padding),
        list(call.dilation),
    )


# --- as an operator of torch ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own doing
@pytest.mark.parametrize("name", SOME_LAYERS)
def test_is_a_good_operator(name: str) -> None:
    """Schema, fake tensors, autograd and AOT dispatch, by torch's own check."""
    torch.library.opcheck(torch.ops.xnets.triton.default, operator_arguments(*build(name)))


@pytest.mark.parametrize("name", LAYERS)
def test_fake_tensors_have_the_strides_of_real_ones(name: str) -> None:
    layer, x = build(name)
    arguments = operator_arguments(layer, x)
    x, weight, _, *rest = arguments
    output = torch.ops.xnets.triton(*arguments)
    grads = torch.ops.xnets.triton_backward(output, x, weight, *rest, [True, True])
    mode = torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        fake = torch.ops.xnets.triton(*arguments)
        fakes = torch.ops.xnets.triton_backward(fake, x, weight, *rest, [True, True])
    for real, guess in zip((output, *grads), (fake, *fakes), strict=True):
        assert (real.shape, real.stride()) == (guess.shape, guess.stride())


@pytest.mark.parametrize("name", SOME_LAYERS)
def test_compiles_without_a_graph_break(name: str) -> None:
    layer, x = build(name)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in (x, torch.cat([x, x])):
        torch.testing.assert_close(gradients(compiled, batch), gradients(layer, batch))


def test_exports() -> None:
    layer, x = build("conv")
    program = torch.export.export(layer, (x,))
    assert "xnets.triton" in str(program.graph)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("name", LAYERS)
def test_cuda_graphs(name: str) -> None:
    """Compiled with CUDA graphs, and captured by hand before any table is known."""
    layer, x = build(name)
    compiled = torch.compile(layer, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        got = [t.clone() for t in gradients(compiled, x)]
    torch.testing.assert_close(got, gradients(layer, x))
    fresh = copy.deepcopy(layer)
    static = x.clone().requires_grad_()
    layer(static).sum().backward()  # compiles the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        (grad,) = torch.autograd.grad(fresh(static).sum(), static)
    graph.replay()
    torch.testing.assert_close(grad, torch.autograd.grad(layer(static).sum(), static)[0])


class NothingWaits(TorchDispatchMode):
    """Fails where the host would wait for a GPU, or a size would depend on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not any(word in name for word in self.WAITING), f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_nothing_waits_for_the_device(
    name: str, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward passes, the tables included: what a CUDA graph asks for."""
    from xnets.ops._triton import kernels

    layer, x = build(name)
    arguments = [t.detach() if isinstance(t, Tensor) else t for t in operator_arguments(layer, x)]
    x, weight, _, *rest = arguments
    output = operator._forward(*arguments)
    monkeypatch.setattr(operator, "padded_inputs_are_dense", lambda *_: dense)
    for kernel in ("gather_product", "gather_outer", "transpose_weight"):
        monkeypatch.setattr(kernels, kernel, MagicMock())  # interpreted, they read values
    rest[1] = rest[1].clone()  # a graph that nothing is known of
    with NothingWaits():
        with pytest.raises(AssertionError, match="waits for the device"):
            x.sum().item()
        operator._forward(*arguments)
        operator._backward(output, x, weight, *rest, [True, True])
    assert kernels.gather_product.__getitem__.called


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_second_derivatives(name: str) -> None:
    """The gradient of a gradient penalty, against `masked`."""
    layer, x = build(name)
    found = []
    for backend in ("triton", "masked"):
        layer.backend = backend
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(layer(leaf).pow(3).sum(), leaf, create_graph=True)
        grad.square().sum().backward()
        found.append([leaf.grad, layer.weight.grad.clone()])
        layer.zero_grad()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_makes_only_the_gradients_that_are_wanted(frozen: str) -> None:
    layer, x = build("linear")
    leaves = {"input": x, "weight": layer.weight, "bias": layer.bias}
    for key, leaf in leaves.items():
        leaf.requires_grad_(key != frozen)
    layer(x).square().sum().backward()
    assert {key for key, leaf in leaves.items() if leaf.grad is None} == {frozen}


def test_inference_tensors() -> None:
    with torch.inference_mode():
        layer, x = build("conv")
        output = layer(x)
        layer.backend = "masked"
        torch.testing.assert_close(output, layer(x))


def test_the_same_bits_every_time() -> None:
    for name in LAYERS:
        layer, x = build(name)
        first = gradients(layer, x)
        for _ in range(20 if DEVICE == "cuda" else 1):
            again = gradients(layer, x)
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_outputs_keep_the_channels_last() -> None:
    for layer, size in (
        (ExpanderConv2d(16, 16, 3, degree=16, block=(16, 16)), (2, 16, 5, 4)),
        (ExpanderConv3d(16, 16, 1, degree=16, block=(16, 16)), (2, 16, 2, 3, 2)),
    ):
        layer.to(DEVICE).backend = "triton"
        output, grad_x, *_ = gradients(layer, torch.randn(size, device=DEVICE))
        for tensor in (output, grad_x):
            assert tensor.movedim(1, -1).is_contiguous()


# --- precisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """As near to float32 as operands and results in low precision allow: sums are float32."""
    layer, x = build(name)
    layer, x = layer.to(dtype), x.to(dtype)
    exact = copy.deepcopy(layer).float()
    exact.backend = "masked"
    eps = torch.finfo(dtype).eps
    for got, expected in zip(gradients(layer, x), gradients(exact, x.float()), strict=True):
        assert got.dtype == dtype
        error = (got.float() - expected).norm() / expected.norm()
        assert error < eps, f"{float(error):.2g}"


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_autocast(name: str) -> None:
    """What a dense layer would return: low precision out, float32 gradients of the weights."""
    layer, x = build(name)
    expected = gradients(layer, x)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        got = gradients(layer, x)
    assert got[0].dtype == torch.bfloat16
    assert all(grad.dtype == torch.float32 for grad in got[1:])
    for a, b in zip(got, expected, strict=True):
        assert (a.float() - b).norm() / b.norm() < 2e-2


def test_torch_decides_on_tf32() -> None:
    from xnets.ops._triton import launch

    x = torch.zeros(1)
    for backend, convolution in (
        (torch.backends.cudnn.conv, True),
        (torch.backends.cuda.matmul, False),
    ):
        for word, expected in (("tf32", ("tf32", True)), ("ieee", ("ieee", False))):
            backend.fp32_precision = word
            assert launch.precision(x, convolution=convolution) == expected
            assert launch.precision(x.half(), convolution=convolution) == ("ieee", True)
        backend.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = True  # torch's default


# --- what it cannot do, and what it should not ---------------------------------------------------


def meta_call(layer: nn.Module, size: tuple[int, ...], **changes: object) -> ops.Call:
    """A call whose input says that it lies on a GPU, for the questions that read no value."""

    class OnCuda(torch.Tensor):
        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device("cuda")

    call = layer.call(torch.randn(size))
    return replace(call, input=call.input.as_subclass(OnCuda), **changes)


def test_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = build("linear")
    with pytest.raises(
        ValueError, match="it computes in float32, float16 or bfloat16, not float64"
    ):
        layer.double()(x.double())
    layer.float()
    with pytest.raises(ValueError, match=r"torch\.func and forward-mode derivatives"):
        torch.func.vmap(layer)(x[None])
    meta = copy.deepcopy(layer).to("meta")
    assert "it needs a CUDA device, and the input is on meta" in meta.explain(x.to("meta"))
    monkeypatch.setattr(_triton, "_INTERPRETED", False)
    layer, x = layer.cpu(), x.cpu()
    with pytest.raises(ValueError, match="it needs a CUDA device, and the input is on cpu"):
        layer(x)
    monkeypatch.setattr(_triton, "_INSTALLED", False)
    with pytest.raises(ValueError, match="Triton is not installed"):
        layer(x)
    layer.backend = "auto"
    assert layer(x).shape == (5, 64)


def test_a_kernel_larger_than_its_input() -> None:
    layer, x = build("shared lists")
    with pytest.raises(ValueError, match=r"kernel \(size \(2,\), .* larger than the padded input"):
        layer(x[..., :1])


@pytest.mark.parametrize(
    ("block", "degree", "dtype", "reason"),
    [
        ((64, 32), 64, torch.bfloat16, None),
        ((128, 16), 64, torch.bfloat16, None),
        ((32, 32), 32, torch.bfloat16, None),
        ((8, 8), 64, torch.bfloat16, "at least 16 outputs that share their inputs"),
        ((1, 1), 64, torch.bfloat16, "at least 16 outputs that share their inputs"),
        ((64, 1), 64, torch.bfloat16, "loads the inputs one by one"),
        ((64, 32), 192, torch.bfloat16, "nearly dense"),
        ((32, 32), 64, torch.bfloat16, "read 512 inputs at each position, dense kernels 512"),
        ((64, 32), 64, torch.float32, "float32 without TF32"),
    ],
)
def test_auto_takes_it_where_it_should_be_faster(
    block: tuple[int, int], degree: int, dtype: torch.dtype, reason: str | None
) -> None:
    layer = ExpanderLinear(256, 256, degree=degree, block=block, dtype=dtype)
    reasons = _triton.why_slow(meta_call(layer, (2**17, 256)))
    if reason is None:
        assert not reasons
    else:
        assert len(reasons) == 1
        assert reason in reasons[0]


def test_auto_leaves_tiny_layers_alone() -> None:
    """What takes less time than launching: by the dense layer's work, strides counted."""
    linear = ExpanderLinear(256, 256, degree=64, block=(64, 32), dtype=torch.bfloat16)
    for rows, tiny in ((4, True), (2**17 - 1, True), (2**17, False)):
        reasons = _triton.why_slow(meta_call(linear, (rows, 256)))
        assert any("launching it takes longer" in reason for reason in reasons) == tiny
    conv = ExpanderConv2d(64, 64, 3, stride=2, degree=16, block=(16, 16))
    assert conv.call(torch.randn(2, 64, 8, 8)).dense_macs() == 2 * 16 * 64 * 64 * 9


def test_autocast_leaves_float64_alone() -> None:
    layer, x = build("linear")
    with (
        torch.autocast(DEVICE, dtype=torch.bfloat16),
        pytest.raises(ValueError, match="float32, float16 or bfloat16, not float64"),
    ):
        layer.double()(x.double())


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_auto_compiles_in_float32(name: str) -> None:
    """Whether TF32 is on is asked while torch traces; torch 2.11 cannot trace the answer."""
    layer, x = build(name)
    layer.backend = "auto"
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_auto_on_a_gpu() -> None:
    x = torch.randn(4, 256, device="cuda", dtype=torch.bfloat16)
    for block, taken in (((64, 64), "triton"), ((1, 1), "masked")):
        layer = ExpanderLinear(256, 256, degree=64, block=block).to(x)
        assert f"-> {taken}" in layer.explain(x.expand(2**17, 256))
        assert "-> masked" in layer.explain(x)


def test_the_interpreter_is_never_auto() -> None:
    layer, x = build("linear")
    layer.backend = "auto"
    if DEVICE == "cpu":
        assert "slow: Triton's interpreter is for tests" in layer.explain(x)
        assert ops.choose(layer.call(x)).name != "triton"


# --- the transposed tables -----------------------------------------------------------------------


def test_transposed_tables() -> None:
    for family in ("random", "biregular", "random_fan_out"):
        graph = make_graph(family, 12, 20, degree=5, seed=3)
        indptr = torch.from_numpy(graph.indptr.copy()).int()
        indices = torch.from_numpy(graph.indices.copy()).int()
        tables = _transposed.transposed(indptr, indices, 12)
        edges = [(v, int(u)) for v in range(20) for u in indices[indptr[v] : indptr[v + 1]]]
        for u in range(12):
            entries = range(int(tables.indptr[u]), int(tables.indptr[u + 1]))
            assert [int(tables.indices[e]) for e in entries] == [v for v, w in edges if w == u]
            assert all(edges[int(tables.edges[e])] == (tables.indices[e], u) for e in entries)


def test_tables_follow_a_graph_that_changes() -> None:
    layer, x = build("linear")
    layer(x).sum().backward()
    for seed in (1, 2):
        graph = make_graph("random", 48, 64, degree=16, block=(32, 16), seed=seed)
        with torch.no_grad():  # in place, as DDP's first broadcast does
            layer.indices.copy_(torch.from_numpy(graph.indices.copy()))
        grad_x = gradients(layer, x)[1]
        layer.backend = "masked"
        torch.testing.assert_close(grad_x, gradients(layer, x)[1])
        layer.backend = "triton"


def test_tables_are_kept_and_die_with_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = len(_transposed.transposed)
    layer, x = build("linear")
    for _ in range(2):
        layer(x.requires_grad_()).sum().backward()
    assert len(_transposed.transposed) == before + 1
    monkeypatch.setattr(_transposed.transposed, "_compute_here", None)  # not needed again
    layer(x).sum().backward()
    del layer
    gc.collect()
    assert len(_transposed.transposed) == before


def test_tables_are_made_outside_of_graph_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another thread, whose errors arrive here (with stand-ins for CUDA's streams)."""
    stream = MagicMock()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    indices = torch.tensor([0])
    there = _on_device.outside_graph_pools(threading.current_thread, indices)
    assert there != threading.current_thread()
    stream.wait_event.assert_called_once()
    stream.synchronize.assert_called_once()
    with pytest.raises(ZeroDivisionError):
        _on_device.outside_graph_pools(lambda: 1 / 0, indices)


# --- how the kernels are launched ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "conv", "shared lists"])
def test_input_gradient_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the transposed graph, and through a dense weight where that is cheaper."""
    layer, x = build(name)
    found = []
    for dense in (True, False):
        monkeypatch.setattr(operator, "padded_inputs_are_dense", lambda *_, d=dense: d)
        found.append(gradients(layer, x)[1])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("rows", "splits"), [(400, 1), (800, 3)])
def test_split_sums(rows: int, splits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight gradient in one sum and in many."""
    layer = ExpanderLinear(16, 16, degree=16, block=(16, 16), backend="triton").to(DEVICE)
    x = torch.randn(rows, 16, device=DEVICE)
    monkeypatch.setattr(operator, "_processors", lambda device: 132)
    seen = []
    new_empty = Tensor.new_empty

    def spy(self: Tensor, *shape: int, **options: object) -> Tensor:
        seen.append(shape)
        return new_empty(self, *shape, **options)

    monkeypatch.setattr(Tensor, "new_empty", spy)
    got = gradients(layer, x)[2]
    assert next(shape[0] for shape in seen if len(shape) == 3) == splits
    layer.backend = "masked"
    torch.testing.assert_close(got, gradients(layer, x)[2], rtol=1e-4, atol=1e-3)


def test_any_tile_gives_the_same() -> None:
    layer, x = build("conv")
    layer.backend = "masked"
    expected = gradients(layer, x)
    layer.backend = "triton"
    for tile in (config.Tile(16, 16, 16, 4, 2), config.Tile(256, 128, 64, 8, 4, vector=4)):
        with config.forced(tile):
            torch.testing.assert_close(gradients(layer, x), expected, rtol=1e-4, atol=1e-4)
    assert config._forced is None


def test_tiles_fit_an_h100() -> None:
    """Operands in flight fit its shared memory (227 KiB), and no tile is beneath tl.dot's 16."""
    for itemsize in (2, 4):
        for side in (16, 17, 32, 48, 64, 100, 128, 256):
            for b_in in (1, 3, 16, 24, 64):
                for width in (16, 40, 512):
                    for rows in (1, 100, 200_000):
                        arguments = (rows, 8, (side, b_in), width, itemsize)
                        tile = config.product_tile(*arguments, fast=True)
                        assert tile.buffers * (tile.m + tile.n) * tile.k * itemsize <= 227 * 1024
                        assert min(tile.m, tile.n, tile.k) >= 16
                        assert b_in % tile.vector == 0
                        assert tile.n < 2 * side
                        outer = config.outer_tile(rows, (side, b_in), width, itemsize, fast=True)
                        assert (
                            outer.buffers * outer.m * (outer.n + outer.k) * itemsize <= 227 * 1024
                        )
                        assert min(outer.m, outer.n, outer.k) >= 16


# --- what the compiler makes of the kernels ------------------------------------------------------


@pytest.mark.slow
def test_compiles_for_hopper() -> None:
    """Triton compiles for a GPU that is not there: tensor cores, asynchronous copies, no spills."""
    script = Path(__file__).with_name("compile_for_hopper.py")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(xnets.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("ok") == 28, run.stdout
