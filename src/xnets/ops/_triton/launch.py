"""What the kernels are launched with: geometry, tiles and memory layouts.

Everything is a convolution over three dimensions, channels last; a linear layer has no positions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xnets.ops._transposed import transposed
from xnets.ops._triton import kernels
from xnets.ops._triton.config import allows_tf32, outer_tile, product_tile

_INT32 = 2**31 - 1
_MOST_PARTIAL_SUMS = 2**24  # elements of the weight gradient's partial sums: 64 MiB


@dataclass(frozen=True)
class Axis:
    """How a dimension of the target reads the source: at target * stride + offset + tap * step."""

    taps: int = 1
    stride: int = 1
    offset: int = 0
    step: int = 1
    first_tap: int = 0
    tap_step: int = 1


@dataclass(frozen=True)
class Graph:
    """A graph as the kernels read it, forwards or transposed."""

    indptr: Tensor
    indices: Tensor
    block: tuple[int, int]

    @property
    def rows(self) -> int:
        """Outputs of the base graph."""
        return self.indptr.shape[0] - 1

    @property
    def edges(self) -> int:
        """Edges of the whole graph."""
        return self.indices.shape[0] * self.block[0] * self.block[1]

    @property
    def mean_width(self) -> int:
        """Mean number of inputs of an output."""
        return max(1, -(-self.indices.shape[0] * self.block[1] // self.rows))


def forward_axes(
    kernel: tuple[int, ...], stride: list[int], padding: list[int], dilation: list[int]
) -> list[Axis]:
    """The axes of a convolution, one a dimension."""
    return [
        Axis(k, s, -p, d if k > 1 else 1)
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    ]


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, graph: Graph, axes: list[Axis], out: Tensor
) -> None:
    """Write the convolution of `x` with `weight` to `out`.

    Args:
        x: (samples, num_in, *size).
        weight: (num_edges, *kernel_size).
        bias: (num_out,) or None.
        graph: The graph.
        axes: One a dimension of `size`.
        out: (samples, num_out, *output size), channels last.
    """
    taps = math.prod(weight.shape[1:])
    packed = weight.reshape(-1, taps).t().contiguous()
    _product(for_reading(x, graph.block[1]), packed, bias, graph, axes, out)


def grad_input(grad: Tensor, weight: Tensor, graph: Graph, axes: list[Axis], out: Tensor) -> None:
    """Write the gradient by the input to `out`: the forward pass of the transposed graph.

    With a stride, the input's positions fall into classes that read different taps; each is a
    convolution without stride.

    Args:
        grad: (samples, num_out, *output size).
        weight: (num_edges, *kernel_size).
        graph: The graph.
        axes: Those of the forward pass.
        out: (samples, num_in, *size), channels last.
    """
    b_out, b_in = graph.block
    tables = transposed(graph.indptr, graph.indices, out.shape[1] // b_in)
    turned = Graph(tables.indptr, tables.indices, (b_in, b_out))
    kernel = tuple(weight.shape[1:])
    taps = math.prod(kernel)
    packed = weight.new_empty(taps, graph.edges)
    if graph.edges:
        kernels.transpose_weight[(graph.indices.shape[0] * taps,)](
            weight.contiguous(),
            packed,
            graph.indptr,
            graph.indices,
            tables.indptr,
            tables.indices,
            tables.edges,
            graph.edges,
            B_OUT=b_out,
            B_IN=b_in,
            TAPS=taps,
            BIG=weight.numel() > _INT32,
            BLOCK_N=min(64, _power(b_out)),
            BLOCK_K=min(64, _power(b_in)),
        )
    grad = for_reading(grad, b_out)
    for residues in itertools.product(*(range(axis.stride) for axis in axes)):
        part = out
        for dim, (axis, residue) in enumerate(zip(axes, residues, strict=True), start=2):
            part = part[(slice(None),) * dim + (slice(residue, None, axis.stride),)]
        turned_axes = [_turn(axis, residue) for axis, residue in zip(axes, residues, strict=True)]
        if any(axis.taps == 0 for axis in turned_axes):
            part.zero_()
        elif part.numel():
            _product(grad, packed, None, turned, turned_axes, part, kernel)


def _turn(axis: Axis, residue: int) -> Axis:
    """The axis by which inputs at residue, residue + stride, ... read the outputs' gradient.

    Input position p meets output position (p - offset - tap * step) / stride where that is whole.
    """
    shift = residue - axis.offset
    taps = [t for t in range(axis.taps) if (shift - t * axis.step) % axis.stride == 0]
    if not taps:
        return Axis(taps=0)
    offset = (shift - taps[0] * axis.step) // axis.stride
    if len(taps) == 1:
        return Axis(offset=offset, first_tap=taps[0])
    tap_step = taps[1] - taps[0]
    step = -tap_step * axis.step // axis.stride  # whole
    return Axis(len(taps), 1, offset, step, taps[0], tap_step)


def grad_weight(
    grad: Tensor, x: Tensor, weight: Tensor, graph: Graph, axes: list[Axis], *, processors: int
) -> Tensor:
    """The gradient by the weight.

    The rows are split among programs that write partial sums, which are then added in one order.

    Args:
        grad: (samples, num_out, *output size).
        x: (samples, num_in, *size).
        weight: (num_edges, *kernel_size).
        graph: The graph.
        axes: Those of the forward pass.
        processors: Multiprocessors of the device; decides the number of splits.

    Returns:
        Shape and dtype of `weight`.
    """
    taps = math.prod(weight.shape[1:])
    x = for_reading(x, graph.block[1])
    grad = _channels_last(grad)
    rows = grad.shape[0] * math.prod(grad.shape[2:])
    b_out, b_in = graph.block
    mode, fast = precision(x, convolution=bool(axes))
    tile = outer_tile(rows, graph.block, graph.mean_width, x.element_size(), fast=fast)
    column_programs = -(-graph.mean_width // tile.k)
    tiles = graph.rows * -(-b_out // tile.n) * column_programs * taps
    row_tiles = -(-rows // tile.m)
    splits = min(
        -(-4 * processors // tiles),
        max(1, row_tiles // 8),
        max(1, _MOST_PARTIAL_SUMS // max(1, weight.numel())),
    )
    rows_a_split = -(-row_tiles // splits) * tile.m
    splits = -(-rows // rows_a_split)
    direct = splits == 1 and taps == 1
    dtype = weight.dtype if direct else torch.float32
    sums = weight.new_empty(splits, taps, graph.edges, dtype=dtype)
    geometry = _Geometry(x, grad, axes)
    kernels.gather_outer[(tiles * splits,)](
        x,
        grad,
        sums,
        graph.indptr,
        graph.indices,
        rows,
        rows_a_split,
        graph.edges,
        tiles,
        column_programs,
        *geometry.sizes,
        *geometry.source,
        graph.rows * b_out,
        B_OUT=b_out,
        B_IN=b_in,
        **geometry.constants,
        POINTWISE=geometry.pointwise,
        BIG=is_big(x, grad, sums),
        PRECISION=mode,
        VECTOR=tile.vector,
        BLOCK_M=tile.m,
        BLOCK_N=tile.n,
        BLOCK_K=tile.k,
        num_warps=tile.warps,
        num_stages=tile.buffers,
    )
    total = sums.view(taps, -1) if splits == 1 else sums.sum(0)
    return total.t().to(weight.dtype).reshape(weight.shape).contiguous()


def _product(
    source: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    graph: Graph,
    axes: list[Axis],
    target: Tensor,
    kernel: tuple[int, ...] | None = None,
) -> None:
    rows = target.shape[0] * math.prod(target.shape[2:])
    b_out, b_in = graph.block
    mode, fast = precision(source, convolution=bool(axes))
    tile = product_tile(
        rows, graph.rows, graph.block, graph.mean_width, source.element_size(), fast=fast
    )
    parts = graph.rows * -(-b_out // tile.n)
    geometry = _Geometry(source, target, axes, kernel)
    kernels.gather_product[(parts * -(-rows // tile.m),)](
        source,
        packed,
        source if bias is None else bias.contiguous(),  # any tensor: it is not read
        target,
        graph.indptr,
        graph.indices,
        rows,
        graph.edges,
        parts,
        *geometry.sizes,
        *geometry.source,
        *geometry.target,
        B_OUT=b_out,
        B_IN=b_in,
        **geometry.constants,
        **geometry.tap_constants,
        POINTWISE=geometry.pointwise,
        HAS_BIAS=bias is not None,
        BIG=is_big(source, target, packed),
        PRECISION=mode,
        VECTOR=tile.vector,
        BLOCK_M=tile.m,
        BLOCK_N=tile.n,
        BLOCK_K=tile.k,
        num_warps=tile.warps,
        num_stages=tile.product_stages,
    )


class _Geometry:
    """Sizes, strides and axes of a launch, filled up to three dimensions."""

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        axes: list[Axis],
        kernel: tuple[int, ...] | None = None,
    ) -> None:
        fill = 3 - len(axes)
        axes = [Axis()] * fill + axes
        kernel = (1,) * fill + (kernel or tuple(axis.taps for axis in axes[fill:]))
        self.sizes = (1,) * fill + tuple(target.shape[2:])
        source_row = _row_stride(source)
        target_row = _row_stride(target)
        self.pointwise = (
            all(axis == Axis() for axis in axes)
            and math.prod(kernel) == 1
            and None not in (source_row, target_row)
        )
        s_n, s_c, *s_strides = source.stride()
        t_n, _, *t_strides = target.stride()
        if self.pointwise and source_row is not None and target_row is not None:
            s_n, t_n = source_row, target_row
        blank = (0,) * fill
        source_sizes = (1,) * fill + tuple(source.shape[2:])
        self.source = (*source_sizes, s_n, s_c, *blank, *s_strides)
        self.target = (t_n, *blank, *t_strides)
        self.constants: dict[str, Any] = {}
        self.tap_constants: dict[str, Any] = {}
        size, first = 1, 0
        for name, axis, taps in reversed(list(zip("DHW", axes, kernel, strict=True))):
            self.constants[f"TAPS_{name}"] = axis.taps
            self.constants[f"STRIDE_{name}"] = axis.stride
            self.constants[f"OFFSET_{name}"] = axis.offset
            self.constants[f"STEP_{name}"] = axis.step
            self.tap_constants[f"TAP_{name}"] = axis.tap_step * size
            first += axis.first_tap * size
            size *= taps
        self.tap_constants["FIRST_TAP"] = first


def _row_stride(tensor: Tensor) -> int | None:
    """The distance of consecutive rows (samples and positions) if it is always the same."""
    sizes = [tensor.shape[0], *tensor.shape[2:]]
    strides = [tensor.stride(0), *tensor.stride()[2:]]
    kept = [(n, s) for n, s in zip(sizes, strides, strict=True) if n != 1]
    if not kept:
        return 0
    if any(a[1] != b[0] * b[1] for a, b in itertools.pairwise(kept)):
        return None
    return kept[-1][1]


def _channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def for_reading(x: Tensor, b_in: int) -> Tensor:
    """`x` itself where loads are wide as it lies, else a copy with the channels last."""
    by_channel = x.stride(1) == 1 or x.shape[1] == 1
    by_position = b_in < 8 and x.dim() > 2 and x.stride(-1) == 1
    return x if by_channel or by_position else _channels_last(x)


def is_big(*tensors: Tensor) -> bool:
    """Whether an offset into one of them may pass 2^31."""
    return any(
        sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) > _INT32 - 2**20
        for t in tensors
        if t.numel()
    )


def _power(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


def precision(x: Tensor, *, convolution: bool) -> tuple[str, bool]:
    """How the kernels multiply, and whether on tensor cores."""
    if x.dtype != torch.float32:
        return "ieee", True
    tf32 = allows_tf32(convolution)
    return ("tf32", True) if tf32 else ("ieee", False)
