"""The transposed base graph, which input gradients walk, kept as long as its index tensors."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


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


# By the layer's own index tensor: the tables live as long as it does.
_tables: Any = WeakTensorKeyDictionary()


def transposed(indptr: Tensor, indices: Tensor, num_columns: int) -> Transposed:
    """The transposed base graph; computed again only when the index tensors change.

    Args:
        indptr: Row pointers of the base graph, int32.
        indices: Base inputs, int32, shape (base edges,).
        num_columns: Number of base inputs.

    Returns:
        The tables.
    """
    stamp = (*_stamp(indptr), *_stamp(indices), num_columns)
    found = _tables.get(indices)
    if found is not None and found[0] == stamp and not indices.is_inference():
        tables: Transposed = found[1]
        return tables
    if indices.is_cuda:
        if torch.cuda.is_current_stream_capturing():
            # The graph computes them at each replay; nothing may outlive the capture.
            return _transpose(indptr, indices, num_columns)
        tables = _outside_graph_pools(indptr, indices, num_columns)
    else:
        tables = _transpose(indptr, indices, num_columns)
    _tables[indices] = (stamp, tables)
    return tables


def _stamp(tensor: Tensor) -> tuple[int, ...]:
    version = -1 if tensor.is_inference() else tensor._version
    return (tensor.data_ptr(), version, tensor.shape[0])


def _transpose(indptr: Tensor, indices: Tensor, num_columns: int) -> Transposed:
    """Without reading a value on the host, so that a CUDA graph can hold it."""
    columns, edges = torch.sort(indices, stable=True)  # stable: by output within an input
    starts = torch.arange(num_columns + 1, dtype=indices.dtype, device=indices.device)
    rows = torch.searchsorted(indptr, edges, right=True) - 1
    t_indptr = torch.searchsorted(columns, starts)
    return Transposed(*(t.to(torch.int32) for t in (t_indptr, rows, edges)))


def _outside_graph_pools(indptr: Tensor, indices: Tensor, num_columns: int) -> Transposed:
    """Compute tables that may outlive this call.

    torch.compile's CUDA graphs warm up with a memory pool of their own, by thread, and let nothing
    in it outlive the call. Another thread on another stream allocates from the common one.
    """
    result: list[Transposed | BaseException] = []
    device = indptr.device
    ready = torch.cuda.current_stream(device).record_event()

    def compute() -> None:
        try:
            stream = torch.cuda.Stream(device)
            stream.wait_event(ready)
            with torch.cuda.device(device), torch.cuda.stream(stream):
                tables = _transpose(indptr, indices, num_columns)
            stream.synchronize()
            result.append(tables)
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]
