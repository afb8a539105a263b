"""One call of an expander op: its arguments, checked once for every backend."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from xnets.ops._pattern import Pattern


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a linear (`spatial` = 0) or convolution op.

    Args:
        input: (..., num_in) for linear; ([batch,] num_in, *size) for convolution.
        weight: (num_edges, 1) for linear; (num_edges, *kernel_size) for convolution.
        bias: (num_out,) or None.
        pattern: The graph.
        spatial: Number of spatial dimensions: 0 for linear, else 1, 2 or 3.
        stride: One int a spatial dimension.
        padding: One int a spatial dimension, of zeros on both sides.
        dilation: One int a spatial dimension.
        groups: torch's `groups`; the graph's edges stay within their group.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    pattern: Pattern
    spatial: int
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def channel_dim(self) -> int:
        """The dimension of `input` that the graph's inputs lie along, counted from the end."""
        return -1 - self.spatial

    def dense_macs(self) -> int:
        """Multiply-accumulates of torch's own op with a dense weight, about: padding counts."""
        pattern = self.pattern
        positions = self.input.numel() // pattern.num_in / math.prod(self.stride)
        taps = math.prod(self.weight.shape[1:])
        return int(positions * pattern.num_in // self.groups * pattern.num_out * taps)

    def run_dense(self, dense: Tensor) -> Tensor:
        """Torch's own op with a dense weight, (num_out, num_in / groups, *kernel_size)."""
        if self.spatial == 0:
            return F.linear(self.input, dense.squeeze(-1), self.bias)
        conv = (F.conv1d, F.conv2d, F.conv3d)[self.spatial - 1]
        return conv(
            self.input, dense, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def check(self) -> None:
        """Raise a clear error if the tensors do not fit one another."""
        if not isinstance(self.input, Tensor):
            raise TypeError(f"`input` must be a torch.Tensor, got {type(self.input).__name__}")
        self._check_shapes()
        self._check_dtypes_and_devices()

    def _check_shapes(self) -> None:
        pattern, shape = self.pattern, tuple(self.input.shape)
        if self.spatial and len(shape) not in (self.spatial + 1, self.spatial + 2):
            raise ValueError(
                f"`input` (shape {shape}) must have {self.spatial + 2} dimensions, or "
                f"{self.spatial + 1} without a batch"
            )
        if not shape or shape[self.channel_dim] != pattern.num_in:
            what = "channels" if self.spatial else "features"
            raise ValueError(
                f"`input` (shape {shape}) must have {pattern.num_in} {what} in dimension "
                f"{self.channel_dim}, one for each input of the graph"
            )
        expected = (pattern.num_edges,) + (tuple(self.weight.shape[1:]) if self.spatial else (1,))
        if tuple(self.weight.shape) != expected or self.weight.dim() != max(1, self.spatial) + 1:
            kernel = ", ".join(["kernel size"] * self.spatial) or "1"
            raise ValueError(
                f"`weight` (shape {tuple(self.weight.shape)}) must have shape "
                f"({pattern.num_edges}, {kernel}): one row for each edge of the graph"
            )
        if self.bias is not None and tuple(self.bias.shape) != (pattern.num_out,):
            raise ValueError(
                f"`bias` (shape {tuple(self.bias.shape)}) must have shape ({pattern.num_out},)"
            )

    def _check_dtypes_and_devices(self) -> None:
        others = {"weight": self.weight, "bias": self.bias}
        for name, tensor in others.items():
            if tensor is None:
                continue
            if tensor.device != self.input.device:
                raise ValueError(
                    f"`input` is on {self.input.device}, but `{name}` is on {tensor.device}; "
                    "move one with .to(device)"
                )
            same = tensor.dtype == self.input.dtype
            if not same and not torch.is_autocast_enabled(self.input.device.type):
                raise ValueError(
                    f"`input` is {self.input.dtype}, but `{name}` is {tensor.dtype}; "
                    "convert one with .to(dtype), or use torch.autocast"
                )
        if self.pattern.indices.device != self.input.device:
            raise ValueError(
                f"`input` is on {self.input.device}, but the graph's index tensors are on "
                f"{self.pattern.indices.device}; move one with .to(device)"
            )
