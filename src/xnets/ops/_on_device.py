"""What is computed from a graph's index tensors and kept, where CUDA graphs are about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from xnets.ops._eager import PerGraph

T = TypeVar("T")


class PerGraphOnDevice(PerGraph[T]):
    """A `PerGraph` of tensors that may be asked for inside an operator, on the CPU or a GPU.

    Args:
        compute: Takes indptr, indices and sizes; reads no value on the host.
    """

    def __init__(self, compute: Callable[..., T]) -> None:
        super().__init__(self._compute_to_keep)
        self._compute_here = compute

    def __call__(self, indptr: Tensor, indices: Tensor, *sizes: int) -> T:
        """What `compute` returns; while a CUDA graph is captured, from what is known or in it."""
        capturing = indices.is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing and indices not in self._known:
            return self._compute_here(indptr, indices, *sizes)  # nothing may outlive the capture
        return super().__call__(indptr, indices, *sizes)

    def _changed(self, copies: list[Tensor], tensors: tuple[Tensor, ...]) -> bool:
        # While a CUDA graph is captured nothing can be compared.
        if tensors[0].is_cuda and torch.cuda.is_current_stream_capturing():
            return False
        return super()._changed(copies, tensors)

    def _compute_to_keep(self, indptr: Tensor, indices: Tensor, *sizes: int) -> T:
        if not indices.is_cuda:
            return self._compute_here(indptr, indices, *sizes)
        return outside_graph_pools(lambda: self._compute_here(indptr, indices, *sizes), indices)


def outside_graph_pools(compute: Callable[[], T], indices: Tensor) -> T:
    """Compute tensors that may outlive a call.

    torch.compile's CUDA graphs warm up with a memory pool of their own, by thread, and let nothing
    in it outlive the call. Another thread on another stream allocates from the common one.

    Args:
        compute: What to compute.
        indices: A tensor on the device.

    Returns:
        What `compute` returns, done.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    device = indices.device
    ready = torch.cuda.current_stream(device).record_event()

    def work() -> None:
        try:
            stream = torch.cuda.Stream(device)
            stream.wait_event(ready)
            with torch.cuda.device(device), torch.cuda.stream(stream):
                results.append(compute())
            stream.synchronize()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
