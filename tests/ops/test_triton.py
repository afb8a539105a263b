"""The Triton backend: precisions, what it cannot do, and when it should not.

Parity with the reference is in test_parity.py. Without a GPU all of it runs in Triton's interpreter
(conftest.py).
"""

from __future__ import annotations

import copy

import pytest
import torch

from tests.ops.gpu_or_not import DEVICE, call_on_cuda, gradients
from tests.ops.triton_layers import LAYERS, build
from xnets import ops
from xnets.nn import ExpanderConv2d, ExpanderLinear
from xnets.ops import _triton

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
    reasons = _triton.why_slow(call_on_cuda(layer, (2**17, 256)))
    if reason is None:
        assert not reasons
    else:
        assert len(reasons) == 1
        assert reason in reasons[0]


def test_auto_leaves_tiny_layers_alone() -> None:
    """What takes less time than launching: by the dense layer's work, strides counted."""
    linear = ExpanderLinear(256, 256, degree=64, block=(64, 32), dtype=torch.bfloat16)
    for rows, tiny in ((4, True), (2**17 - 1, True), (2**17, False)):
        reasons = _triton.why_slow(call_on_cuda(linear, (rows, 256)))
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
