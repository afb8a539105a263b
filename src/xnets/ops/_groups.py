"""Torch's grouped convolution, for graphs that fall into complete graphs of one size.

So do `grouped`, `shuffled` and `complete` graphs, depthwise layers, and whatever else is groups up
to an order of its channels, which are then put in order first and back afterwards. The weight, in
canonical order, is the grouped convolution's own; a linear layer is a batch of small products.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xnets.ops._call import Call
from xnets.ops._eager import in_function_transform, runs_eagerly
from xnets.ops._gather import padded_side
from xnets.ops._on_device import PerGraphOnDevice
from xnets.ops._pattern import Components, Pattern, within_blocks

# So many pairs are multiplied in the time that moving one number takes: on tensor cores (an H100 in
# half precision or TF32; an A100 does two thirds of it) by arithmetic, not by measurement; on a
# CPU's core about.
_MACS_A_MOVE = {"cuda": 256, "cpu": 8}


def why_not(call: Call) -> list[str]:
    """Why no grouped convolution computes this call."""
    if call.pattern.components is None:
        return ["the graph does not fall into complete graphs of one size, as groups do"]
    return []


def why_slow(call: Call) -> list[str]:
    """Why torch's own layer, dense or with the call's `groups`, would be faster."""
    parts = call.pattern.components
    if parts is None or (parts.count == call.groups and _in_order(parts)):
        return []
    grouped, dense = _moves(call, parts), _moves(call, None)
    if grouped <= dense:
        return []
    return [
        f"in {parts.count:,} groups it takes as long as moving {grouped:,} numbers a position, "
        f"dense kernels as {dense:,}"
    ]


def _moves(call: Call, parts: Components | None) -> int:
    """The time of a position, in numbers moved: in groups, or by torch's own layer."""
    pattern, taps = call.pattern, math.prod(call.weight.shape[1:])
    groups = parts.count if parts else call.groups
    device = call.input.device.type
    sides = pattern.num_in // groups, pattern.num_out // groups
    # The tiles of tensor cores; torch's kernels on a CPU have none as large.
    padded = math.prod(sides if device == "cpu" else map(padded_side, sides))
    inputs, outputs = pattern.num_in * math.prod(call.stride), pattern.num_out
    macs_a_move = _MACS_A_MOVE.get(device, _MACS_A_MOVE["cuda"])
    moves = max(groups * padded * taps // macs_a_move, inputs + outputs)
    if parts and not parts.inputs_in_order:
        moves += 2 * inputs
    if parts and not parts.outputs_in_order:
        moves += 2 * outputs
    if parts and parts.count > 1 and not call.spatial:  # the products come one after another
        moves += 2 * outputs
    return moves


def run(call: Call) -> Tensor:
    """Run the call in groups."""
    pattern, parts = call.pattern, call.pattern.components
    assert parts is not None  # by why_not
    x, weight, bias = call.input, call.weight, call.bias
    if _in_order(parts):
        return _run_in_order(call, parts.count, x, weight, bias)
    device = x.device.type
    autocasts = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)
    if autocasts and x.dtype == torch.float32:
        x = x.to(torch.get_autocast_dtype(device))  # what is half as long is moved twice as fast
    inputs, inputs_back, outputs, outputs_back = _orders_of(pattern, parts)
    if not parts.inputs_in_order:
        x = _reorder(x, call.channel_dim, inputs, inputs_back)
    if parts.outputs_in_order:
        return _run_in_order(call, parts.count, x, weight, bias)
    kernels = weight.view(pattern.num_out, -1, *weight.shape[1:])
    kernels = _reorder(kernels, 0, outputs, outputs_back).view(weight.shape)
    bias = None if bias is None else _reorder(bias, 0, outputs, outputs_back)
    y = _run_in_order(call, parts.count, x, kernels, bias)
    return _reorder(y, call.channel_dim, outputs_back, outputs)


def _in_order(parts: Components) -> bool:
    return parts.inputs_in_order and parts.outputs_in_order


def _run_in_order(
    call: Call, groups: int, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    num_in, num_out = call.pattern.num_in, call.pattern.num_out
    kernels = weight.view(num_out, num_in // groups, *weight.shape[1:])
    if call.spatial:
        conv = (F.conv1d, F.conv2d, F.conv3d)[call.spatial - 1]
        return conv(x, kernels, bias, call.stride, call.padding, call.dilation, groups)
    if groups == 1:
        return F.linear(x, kernels.squeeze(-1), bias)
    features = x.reshape(-1, groups, num_in // groups).transpose(0, 1)
    products = kernels.view(groups, num_out // groups, num_in // groups).transpose(1, 2)
    if bias is None:
        y = torch.bmm(features, products)
    else:
        y = torch.baddbmm(bias.view(groups, 1, num_out // groups), features, products)
    return y.transpose(0, 1).reshape(*x.shape[:-1], num_out)


# --- the order of the channels -------------------------------------------------------------------


def _find_orders(
    indptr: Tensor, indices: Tensor, num_in: int, num_out: int, b_out: int, b_in: int, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and outputs by component, each followed by where every one of them went."""
    rows = num_out // b_out
    lists = indices.view(rows, -1)
    order = lists[:, 0].argsort(stable=True)
    inputs = within_blocks(lists[order[:: rows // count]].reshape(-1), b_in)
    outputs = within_blocks(order, b_out)
    return inputs, inputs.argsort(), outputs, outputs.argsort()


# 8 bytes an input and an output, twice.
_orders = PerGraphOnDevice(_find_orders)


def _orders_of(pattern: Pattern, parts: Components) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    find = _orders if runs_eagerly(pattern.indptr, pattern.indices) else _find_orders
    sizes = (pattern.num_in, pattern.num_out, *pattern.block, parts.count)
    return find(pattern.indptr, pattern.indices, *sizes)


class _Reorder(torch.autograd.Function):
    """A permutation, whose gradient is a selection too: index_select's own would add."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, dim: int, order: Tensor, back: Tensor
    ) -> Tensor:
        ctx.dim = dim
        ctx.save_for_backward(order, back)
        return _select(x, dim, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        order, back = ctx.saved_tensors
        return _reorder(grad, ctx.dim, back, order), None, None, None


def _reorder(x: Tensor, dim: int, order: Tensor, back: Tensor) -> Tensor:
    """`x` with the channels of dimension `dim` in another order; `back` undoes it."""
    plain = not torch.compiler.is_compiling() and in_function_transform()
    if plain or not (torch.is_grad_enabled() and x.requires_grad):
        return _select(x, dim, order)
    reordered: Tensor = _Reorder.apply(x, dim, order, back)
    return reordered


def _select(x: Tensor, dim: int, order: Tensor) -> Tensor:
    if x.dim() > 1 and x.stride(dim) == 1:  # the channels last: index_select would move them
        return x.movedim(dim, -1).index_select(-1, order).movedim(-1, dim)
    return x.index_select(dim, order)
