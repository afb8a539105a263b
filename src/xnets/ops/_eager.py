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


# By their own names: they are asked at every call, and a chain of dots takes as long as the answer.
_is_compiling = torch.compiler.is_compiling
_is_tracing = torch._C._is_tracing
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_transforms = torch._C._functorch.peek_interpreter_stack
_is_profiled = torch._C._autograd._profiler_enabled


def in_function_transform() -> bool:
    """Whether torch.func or forward-mode differentiation is at work."""
    return _transforms() is not None or forward_ad._current_level >= 0


def runs_eagerly(*tensors: Tensor | None, despite_profiler: bool = False) -> bool:
    """Whether nothing watches: no tracing, mode, transform, profiler or tensor subclass.

    Then the dispatcher may be passed by, which costs more than a small layer's work, and tensors
    have values to read.

    Args:
        tensors: Those of the call.
        despite_profiler: Whether a profiler does not count.
    """
    if (
        _is_compiling()
        or _is_tracing()
        or _dispatch_modes()
        or _function_modes()
        or in_function_transform()
        or (_is_profiled() and not despite_profiler)
    ):
        return False
    for tensor in tensors:
        # A view may negate what lies in memory; zeros lie nowhere: the dispatcher resolves both.
        if tensor is not None and (
            type(tensor) not in _PLAIN or tensor.is_neg() or tensor._is_zerotensor()
        ):
            return False
    return True


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
