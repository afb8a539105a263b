"""Calls of the compiled kernels of a kind that was run before.

To check a call, choose its backend and pass torch's dispatcher takes several times as long as a
small layer computes. What all that depends on is therefore kept with the graph, in its pattern: the
next call of the same kind compares it and runs the kernel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from xnets.ops._call import Call
from xnets.ops._cpu_library import is_readable
from xnets.ops._cpu_ops import gradients, graph_of, output
from xnets.ops._eager import runs_eagerly
from xnets.ops._operator import differentiate, output_shape

_MOST = 64  # kinds of calls of one graph


class Ready:
    """All that the kernels need for a kind of call, but the values.

    Args:
        call: A call that was checked, and that the compiled kernels are to run.
    """

    __slots__ = ("_graph", "_input", "_output", "_plan", "_rest", "_shape", "_stamp", "_tensors")

    def __init__(self, call: Call) -> None:
        pattern, x, weight = call.pattern, call.input, call.weight
        sizes = [pattern.num_in, pattern.num_out, *pattern.block]
        steps = call.stride, call.padding, call.dilation
        self._rest = sizes, *steps
        self._tensors = pattern.indptr, pattern.indices  # `_graph` has their addresses
        self._stamp = self._stamp_now()
        batch, size = x.shape[: x.dim() - call.spatial - 1], x.shape[x.dim() - call.spatial :]
        self._input = math.prod(batch), pattern.num_in, *size
        canonical = x.new_empty(1).expand(self._input)
        self._output = tuple(output_shape(canonical, weight, *self._rest))
        self._shape = *batch, *self._output[1:]
        self._graph = graph_of(*self._tensors, *sizes)
        self._plan = self._graph.plan(canonical, weight.shape[1:], *steps)

    def is_current(self) -> bool:
        """Whether nobody wrote into the graph's tensors meanwhile."""
        return self._stamp == self._stamp_now()

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run the kernels on other tensors of the same kind; differentiable."""
        if torch.is_grad_enabled() and (
            x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
        ):
            return _Again.apply(self, x, weight, bias)  # type: ignore[no-any-return]
        return self._forward(x, weight, bias)

    def _forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return output(self._graph, self._plan, x, weight, bias, self._shape)

    def _backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        # Memory may have moved since, which no version tells: as share_memory() does.
        if runs_eagerly(grad, x, weight) and self.is_current():
            return gradients(self._graph, self._plan, grad, x, weight, arguments[-1])
        return torch.ops.xnets.cpu_backward(grad, x, weight, *arguments)  # type: ignore[no-any-return]

    def _stamp_now(self) -> tuple[int, ...]:
        indptr, indices = self._tensors
        return indptr._version, indices._version, indptr.data_ptr(), indices.data_ptr()


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, ready: Ready, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *ready._tensors)
        ctx.ready = ready
        return ready._forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ready: Ready = ctx.ready
        x, weight, *graph = ctx.saved_tensors
        shape, needed = x.shape, ctx.needs_input_grad[1:]
        if shape != ready._input:
            x, grad = x.reshape(ready._input), grad.reshape(ready._output)
        arguments = *graph, *ready._rest
        grads = differentiate(ready._backward, grad, x, weight, *arguments, needed=needed)
        grad_x, *others = grads
        if grad_x is not None and shape != ready._input:
            grad_x = grad_x.reshape(shape)
        return None, grad_x, *others


def find(call: Call, backend: str) -> Ready | None:
    """What calls of this kind need, if there was one; None, too, where somebody watches.

    Args:
        call: The arguments of the op, not checked yet.
        backend: "auto", or the one that must run it.
    """
    if not _fits(call):  # asked first: compiled code must not depend on what is known
        return None
    ready = call.pattern.known.get(_kind(call, backend))
    return ready if ready is not None and ready.is_current() else None


def prepare(call: Call, backend: str) -> Ready | None:
    """Find what calls of this kind need, for this one and the next.

    Args:
        call: A call that was checked, and that the compiled kernels are to run.
        backend: "auto", or the one that must run it.

    Returns:
        None where this call must take another way: it is watched, or its tensors are no plain ones.
    """
    # Tensors of inference mode do not count how often they were written to.
    if not _fits(call) or call.pattern.indices.is_inference() or call.pattern.indptr.is_inference():
        return None
    known = call.pattern.known
    if len(known) >= _MOST:  # sizes that vary without end, as of sentences
        known.clear()
    ready = known[_kind(call, backend)] = Ready(call)
    return ready


def _fits(call: Call) -> bool:
    x, weight, bias = call.input, call.weight, call.bias
    return (
        runs_eagerly(x, weight, bias)
        and not torch.is_autocast_enabled("cpu")
        and x is not None
        and is_readable(x)
        and is_readable(weight)
        and (bias is None or is_readable(bias))
    )


def _kind(call: Call, backend: str) -> tuple[object, ...]:
    """All but values that the checks, the choice and the kernels look at."""
    return (
        call.input.shape,
        call.input.is_contiguous(),
        call.weight.shape,
        None if call.bias is None else call.bias.shape,
        call.spatial,
        tuple(call.stride),
        tuple(call.padding),
        tuple(call.dilation),
        call.groups,
        backend,
        torch.get_num_threads(),
    )
