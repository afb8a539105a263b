"""The Triton backend as an operator of torch: compiled, exported, differentiated, captured."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ops.gpu_or_not import DEVICE, gradients
from tests.ops.operator_checks import (
    assert_cuda_graphs,
    assert_only_wanted_gradients,
    assert_second_derivatives,
    operator_arguments,
)
from tests.ops.triton_layers import LAYERS, SOME_LAYERS, build
from xnets.nn import ExpanderConv2d, ExpanderConv3d
from xnets.ops._triton import operator


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
    assert_cuda_graphs(*build(name))


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
    assert_second_derivatives(*build(name), "triton")


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_makes_only_the_gradients_that_are_wanted(frozen: str) -> None:
    assert_only_wanted_gradients(*build("linear"), frozen)


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
