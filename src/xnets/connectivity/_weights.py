"""What products with weights do to units: the rules of convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from xnets.connectivity._graph import IntArray
from xnets.connectivity._rules import OpCall, Result, rule, sizes
from xnets.connectivity._sets import (
    Edges,
    Ids,
    complete_edges,
    compress,
    pointwise,
    reduce,
    windows,
)

if TYPE_CHECKING:
    from xnets.connectivity._tracer import Tracer


@rule("convolution", "_convolution", "cudnn_convolution", "convolution_overrideable")
def convolution(call: OpCall) -> Result:
    """A convolution, grouped or not, with constant weights."""
    image, weight, bias = call.args[:3]
    if call.tracer.ids_of(weight) is not None or call.tracer.ids_of(bias) is not None:
        raise NotImplementedError("the kernels depend on the data")
    spatial = weight.dim() - 2
    stride, padding, dilation = (sizes(a, spatial) for a in call.args[3:6])
    transposed, _, groups = call.args[6:9]
    num_in = image.shape[1]
    num_out = weight.shape[1] * groups if transposed else weight.shape[0]
    edges = complete_edges(num_in, num_out, groups)
    if call.tracer.ignore_zeros:
        table = (weight != 0).flatten(2).any(-1)
        if transposed:
            inputs, outputs = _nonzero(table)
            outputs += inputs // (num_in // groups) * (num_out // groups)
        else:
            outputs, inputs = _nonzero(table)
            inputs += outputs // (num_out // groups) * (num_in // groups)
        edges = outputs, inputs, np.arange(num_out)
    geometry = None if transposed else (list(weight.shape[2:]), stride, padding, dilation)
    return convolve(call.tracer, call.ids(image), image.shape, edges, spatial, geometry)


def convolve(
    tracer: Tracer,
    ids: Ids,
    size: Sequence[int],
    edges: Edges,
    spatial: int,
    geometry: tuple[Sequence[int], ...] | None,
) -> Ids:
    """The units of a convolution.

    Args:
        tracer: Gets units and layer.
        ids: Ids of the image.
        size: Its shape.
        edges: Between channels; see `contract`.
        spatial: Number of spatial dimensions, the last ones.
        geometry: Kernel, stride, padding and dilation, or None to join positions if they differ.

    Returns:
        Ids of the result.
    """
    channel = len(size) - spatial - 1
    if geometry is None and any(n > 1 for n in ids.shape[channel + 1 :]):
        tracer.assume("convolution", "joins all positions of a channel")
        ids = reduce(tracer.graph, ids, range(channel + 1, ids.dim()))
    varies = any(n > 1 for n in ids.shape[channel + 1 :])
    positions = size[channel + 1 :] if varies else ids.shape[channel + 1 :]
    full = ids.expand([*ids.shape[:channel], size[channel], *positions])
    seen = windows(full, *geometry) if varies and geometry else full.unsqueeze(-1)
    window = seen.shape[-1]
    sets, index, set_of = edges
    index = (index[:, None] * window + np.arange(window)).reshape(-1)
    sets = np.repeat(sets, window)
    new = tracer.layer(seen, (channel, seen.dim() - 1), (sets, index, set_of), (ids, channel))
    return compress(new.movedim(-1, channel))


@rule("linear")
def linear(call: OpCall) -> Result:
    """Functional linear layers, where torch does not decompose them."""
    x, weight = call.args[:2]
    result = _product(call, x, weight.t() if call.tracer.ids_of(weight) is None else weight)
    return result


@rule("mm", "bmm", "matmul", "mv", "dot", "_int_mm")
def product(call: OpCall) -> Result:
    """A product of matrices, of which one or both may depend on the sources."""
    return _product(call, call.args[0], call.args[1])


@rule("addmm", "baddbmm", "addmv", "addbmm")
def add_product(call: OpCall) -> Result:
    """A product of matrices and a sum."""
    if call.name == "addbmm":
        raise NotImplementedError("sums over the batch")
    ids = _product(call, call.args[1], call.args[2])
    if call.tracer.ids_of(call.args[0]) is None:
        return ids
    added = call.ids(call.args[0])
    added = added.view([1] * (ids.dim() - added.dim()) + list(added.shape))
    return pointwise(call.tracer.graph, [ids, added])


def _product(call: OpCall, a: Tensor, b: Tensor) -> Ids:
    tracer, graph = call.tracer, call.tracer.graph
    rows, columns = tracer.ids_of(a), tracer.ids_of(b)
    in_b = max(b.dim() - 2, 0)
    if rows is not None and columns is not None:
        left = reduce(graph, rows, [-1], keepdim=b.dim() > 1)
        right = reduce(graph, columns, [in_b], keepdim=a.dim() > 1)
        return pointwise(graph, [left, right])
    if rows is not None:
        num_out = b.shape[-1] if b.dim() > 1 else 1
        matrix = b if b.dim() > 1 else b[:, None]
        out = weigh(tracer, rows, a.shape, a.dim() - 1, _matrix_edges(tracer, matrix, num_out))
        return out if b.dim() > 1 else out.squeeze(-1)
    assert columns is not None
    num_out = a.shape[-2] if a.dim() > 1 else 1
    matrix = a.mT if a.dim() > 1 else a[:, None]
    out = weigh(tracer, columns, b.shape, in_b, _matrix_edges(tracer, matrix, num_out))
    if a.dim() == 1:
        return out.squeeze(-1)
    return out.movedim(-1, -2) if b.dim() > 1 else out


def weigh(tracer: Tracer, ids: Ids, size: Sequence[int], dim: int, edges: Edges) -> Ids:
    """The units of a product with constant weights along `dim`, which becomes the last dimension.

    Where all elements along `dim` belong to the same unit, but other dimensions tell units apart,
    the weights mix positions, as the token mixing of an MLP-Mixer does, and units stay.
    """
    if ids.shape[dim] == 1 and ids.numel() > 1:
        return ids.movedim(dim, -1)
    shape = list(ids.shape)
    shape[dim] = size[dim]
    return compress(tracer.layer(ids.expand(shape), (dim,), edges, (ids.expand(shape), dim)))


def _matrix_edges(tracer: Tracer, matrix: Tensor, num_out: int) -> Edges:
    """The edges of a constant matrix (..., inputs, outputs)."""
    if not tracer.ignore_zeros:
        return complete_edges(matrix.shape[-2], num_out, 1)
    table = (matrix != 0).reshape(-1, *matrix.shape[-2:]).any(0)
    inputs, outputs = _nonzero(table)
    return outputs, inputs, np.arange(num_out)


@rule("embedding")
def embedding(call: OpCall) -> Result:
    """A table look-up: new units, which read the index."""
    table, index = call.args[:2]
    if call.tracer.ids_of(table) is not None:
        raise NotImplementedError("the table depends on the data")
    edges = complete_edges(1, table.shape[1], 1)
    ids = call.ids(index).unsqueeze(-1)
    return compress(call.tracer.layer(ids, (ids.dim() - 1,), edges, (ids, ids.dim() - 1)))


def _nonzero(table: Tensor) -> tuple[IntArray, IntArray]:
    rows, columns = table.cpu().nonzero(as_tuple=True)
    return rows.numpy(), columns.numpy()
