"""The compiled kernels as operators of torch: xnets::cpu and its gradient.

Registered with torch.library, so that autograd, torch.compile and torch.export know them. Linear is
the operator without strides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xnets.ops import _masked
from xnets.ops._call import Call
from xnets.ops._cpu_library import FORWARD, GRAD_INPUT, GRAD_WEIGHT, Graph
from xnets.ops._eager import PerGraph, runs_eagerly
from xnets.ops._pattern import Pattern, make_pattern

_GRAPH = "Tensor indptr, Tensor indices, int[] sizes"
_STEPS = "int[] stride, int[] padding, int[] dilation"
_OPS = torch.library.Library("xnets", "DEF")
_OPS.define(f"cpu(Tensor x, Tensor weight, Tensor? bias, {_GRAPH}, {_STEPS}) -> Tensor")
_OPS.define(
    f"cpu_backward(Tensor grad, Tensor x, Tensor weight, {_GRAPH}, {_STEPS}, bool[] needed)"
    " -> (Tensor, Tensor)"
)

_graph = PerGraph(Graph)


def _output_shape(x: Tensor, weight: Tensor, sizes: list[int], *steps: list[int]) -> list[int]:
    stride, padding, dilation = steps
    if not stride:
        return [x.shape[0], sizes[1]]
    spatial = []
    for i, k, s, p, d in zip(x.shape[2:], weight.shape[1:], stride, padding, dilation, strict=True):
        if i + 2 * p < d * (k - 1) + 1:
            raise ValueError(
                f"the kernel (size {tuple(weight.shape[1:])}, dilation {tuple(dilation)}) is larger"
                f" than the padded input (size {tuple(x.shape[2:])}, padding {tuple(padding)})"
            )
        spatial.append((i + 2 * p - d * (k - 1) - 1) // s + 1)
    return [x.shape[0], sizes[1], *spatial]


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    *steps: list[int],
) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    y = torch.empty(_output_shape(x, weight, sizes, *steps))
    plan = _graph(indptr, indices, *sizes).plan(x, weight.shape[1:], *steps)
    plan.run(FORWARD, x, weight, bias, y)
    return y


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    grad, x, weight = grad.contiguous(), x.contiguous(), weight.contiguous()
    graph = _graph(indptr, indices, *sizes)
    plan = graph.plan(x, weight.shape[1:], stride, padding, dilation)
    grad_x, grad_weight = torch.empty(0), torch.empty(0)
    if needed[0]:
        graph.transpose()
        grad_x = torch.empty(x.shape)
        plan.run(GRAD_INPUT, grad, weight, grad_x)
    if needed[1]:
        grad_weight = torch.empty(weight.shape)
        plan.run(GRAD_WEIGHT, x, grad, grad_weight)
    return grad_x, grad_weight


def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    *steps: list[int],
) -> Tensor:
    return x.new_empty(_output_shape(x, weight, sizes, *steps))


def _backward_fake(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    needed = rest[-1]
    return (
        x.new_empty(x.shape if needed[0] else (0,)),
        weight.new_empty(weight.shape if needed[1] else (0,)),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, indptr, indices, *rest = inputs
    ctx.save_for_backward(x, weight, indptr, indices)
    ctx.has_bias = bias is not None
    ctx.rest = rest


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, indptr, indices = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    if torch.is_grad_enabled():  # a gradient of this gradient is wanted: use what torch can derive
        grads = _differentiable(x, weight, grad, indptr, indices, ctx.rest)
    else:
        direct = runs_eagerly(grad, x)
        backward: Callable[..., Any] = _backward if direct else torch.ops.xnets.cpu_backward
        grads = backward(grad, x, weight, indptr, indices, *ctx.rest, needed)
    grad_x, grad_weight = (g if n else None for g, n in zip(grads, needed, strict=True))
    grad_bias = None
    if ctx.has_bias and ctx.needs_input_grad[2]:
        grad_bias = grad.sum([d for d in range(grad.dim()) if d != 1])
    return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _differentiable(
    x: Tensor, weight: Tensor, grad: Tensor, indptr: Tensor, indices: Tensor, rest: list[Any]
) -> tuple[Tensor, ...]:
    sizes, *steps = rest
    pattern: Pattern = make_pattern(indptr, indices, sizes[0], sizes[1], tuple(sizes[2:]))
    x, weight = (t if t.requires_grad else t.detach().requires_grad_() for t in (x, weight))
    stride, padding, dilation = map(tuple, steps)
    y = _masked.run(Call(x, weight, None, pattern, len(stride), stride, padding, dilation))
    return torch.autograd.grad(y, (x, weight), grad, create_graph=True)


class _Direct(torch.autograd.Function):
    """The operator without torch's dispatcher, whose detour by Python costs 25 microseconds."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # type: ignore[override]
        # Not by setup_context, for whose sake torch would inspect the signature at every call.
        output = _forward(*arguments)
        _save(ctx, arguments, output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _differentiate(ctx, grad)


def apply(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Run `xnets::cpu`, past the dispatcher where nothing would notice."""
    if not runs_eagerly(x, weight, bias):
        result: Tensor = torch.ops.xnets.cpu(x, weight, bias, *rest)
        return result
    if torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)
    ):
        result = _Direct.apply(x, weight, bias, *rest)
        return result
    return _forward(x, weight, bias, *rest)


_OPS.impl("cpu", _forward, "CPU")
_OPS.impl("cpu_backward", _backward, "CPU")
torch.library.register_fake("xnets::cpu", _forward_fake, lib=_OPS)
torch.library.register_fake("xnets::cpu_backward", _backward_fake, lib=_OPS)
torch.library.register_autograd("xnets::cpu", _differentiate, setup_context=_save, lib=_OPS)
