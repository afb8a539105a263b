"""Whether torch runs plainly here, and what is computed from a graph's index tensors meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")
_PLAIN = (Tensor, torch.nn.Parameter)


def in_function_transform() -> bool:
    """Whether torch.func or forward-mode differentiation is at work."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    )


def runs_eagerly(*tensors: Tensor | None) -> bool:
    """Whether nothing watches: no tracing, mode, transform, profiler or tensor subclass.

    Then the dispatcher may be passed by, which costs more than a small layer's work, and tensors
    have values to read.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._len_torch_function_stack() == 0
        and not in_function_transform()
        and not torch._C._autograd._profiler_enabled()
        and all(map(_is_plain, tensors))
    )


def _is_plain(tensor: Tensor | None) -> bool:
    # A view may negate what lies in memory, and zeros lie nowhere: the dispatcher resolves both.
    if tensor is None:
        return True
    return type(tensor) in _PLAIN and not (tensor.is_neg() or tensor._is_zerotensor())


class PerGraph(Generic[T]):
    """Something computed from a graph's index tensors, kept while they live and do not change.

    Args:
        compute: Takes indptr, indices and whatever else the call names; must not keep the tensors.
    """

    def __init__(self, compute: Callable[..., T]) -> None:
        self._compute = compute
        # By the layer's own index tensor: what is derived from it dies with it.
        self._known: Any = WeakTensorKeyDictionary()

    def __len__(self) -> int:
        """Number of graphs that something is kept for."""
        return len(self._known)

    def __call__(self, indptr: Tensor, indices: Tensor, *sizes: int) -> T:
        """What `compute` returns, computed again only if the tensors were written to."""
        tensors = (indptr, indices)
        counted = not any(tensor.is_inference() for tensor in tensors)
        stamp = (*(tensor.data_ptr() for tensor in tensors), sizes)
        stamp += tuple(tensor._version for tensor in tensors) if counted else ()
        known: tuple[object, list[Tensor], T] | None = self._known.get(indices)
        # Tensors of inference mode do not count how often they were written to: compare them.
        if known is None or known[0] != stamp or self._changed(known[1], tensors):
            copies = [] if counted else [tensor.clone() for tensor in tensors]
            known = stamp, copies, self._compute(indptr, indices, *sizes)
            self._known[indices] = known
        return known[2]

    def _changed(self, copies: list[Tensor], tensors: tuple[Tensor, ...]) -> bool:
        return bool(copies) and not all(map(torch.equal, copies, tensors))
