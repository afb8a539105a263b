"""What every backend that is an operator of torch is asked, whatever runs it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tests.ops.gpu_or_not import gradients


def operator_arguments(layer: nn.Module, x: Tensor) -> tuple[object, ...]:
    call = layer.call(x)
    pattern = call.pattern
    return (
        x.requires_grad_(),
        layer.weight,
        layer.bias,
        pattern.indptr,
        pattern.indices,
        [pattern.num_in, pattern.num_out, *pattern.block],
        list(call.stride),
        list(call.padding),
        list(call.dilation),
    )


def assert_second_derivatives(layer: nn.Module, x: Tensor, backend: str) -> None:
    """The gradient of a gradient penalty, against `masked`."""
    found = []
    for name in (backend, "masked"):
        layer.backend = name
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(layer(leaf).pow(3).sum(), leaf, create_graph=True)
        grad.square().sum().backward()
        found.append([leaf.grad, layer.weight.grad.clone()])
        layer.zero_grad()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


def assert_only_wanted_gradients(layer: nn.Module, x: Tensor, frozen: str) -> None:
    """A leaf that needs no gradient gets none, and the others do."""
    leaves = {"input": x, "weight": layer.weight, "bias": layer.bias}
    for key, leaf in leaves.items():
        leaf.requires_grad_(key != frozen)
    layer(x).square().sum().backward()
    assert {key for key, leaf in leaves.items() if leaf.grad is None} == {frozen}


def assert_cuda_graphs(layer: nn.Module, x: Tensor) -> None:
    """Compiled with CUDA graphs, and captured by hand before any table is known."""
    compiled = torch.compile(layer, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        got = [t.clone() for t in gradients(compiled, x)]
    torch.testing.assert_close(got, gradients(layer, x))
    fresh = copy.deepcopy(layer)
    static = x.clone().requires_grad_()
    layer(static).sum().backward()  # compiles the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        (grad,) = torch.autograd.grad(fresh(static).sum(), static)
    graph.replay()
    torch.testing.assert_close(grad, torch.autograd.grad(layer(static).sum(), static)[0])
