"""Depthwise convolutions: torch's layer, on the kernels that know graphs of one input an output."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from xnets import ops
from xnets.nn._base import leaf_of_fx
from xnets.ops import _cpu
from xnets.ops._cpu_library import is_readable
from xnets.ops._eager import runs_eagerly


class DepthwiseConv2d(nn.Conv2d):
    """Torch's Conv2d with an input for each output, computed by xnets where that is faster.

    Parameters, files and arguments are torch's. `xnets.convert` makes its depthwise layers such
    ones, whose weights stay as they are: what surrounds thinned layers should not hold them up.
    The compiled kernels run 3x3 and 5x5 kernels of stride 1 and 2 in float32 on the CPU, in both
    directions; torch runs everything else, images in channels_last and whatever is compiled,
    exported or traced.

    Takes the arguments of torch.nn.Conv2d; `groups` must be `in_channels` for the kernels to run.

    Shape:
        - Input: (N, in_channels, H, W) or (in_channels, H, W).
        - Output: (N, out_channels, H', W') or (out_channels, H', W'), as in torch.

    Examples:
        >>> layer = DepthwiseConv2d(16, 16, 3, padding=1, groups=16)
        >>> x = torch.randn(2, 16, 9, 9)
        >>> torch.allclose(layer(x), torch.nn.Conv2d.forward(layer, x), atol=1e-6)
        True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve each channel with its kernels."""
        if isinstance(input, torch.fx.Proxy):
            return leaf_of_fx(self, input)
        weight, bias = self.weight, self.bias  # once: a parametrization computes them anew
        if not self._suits(input, weight, bias):
            output: Tensor = self._conv_forward(input, weight, bias)
            return output
        call = ops.Call(
            input,
            weight.squeeze(1),
            bias,
            _one_input_each(self.in_channels, self.out_channels),
            spatial=2,
            stride=self.stride,
            padding=self.padding,  # type: ignore[arg-type]
            dilation=self.dilation,
            groups=self.groups,
        )
        return ops.run(call)

    def _suits(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether the kernels know this call, and nobody must see torch's own op."""
        steps = (self.kernel_size, self.stride, self.padding, self.dilation)
        return (
            all(type(step) is tuple and len(step) == 2 for step in steps)
            and _cpu.has_windows(*steps)  # type: ignore[arg-type]
            and self.padding_mode == "zeros"
            and self.groups == self.in_channels
            and "_conv_forward" not in vars(self)
            and isinstance(input, Tensor)
            and runs_eagerly(input, weight, bias, despite_profiler=True)
            and not torch.is_autocast_enabled("cpu")
            and weight.shape == (self.out_channels, 1, *self.kernel_size)
            and (bias is None or bias.shape == (self.out_channels,))
            and all(t is None or is_readable(t) for t in (input, weight, bias))
            and input.dim() == 4
            and input.shape[1] == self.in_channels
            and min(input.shape[2:]) >= self.kernel_size[0]
            and input.is_contiguous()
        )


@lru_cache(maxsize=64)
def _one_input_each(num_in: int, num_out: int) -> ops.Pattern:
    with torch.inference_mode(False):  # whose tensors do not say whether they were written to
        outputs = torch.arange(num_out, dtype=torch.int32, device="cpu")
        indptr = torch.arange(num_out + 1, dtype=torch.int32, device="cpu")
        return ops.make_pattern(indptr, outputs // (num_out // num_in), num_in, num_out)


def torch_type(layer: nn.Module | None) -> type[Any]:
    """The type of a layer; of a `DepthwiseConv2d` torch's, as which it is converted and loaded."""
    return nn.Conv2d if type(layer) is DepthwiseConv2d else type(layer)


def run_depthwise(layer: nn.Module) -> bool:
    """Make a depthwise layer of torch's one of ours, where it is.

    Args:
        layer: Any module. Its parameters, hooks and whatever refers to it stay.

    Returns:
        Whether it is one now.

    Examples:
        >>> layer = nn.Conv2d(8, 16, 3, groups=8)
        >>> run_depthwise(layer), layer
        (True, DepthwiseConv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), groups=8))
    """
    if type(layer) is nn.Conv2d and layer.groups == layer.in_channels > 1:
        layer.__class__ = DepthwiseConv2d
    return isinstance(layer, DepthwiseConv2d)
