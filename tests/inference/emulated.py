"""The compiled library's programs in Python, read from the very structures that it would read.

So the planning of memory and the building of structures are tested where nothing is compiled, and
every access is checked: what a step reads has been written, and what it writes it does not read.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xnets.inference._act import apply_act
from xnets.inference._ir import Act
from xnets.ops import dense_weight, make_pattern
from xnets.ops._cpu_library import CConv, CGraph
from xnets.ops._cpu_program import CStep

ACTS = ("none", "clamp", "silu", "hardswish", "sigmoid", "hardsigmoid", "gelu", "tanh", "leaky")


class Emulated:
    """What `library` returns, with the functions of xnets.h; see there."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.calls: list[int] = []

    def xn_winograd_size(self, graph: int, conv: int, isa: int) -> int:
        return 0

    def xn_program_scratch(self, address: int, count: int, threads: int, isa: int) -> int:
        return 0

    def xn_program_check(self, address: int, count: int, sizes: int, slots: int) -> int:
        array = (ctypes.c_int64 * slots).from_address(sizes)
        for step in (CStep * count).from_address(address):
            for tensor, shape in places(step):
                end = tensor.offset + (shape[0] - 1) * tensor.image + int(np.prod(shape[1:]))
                if not (0 <= tensor.slot < slots and tensor.offset >= 0):
                    return 1
                if end > array[tensor.slot] or (shape[0] > 1 and tensor.image < 0):
                    return 1
        return 0

    def xn_program_run(
        self, address: int, count: int, slots: Any, scratch: int, threads: int, isa: int
    ) -> int:
        self.calls.append(count)
        for step in (CStep * count).from_address(address):
            run(step, slots)
        return 0


def places(step: CStep) -> list[tuple[Any, tuple[int, ...]]]:
    """The tensors of a step and their shapes."""
    x, y = shapes(step)
    found = [(step.x, x), (step.y, y)]
    if step.residual.slot >= 0:
        found.append((step.residual, (*x[:2], 1, 1, 1) if step.kind == 6 else y))
    return found


def shapes(step: CStep) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if step.kind == 1:
        return (step.rows, step.channels_in), (step.rows, step.channels_out)
    conv = CConv.from_address(step.conv)
    x = (conv.batch, step.channels_in, *CConv.from_address(step.before or step.conv).input)
    size = tuple(conv.input)
    if step.kind in (0, 2, 3):
        geometry = zip(*(getattr(conv, name) for name in FIELDS), strict=True)
        size = tuple((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d in geometry)
    if step.kind in (2, 3) and step.output[0]:
        size = tuple(step.output)
    return x, (conv.batch, step.channels_out, *size)


FIELDS = ("input", "kernel", "stride", "padding", "dilation")


def run(step: CStep, slots: Any) -> None:
    tensors = [view(tensor, shape, slots) for tensor, shape in places(step)]
    (x, y), residual = tensors[:2], tensors[2] if len(tensors) > 2 else None
    check_overlap(step, x, y, residual)
    for read in (x, residual):
        assert read is None or not read.isnan().any(), "a step reads what no step wrote"
    result = compute(step, x, residual, y.shape)
    y.copy_(apply_act(act(step.act, step.low, step.high), result))


def check_overlap(step: CStep, x: Tensor, y: Tensor, residual: Tensor | None) -> None:
    for read, may_be_same in ((x, step.kind in (4, 6)), (residual, step.kind != 6)):
        if read is None or (may_be_same and read.data_ptr() == y.data_ptr()):
            continue
        assert not memory(read) & memory(y), "a step writes what it reads"


def memory(tensor: Tensor) -> set[int]:
    size = tensor[0].numel() * 4 // 4
    starts = [tensor.data_ptr() // 4 + n * tensor.stride(0) for n in range(len(tensor))]
    return {start + i for start in starts for i in range(size)}


def view(tensor: Any, shape: tuple[int, ...], slots: Any) -> Tensor:
    strides = [int(np.prod(shape[d + 1 :])) for d in range(len(shape))]
    strides[0] = tensor.image
    end = (shape[0] - 1) * tensor.image + int(np.prod(shape[1:]))
    return floats(slots[tensor.slot] + 4 * tensor.offset, end).as_strided(shape, strides)


def floats(address: int, count: int, kind: Any = ctypes.c_float) -> Tensor:
    array = (kind * count).from_address(address)
    return torch.frombuffer(array, dtype=torch.float32 if kind is ctypes.c_float else torch.int32)


def act(kind: int, low: float, high: float) -> Act:
    return Act(ACTS[kind], low, high)


def compute(step: CStep, x: Tensor, residual: Tensor | None, size: Any) -> Tensor:
    channels = (-1, 1, 1, 1)
    scale = floats(step.scale, step.channels_in).view(channels) if step.scale else None
    shift = floats(step.shift, step.channels_in).view(channels) if step.shift else None
    if step.kind in (0, 1):
        weight = weight_of(step)
        bias = floats(step.bias, step.channels_out) if step.bias else None
        if step.kind == 1:
            result = F.linear(x, weight.flatten(1), bias)
        else:
            if step.before:
                assert scale is None
                x = depthwise(step, x) if shift is None else depthwise(step, x) + shift
                x = apply_act(act(step.in_act, step.in_low, step.in_high), x)
            elif scale is not None:
                x = apply_act(act(step.in_act, step.in_low, step.in_high), x * scale + shift)
            conv = CConv.from_address(step.conv)
            geometry = (tuple(getattr(conv, name)) for name in FIELDS[2:])
            result = F.conv3d(x, weight, bias, *geometry)
        return result if residual is None else result + residual
    if step.kind in (2, 3):
        return pool(step, x, size)
    if step.kind == 4:
        result = x.clone() if scale is None else x * scale
        result = result if shift is None else result + shift
        return result if residual is None else result + residual
    if step.kind == 5:
        index = floats(step.index, step.channels_out, ctypes.c_int32) if step.index else None
        return x.clone() if index is None else x[:, index.long()]
    assert residual is not None
    return x * residual


def depthwise(step: CStep, x: Tensor) -> Tensor:
    before = CConv.from_address(step.before)
    kernel, channels = tuple(before.kernel), step.channels_in
    weight = floats(step.before_weight, channels * int(np.prod(kernel)))
    geometry = (tuple(getattr(before, name)) for name in FIELDS[2:])
    return F.conv3d(x, weight.view(channels, 1, *kernel), None, *geometry, channels)


def weight_of(step: CStep) -> Tensor:
    graph = CGraph.from_address(step.graph)
    assert (graph.num_in, graph.num_out) == (step.channels_in, step.channels_out)
    rows = graph.num_out // graph.b_out
    indptr = floats(graph.indptr, rows + 1, ctypes.c_int32)
    indices = floats(graph.indices, int(indptr[-1]), ctypes.c_int32)
    block = (graph.b_out, graph.b_in)
    pattern = make_pattern(indptr, indices, graph.num_in, graph.num_out, block)
    kernel = (1, 1, 1) if step.kind == 1 else tuple(CConv.from_address(step.conv).kernel)
    edges = floats(step.weight, pattern.num_edges * int(np.prod(kernel)))
    return dense_weight(edges.view(-1, *kernel), pattern)


def pool(step: CStep, x: Tensor, size: Any) -> Tensor:
    conv = CConv.from_address(step.conv)
    worst = -torch.inf if step.kind == 2 else 0.0
    pads, extra = [], []
    for i, k, s, p, d, o in zip(*(getattr(conv, f) for f in FIELDS), size[2:], strict=True):
        more = max(0, (o - 1) * s + d * (k - 1) + 1 - i - 2 * p)  # windows that stick out
        pads += [(p, p + more)]
        extra.append(more)
    flat = [n for pair in reversed(pads) for n in pair]
    padded = F.pad(x, flat, value=worst)
    if step.kind == 2:
        return F.max_pool3d(padded, tuple(conv.kernel), tuple(conv.stride), 0, tuple(conv.dilation))
    mean = F.avg_pool3d(padded, tuple(conv.kernel), tuple(conv.stride))
    if step.exclude_padding:
        there = F.avg_pool3d(
            F.pad(torch.ones_like(x), flat), tuple(conv.kernel), tuple(conv.stride)
        )
        return mean / there
    assert not any(extra)
    return mean
