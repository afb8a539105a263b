"""What tests of backends for GPUs share, with a GPU at hand and without."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from xnets import ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and gradients of a layer, detached."""
    x = x.detach().requires_grad_()
    output = layer(x)
    seed = torch.linspace(-1, 2, output.numel(), device=x.device, dtype=output.dtype)
    grads = torch.autograd.grad(output, [x, *layer.parameters()], seed.view(output.shape))
    return [output.detach(), *grads]


class _OnCuda(Tensor):
    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def call_on_cuda(layer: nn.Module, size: tuple[int, ...]) -> ops.Call:
    """A call whose input says that it lies on a GPU, for the questions that read no value."""
    call = layer.call(torch.randn(size))
    return replace(call, input=call.input.as_subclass(_OnCuda))
