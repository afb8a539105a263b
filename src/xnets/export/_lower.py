"""A copy of a model in torch's own layers: what runs where xnets is not installed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xnets._suggest import unknown_name
from xnets.nn import ExpanderLayer, ExpanderLinear
from xnets.ops import gathered

LOWERINGS = ("dense", "gather")


def lower(model: nn.Module, lowering: str) -> nn.Module:
    """Copy a model with torch's own operations in place of its expander layers.

    Args:
        model: Any module; it is not changed.
        lowering: "dense": torch's dense layers, with zeros off the graphs. Fast wherever dense
            kernels are, but as large as the dense network. "gather": Algorithm 1 of the paper:
            select each output's inputs, then a grouped convolution (for linear layers a batch of
            small products). Keeps the number of weights; an irregular graph also stores where each
            weight goes.

    Returns:
        A copy without expander layers, in the mode of `model`.

    Raises:
        ValueError: If the lowering is unknown.
        TypeError: If `model` is no module.

    Examples:
        >>> import torch, xnets
        >>> model = xnets.create_model("mlp", compression=4).eval()
        >>> sum(p.numel() for p in lower(model, "gather").parameters())
        53258
        >>> sum(p.numel() for p in lower(model, "dense").parameters())
        151562
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    if lowering not in LOWERINGS:
        raise ValueError(unknown_name("lowering", lowering, LOWERINGS))
    # What deepcopy finds in its memo it does not copy: every reference to a layer is exchanged.
    memo: dict[int, Any] = {}
    for layer in model.modules():
        if isinstance(layer, ExpanderLayer):
            memo[id(layer)] = _dense(layer) if lowering == "dense" else _Gathered(layer)
    lowered: nn.Module = copy.deepcopy(model, memo)
    return lowered


def _dense(layer: Any) -> nn.Module:
    dense: nn.Module = layer.to_dense()
    return dense


class _Gathered(nn.Module):
    """One expander layer as a selection of inputs and a grouped convolution."""

    inputs: Tensor
    kernels: Tensor | None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.is_linear = isinstance(layer, ExpanderLinear)
        inputs, kernels = gathered(layer.pattern)
        self.groups, self.num_out = layer.pattern.base_num_out, layer.num_out
        weight = layer.weight.detach().clone()
        self.register_buffer("inputs", inputs)
        if kernels is None:
            weight = self._shape(weight)
        # Of an irregular graph: which weight comes where, the one after the last being 0.
        self.register_buffer("kernels", kernels)
        self.weight = nn.Parameter(weight)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        if not self.is_linear:
            self.pad_first, self.pad_mode = layer._pad_first, layer.padding_mode
            self.steps = (layer.stride, layer._op_padding, layer.dilation)
        self.train(layer.training)

    def _shape(self, weight: Tensor) -> Tensor:
        degree = self.inputs.shape[0] // self.groups
        if self.is_linear:  # (groups, degree, outputs of a group)
            return weight.view(self.groups, -1, degree).transpose(1, 2).contiguous()
        return weight.view(self.num_out, degree, *weight.shape[1:])

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to `input`."""
        weight: Tensor = self.weight
        if self.kernels is not None:
            zero = weight.new_zeros(1, *weight.shape[1:])
            weight = self._shape(torch.cat([weight, zero]).index_select(0, self.kernels))
        if self.is_linear:
            selected = input.index_select(-1, self.inputs).reshape(-1, self.groups, weight.shape[1])
            product = torch.matmul(selected.transpose(0, 1), weight)
            output = product.transpose(0, 1).reshape(*input.shape[:-1], self.num_out)
            return output if self.bias is None else output + self.bias
        if self.pad_first:
            mode = "constant" if self.pad_mode == "zeros" else self.pad_mode
            input = F.pad(input, self.pad_first, mode)
        spatial = weight.dim() - 2
        selected = input.index_select(-1 - spatial, self.inputs)
        conv = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
        return conv(selected, weight, self.bias, *self.steps, groups=self.groups)
