"""The gradients of depthwise convolutions, which have kernels of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.ops import denormals
from tests.ops.compiled import binding
from tests.ops.test_csrc import assert_close, assert_touches_only_its_own, dense_results
from tests.ops.test_csrc_program import DEPTHWISE

Conv, Graph = binding.Conv, binding.Graph

CASES = {  # batch, side lengths, kernel, stride, padding, outputs for each input
    **DEPTHWISE,
    "wide": (2, (5, 70), 3, 1, 1, 1),
    "wide_stride": (2, (6, 71), 3, 2, 1, 1),
    "wide_5x5": (1, (9, 67), 5, 1, 2, 1),
    "many_images": (19, (7, 7), 3, 1, 1, 1),
    "no_padding": (2, (8, 11), 3, 1, 0, 1),
    "all_padding": (2, (6, 5), 3, 1, 2, 1),
    "all_padding_5x5": (2, (6, 5), 5, 1, 4, 1),
    "batch_0": (0, (5, 5), 3, 1, 1, 1),
}


def depthwise(library, name, width, threads, isa, order=None):
    batch, size, kernel, stride, padding, multiplier = CASES[name]
    inputs = torch.arange(width * multiplier) // multiplier if order is None else order
    graph = Graph(library, width, len(inputs), range(len(inputs) + 1), inputs)
    shape = (batch, width, *size)
    return graph, Conv(
        graph, shape, (kernel,) * 2, (stride,) * 2, (padding,) * 2, threads=threads, isa=isa
    )


@pytest.mark.parametrize("order", ["in order", "turned round"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_dense(library, isa, name, order):
    batch, size, kernel, stride, padding, multiplier = CASES[name]
    width = 5
    inputs = torch.arange(width * multiplier) // multiplier
    inputs = inputs if order == "in order" else inputs.flip(0)
    x = torch.randn(batch, width, *size)
    weight = torch.randn(len(inputs), kernel, kernel)
    for threads in (1, 3, 8):
        graph, conv = depthwise(library, name, width, threads, isa, inputs)
        y, grad, grad_x, grad_w = dense_results(
            lambda a, w, b: F.conv2d(a, w, b, stride, padding), x, weight, None, graph
        )
        assert_close(conv.forward(x, weight), y, kernel**2)
        assert_close(conv.grad_input(grad, weight), grad_x, kernel**2 * multiplier)
        assert_close(conv.grad_weight(x, grad), grad_w, y[:, 0].numel())


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_is_read_or_written(library, isa, name):
    """Beyond the scratch and the results; what lies around the arguments does not matter."""
    _, conv = depthwise(library, name, 3, 2, isa)
    guard = 64

    def surrounded(shape):
        room = torch.full((shape.numel() + 2 * guard + 1,), torch.nan)
        return room[guard + 1 : guard + 1 + shape.numel()].view(shape).copy_(torch.ones(shape))

    assert_touches_only_its_own(conv, *(surrounded(torch.Size(shape)) for shape in conv.shapes))


def test_sums_of_many_images_round_no_worse_than_dense(library, isa):
    batch, width, side = 64, 4, 28
    graph = Graph(library, width, width, range(width + 1), range(width))
    x, grad = torch.randn(batch, width, side, side), torch.randn(batch, width, side, side)
    conv = Conv(graph, x.shape, (3, 3), (1, 1), (1, 1), threads=1, isa=isa)
    weight = torch.zeros(width, 1, 3, 3)
    make = torch.nn.grad.conv2d_weight
    exact = make(x.double(), weight.shape, grad.double(), padding=1, groups=width)[:, 0]
    dense = make(x, weight.shape, grad, padding=1, groups=width)[:, 0]
    ours = conv.grad_weight(x, grad)
    error = lambda found: float((found - exact).square().mean().sqrt())  # noqa: E731
    assert error(ours) <= 1.2 * error(dense)


@pytest.mark.parametrize("name", ["3x3_7x7", "3x3_stride", "5x5", "wide"])
def test_gradients_compute_with_nothing_left_over(library, isa, name):
    _, conv = depthwise(library, name, 5, 1, isa)
    y, x, w = (1 + torch.rand(shape) for shape in conv.shapes)
    for memory in conv.scratch:
        denormals.fill(memory)
    out = [torch.ones(shape) for shape in conv.shapes]
    assert not denormals.met_in(lambda: conv.grad_input(y, w, out=out[1]))
    assert not denormals.met_in(lambda: conv.grad_weight(x, y, out=out[2]))


@pytest.mark.parametrize(("side", "stride", "padding"), [(8, 2, 0), (20, 2, 0), (8, 1, 1)])
def test_what_a_tap_does_not_read_is_not_in_its_gradient(library, isa, side, stride, padding):
    """Not even infinity, in lanes behind the end of a row."""
    graph = Graph(library, 2, 2, range(3), range(2))
    x = torch.randn(1, 2, side, side)
    x[..., -1], x[..., -1, :] = torch.inf, torch.inf
    conv = Conv(graph, x.shape, (3, 3), (stride,) * 2, (padding,) * 2, threads=1, isa=isa)
    grad = torch.rand(conv.shapes[0])
    weight = torch.zeros(2, 1, 3, 3)
    expected = torch.nn.grad.conv2d_weight(
        x.double(), weight.shape, grad.double(), stride, padding, groups=2
    )[:, 0]
    torch.testing.assert_close(conv.grad_weight(x, grad), expected.float(), rtol=1e-4, atol=1e-4)
