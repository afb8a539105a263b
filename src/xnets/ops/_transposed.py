"""The transposed base graph, which input gradients walk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xnets.ops._on_device import PerGraphOnDevice


@dataclass(frozen=True)
class Transposed:
    """A base graph in CSR form by input; all int32, on the device of the graph.

    Args:
        indptr: Shape (base inputs + 1,).
        indices: The base output of each entry, increasing within a row, shape (base edges,).
        edges: The base edge of each entry, shape (base edges,).
    """

    indptr: Tensor
    indices: Tensor
    edges: Tensor


def _transpose(indptr: Tensor, indices: Tensor, num_columns: int) -> Transposed:
    """Computed without reading a value on the host, so that a CUDA graph can hold it."""
    columns, edges = torch.sort(indices, stable=True)  # stable: by output within an input
    starts = torch.arange(num_columns + 1, dtype=indices.dtype, device=indices.device)
    rows = torch.searchsorted(indptr, edges, right=True) - 1
    t_indptr = torch.searchsorted(columns, starts)
    return Transposed(*(t.to(torch.int32) for t in (t_indptr, rows, edges)))


# transposed(indptr, indices, number of base inputs)
transposed = PerGraphOnDevice(_transpose)
