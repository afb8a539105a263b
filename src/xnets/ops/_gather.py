"""Algorithm 1 of the paper in pure torch: select each output's inputs, then convolve them.

O_v = K_v * Mask_{N(v,1), ..., N(v,D)}(I). Multiplies num_edges weights and no more, runs wherever
torch does and exports (an index_select and a grouped convolution), but holds D copies of the input
channels for every base output.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from xnets.ops._call import Call
from xnets.ops._pattern import Pattern, within_blocks

_CONV_COST = 8
# Kernels of grouped convolutions compute tiles of so many channels a side, tensor cores no less.
_TILE = 16


def why_slow(call: Call) -> list[str]:
    """Why masked would be faster: it writes a dense weight, this copies inputs.

    Measured on a CPU: a copied input of a linear layer costs about what an entry of the dense
    weight does, one of a convolution several times as much.
    """
    if torch.compiler.is_compiling():
        return ["compiled code must serve every batch size"]
    pattern = call.pattern
    if call.spatial and call.input.device.type == "cuda":
        (b_out, b_in), degree = pattern.block, pattern.max_degree
        sparse = pattern.base_num_out * padded_side(b_out) * padded_side(degree * b_in)
        groups = call.groups
        sides = (pattern.num_in // groups, pattern.num_out // groups)
        dense = groups * padded_side(sides[0]) * padded_side(sides[1])
        if sparse > dense:
            return [f"in tiles it multiplies {sparse:,} pairs a position, dense kernels {dense:,}"]
    positions = call.input.numel() // pattern.num_in
    copied = positions * pattern.indices.shape[0] * pattern.block[1]
    dense = pattern.num_in // call.groups * pattern.num_out * math.prod(call.weight.shape[1:])
    if copied * (_CONV_COST if call.spatial else 1) <= dense:
        return []
    return [f"it copies {copied:,} inputs, a dense weight has {dense:,} entries"]


def padded_side(channels: int) -> int:
    """The channels of a group that a kernel's tiles cover, those that are not there included.

    Examples:
        >>> padded_side(3), padded_side(32)
        (16, 32)
    """
    return -(-channels // _TILE) * _TILE


def run(call: Call) -> Tensor:
    """Run the call by Algorithm 1."""
    neighbors, weight = call.pattern.indices, call.weight
    if not call.pattern.is_regular or call.pattern.max_degree == 0:
        neighbors, weight = _pad_to_max_degree(call.pattern, call.weight)
    selected = call.input.index_select(
        call.channel_dim, within_blocks(neighbors, call.pattern.block[1])
    )
    # Each base output has one neighbour list, shared by the b_out outputs of its block: a group.
    groups, b_out = call.pattern.base_num_out, call.pattern.block[0]
    if call.spatial == 0:
        degree = selected.shape[-1] // groups
        features = selected.view(*selected.shape[:-1], groups, degree)
        kernels = weight.view(groups, b_out, degree)
        output = torch.einsum("...gd,gbd->...gb", features, kernels).flatten(-2)
        return output if call.bias is None else output + call.bias.to(output.dtype)
    degree = selected.shape[call.channel_dim] // groups
    kernels = weight.view(call.pattern.num_out, degree, *weight.shape[1:])
    conv = (F.conv1d, F.conv2d, F.conv3d)[call.spatial - 1]
    return conv(selected, kernels, call.bias, call.stride, call.padding, call.dilation, groups)


def gathered(pattern: Pattern) -> tuple[Tensor, Tensor | None]:
    """What Algorithm 1 reads, as index tensors.

    Args:
        pattern: The graph.

    Returns:
        The inputs to select, int32, in the order of the outputs' blocks, each with as many as the
        largest degree. And the kernels that go with them, int32, in the order of the weight that
        the grouped convolution takes; the kernel after the last stands for zero. None if that is
        the order of the layer's own weight, as of every regular graph.

    Examples:
        >>> from xnets.ops import make_pattern
        >>> gathered(make_pattern(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), 4, 2))
        (tensor([0, 3, 1, 0], dtype=torch.int32), tensor([0, 1, 2, 3], dtype=torch.int32))
    """
    if pattern.is_regular and pattern.max_degree:
        return within_blocks(pattern.indices, pattern.block[1]), None
    neighbors, kernels = _padded(pattern)
    return within_blocks(neighbors.int(), pattern.block[1]), kernels.int()


def _pad_to_max_degree(pattern: Pattern, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours and weights as if every base output had `max_degree` inputs; the new ones weigh 0.

    Returns:
        Base inputs, shape (base outputs * max_degree,), and weights in canonical order.
    """
    neighbors, kernels = _padded(pattern)
    zero = weight.new_zeros(1, *weight.shape[1:])
    return neighbors, torch.cat([weight, zero]).index_select(0, kernels)


def _padded(pattern: Pattern) -> tuple[Tensor, Tensor]:
    """Base inputs, and for each weight of the padded graph the kernel or num_edges for none."""
    b_out, b_in = pattern.block
    rows, most = pattern.base_num_out, max(1, pattern.max_degree)
    indptr = pattern.indptr.long()  # times the block, it may pass 2^31
    degree = indptr.diff()
    step = torch.arange(most, device=degree.device)
    present = step < degree[:, None]  # (rows, most)
    base_edge = torch.where(present, indptr[:-1, None] + step, 0).reshape(-1)
    neighbors = torch.zeros_like(base_edge)
    if pattern.indices.shape[0]:
        neighbors = pattern.indices.index_select(0, base_edge)
    # Edge (row, r, j, c) lies after all earlier rows, then r rows of this block, then j blocks.
    r = torch.arange(b_out, device=degree.device).view(b_out, 1, 1)
    c = torch.arange(b_in, device=degree.device)
    row_start = (indptr[:-1] * (b_out * b_in)).view(rows, 1, 1, 1)
    edge = row_start + (r * degree.view(rows, 1, 1, 1) + step.view(most, 1)) * b_in + c
    edge = torch.where(present.view(rows, 1, most, 1), edge, pattern.num_edges)
    return neighbors, edge.reshape(-1)
