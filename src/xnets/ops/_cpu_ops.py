"""The compiled kernels as an operator of torch: xnets::cpu and its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from xnets.ops._cpu_library import FORWARD, GRAD_INPUT, GRAD_WEIGHT, Graph, Plan
from xnets.ops._eager import PerGraph
from xnets.ops._operator import output_shape, register

graph_of = PerGraph(Graph)


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    *steps: list[int],
) -> Tensor:
    shape = output_shape(x, weight, sizes, *steps)
    graph = graph_of(indptr, indices, *sizes)
    return output(graph, graph.plan(x, weight.shape[1:], *steps), x, weight, bias, shape)


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
    graph = graph_of(indptr, indices, *sizes)
    plan = graph.plan(x, weight.shape[1:], stride, padding, dilation)
    return gradients(graph, plan, grad, x, weight, needed)


def output(
    graph: Graph, plan: Plan, x: Tensor, weight: Tensor, bias: Tensor | None, shape: Sequence[int]
) -> Tensor:
    """The output, in a shape of as many numbers as the plan's."""
    y = x.new_empty(shape)
    bias = None if bias is None else bias.contiguous()
    plan.run(graph, FORWARD, x.contiguous(), weight.contiguous(), bias, y)
    return y


def gradients(
    graph: Graph, plan: Plan, grad: Tensor, x: Tensor, weight: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    """The gradients to input and weight, empty where not needed.

    Raises:
        RuntimeError: If what was saved for them is of another type or size by now.
    """
    plan.check(graph, grad, x, weight)
    grad, x, weight = grad.contiguous(), x.contiguous(), weight.contiguous()
    grad_x, grad_weight = x.new_empty(0), weight.new_empty(0)
    if needed[0]:
        graph.transpose()
        grad_x = x.new_empty(x.shape)
        plan.run(graph, GRAD_INPUT, grad, weight, grad_x)
    if needed[1]:
        grad_weight = weight.new_empty(weight.shape)
        plan.run(graph, GRAD_WEIGHT, x, grad, grad_weight)
    return grad_x, grad_weight


apply = register("cpu", ("CPU",), _forward, _backward)
