"""Which unit each element of a tensor belongs to, and how tensor operations join units.

`Ids` are the heart of _reach.py: an int64 tensor of as many dimensions as the tensor that it
describes, with the unit of each element; a dimension along which all elements belong to the same
unit has size 1. So an image of 3 channels has ids of shape (1, 3, 1, 1), and whatever moves
elements about (views, permutations, slices, concatenation) moves ids by the very same operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xnets.connectivity._graph import NOTHING, IntArray, UnitGraph

Ids = Tensor
Size = Sequence[int]
# (set of each weight, index along the input of each weight, set of each output)
Edges = tuple[IntArray, IntArray, IntArray]

MAX_KINDS = 4096  # of positions that are told apart; more are joined


class TooManyKinds(Exception):  # noqa: N818 - a signal, not an error
    """Positions differ in too many ways to be told apart."""


def compress(ids: Ids) -> Ids:
    """Give every dimension along which `ids` are constant the size 1."""
    for dim in range(ids.dim()):
        if ids.shape[dim] > 1:
            first = ids.narrow(dim, 0, 1)
            # The second slice differs more often than not, and is a quick look.
            if torch.equal(first, ids.narrow(dim, 1, 1)) and bool((ids == first).all()):
                ids = first
    return ids.contiguous()


def constant(size: Size) -> Ids:
    """The ids of a tensor that no source reaches."""
    return torch.full([1] * len(size), NOTHING, device="cpu")


def pointwise(graph: UnitGraph, parts: Sequence[Ids]) -> Ids:
    """Units of an elementwise function of several tensors: each reads the units of its arguments.

    Where the arguments belong to the same unit, so does the result: x * sigmoid(x) is still x.
    """
    joined = parts[0]
    for part in parts[1:]:
        joined = _pair(graph, *torch.broadcast_tensors(joined, part))
    return joined


def _pair(graph: UnitGraph, a: Ids, b: Ids) -> Ids:
    keys, inverse = torch.unique(a * graph.size + b, return_inverse=True)
    both = torch.stack([keys // graph.size, keys % graph.size], dim=1)
    units = both.max(dim=1).values
    new = (both[:, 0] != both[:, 1]) & (both.min(dim=1).values != NOTHING)
    if bool(new.any()):
        read = both[new].numpy()
        sets = np.arange(len(read))
        units[new] = torch.from_numpy(graph.join(np.repeat(sets, 2), read.reshape(-1), sets))
    return compress(units[inverse.view(a.shape)])


def reduce(graph: UnitGraph, ids: Ids, dims: Sequence[int], keepdim: bool = True) -> Ids:
    """Units of a reduction, such as a mean: each reads all units along `dims`."""
    dims = [d % ids.dim() for d in dims] if ids.dim() else []
    if any(ids.shape[d] > 1 for d in dims):
        kinds, inverse, rest = _kinds(ids, dims)
        ids = compress(torch.from_numpy(_unions(graph, kinds))[inverse].view(rest))
    if keepdim:
        return ids
    return ids.reshape([size for d, size in enumerate(ids.shape) if d not in dims])


def _unions(graph: UnitGraph, kinds: IntArray) -> IntArray:
    """One unit for each row: a new one that reads all of it, unless there is only one to read."""
    members, which = _members(kinds)
    units: IntArray = members.max(axis=1)
    several = np.flatnonzero((members > NOTHING).sum(axis=1) > 1)
    if len(several):
        sets = np.arange(len(several))
        read = np.maximum(members[several], NOTHING)
        units[several] = graph.join(np.repeat(sets, read.shape[1]), read.reshape(-1), sets)
    return units[which]


def _members(kinds: IntArray) -> tuple[IntArray, IntArray]:
    """The different sets of units that rows hold, -1 where a row ends; and which a row holds."""
    ordered = np.sort(kinds, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1
    ordered = -np.sort(-ordered, axis=1)
    ordered = np.ascontiguousarray(ordered[:, : int((ordered >= 0).sum(axis=1).max(initial=1))])
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in ordered])
    first = np.unique(which, return_index=True)[1]
    return ordered[first], which


def mix(graph: UnitGraph, ids: Ids, dims: Sequence[int]) -> Ids:
    """Units of a function that mixes along `dims` and keeps the shape, such as a layer norm.

    Each unit becomes a new one that reads all units along `dims`.
    """
    dims = [d % ids.dim() for d in dims]
    if all(ids.shape[d] == 1 for d in dims):
        return ids
    kinds, inverse, _ = _kinds(ids, dims)
    members, which = _members(kinds)
    result = kinds.copy()
    for number, padded in enumerate(members):
        read = np.sort(padded[padded >= 0])
        if len(read) > 1:
            rows = which == number
            new = graph.join(np.zeros_like(read), read, np.zeros_like(read))
            result[rows] = new[np.searchsorted(read, kinds[rows])]
    mixed = torch.from_numpy(result)[inverse]
    outer = [d for d in range(ids.dim()) if d not in dims]
    order = [*outer, *dims]
    back = [order.index(d) for d in range(ids.dim())]
    return compress(mixed.view([ids.shape[d] for d in order]).permute(back))


def contract(
    graph: UnitGraph,
    ids: Ids,
    dims: Sequence[int],
    edges: Edges,
) -> Ids:
    """Units of a product with weights: the dimensions `dims` become one, the last, of new units.

    Args:
        graph: Gets the new units.
        ids: Units of the input.
        dims: Contracted dimensions; flattened in this order.
        edges: (set, index along the contracted dimensions) of each weight, and the set of each
            output, as in UnitGraph.join.

    Returns:
        The ids of the output: the other dimensions of the input, then the outputs.

    Raises:
        TooManyKinds: If the other dimensions differ in too many ways.
    """
    kinds, inverse, rest = _kinds(ids, dims)
    sets, index, set_of = edges
    num_sets = int(set_of.max(initial=-1)) + 1
    if len(kinds) * max(1, len(sets)) > 2**25:
        raise TooManyKinds
    shift = np.arange(len(kinds))[:, None]
    units = graph.join(
        (sets + num_sets * shift).reshape(-1),
        kinds[:, index].reshape(-1),
        (set_of + num_sets * shift).reshape(-1),
        is_layer=True,
    )
    outer = [size for d, size in enumerate(rest) if d not in dims]
    table = torch.from_numpy(units).view(len(kinds), len(set_of))
    return table[inverse].view([*outer, len(set_of)])


def windows(ids: Ids, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Ids:
    """The units in each window over the last dimensions: shape (..., *positions, window)."""
    spatial = len(kernel)
    if all(size == 1 for size in ids.shape[-spatial:]):
        return ids.unsqueeze(-1)
    ids = F.pad(ids, [p for side in reversed(padding) for p in (side, side)], value=NOTHING)
    first = ids.dim() - spatial
    for d in range(spatial):  # each unfold appends its window as a last dimension
        span = dilation[d] * (kernel[d] - 1) + 1
        ids = ids.unfold(first + d, span, stride[d])[..., :: dilation[d]]
    return ids.flatten(-spatial)


def join_positions(graph: UnitGraph, ids: Ids, channel: int) -> Ids:
    """Forget how positions differ: one unit a channel, which reads that channel everywhere."""
    return reduce(graph, ids, [d for d in range(ids.dim()) if d != channel % ids.dim()])


def per_unit(ids: Ids, channel: int) -> IntArray:
    """The units of each channel: shape (channels, kinds of positions)."""
    flat = ids.movedim(channel, 0).flatten(1) if ids.dim() > 1 else ids.view(-1, 1)
    table: IntArray = torch.unique(flat, dim=1).numpy()
    return table


def complete_edges(num_in: int, num_out: int, groups: int) -> Edges:
    """The edges of a dense (groups = 1) or grouped layer, one set a group."""
    sets = np.repeat(np.arange(groups), num_in // groups)
    set_of = np.repeat(np.arange(groups), num_out // groups)
    return sets, np.arange(num_in), set_of


def _kinds(ids: Ids, dims: Sequence[int]) -> tuple[IntArray, Tensor, list[int]]:
    """The distinct slices along `dims`: (kinds, slice), the kind of each, and the rest's shape."""
    outer = [d for d in range(ids.dim()) if d not in dims]
    rest = [1 if d in dims else size for d, size in enumerate(ids.shape)]
    width = math.prod(ids.shape[d] for d in dims)
    slices = ids.permute([*outer, *dims]).reshape(-1, width)
    if len(slices) == 1:
        return slices.numpy(), torch.zeros(1, dtype=torch.int64, device="cpu"), rest
    kinds, inverse = torch.unique(slices, dim=0, return_inverse=True)
    if len(kinds) > MAX_KINDS:
        raise TooManyKinds
    return kinds.numpy(), inverse, rest
