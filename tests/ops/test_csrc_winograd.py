"""Winograd's algorithm for 3x3 convolutions: forced, and where the kernels choose it."""

from __future__ import annotations

import ctypes

import pytest
import torch
import torch.nn.functional as F

from tests.ops.compiled import binding

Graph, Conv = binding.Graph, binding.Conv
DIRECT, WINOGRAD = binding.DIRECT, binding.WINOGRAD

GRAPHS = {  # num_in, num_out, base degree, block, irregular
    "random": (13, 11, 5, (1, 1), False),
    "degree_1": (7, 9, 1, (1, 1), False),
    "no_edges": (5, 6, 0, (1, 1), False),
    "4x1": (20, 24, 7, (4, 1), False),
    "8x1": (20, 32, 7, (8, 1), True),
    "4x4": (24, 32, 3, (4, 4), True),
    "odd_block": (21, 30, 4, (15, 3), False),
    "2x1": (17, 22, 6, (2, 1), True),
    "1x4": (16, 12, 2, (1, 4), False),
    "complete": (6, 19, 1, (19, 6), False),
    "long_sums": (90, 8, 80, (4, 1), True),
}
SHAPES = {  # batch, height, width, padding
    "odd": (2, 9, 13, (1, 1)),
    "even": (1, 12, 10, (1, 1)),
    "7x7": (5, 7, 7, (1, 1)),
    "unpadded": (3, 5, 6, (0, 0)),
    "wide_padding": (2, 4, 5, (2, 2)),
    "unequal_padding": (3, 6, 5, (0, 2)),
    "large": (1, 31, 57, (1, 1)),
    "many_tiny": (37, 2, 2, (1, 1)),
    "column": (3, 11, 1, (1, 1)),
    "row": (2, 1, 40, (2, 1)),
    "one_pixel": (3, 1, 1, (1, 1)),
    "one_pixel_out": (2, 3, 3, (0, 0)),
}


def make(library, name):
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    return Graph.random(library, num_in, num_out, degree, block, irregular=irregular)


def dense(graph, x, weight, bias, padding):
    return F.conv2d(x.double(), graph.dense(weight.double()), bias.double(), padding=padding)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_the_definition(library, isa, name, shape):
    """Output and gradient to the input, over NaNs, on the paths asserted."""
    torch.manual_seed(0)
    graph = make(library, name)
    batch, height, width, padding = SHAPES[shape]
    x = torch.randn(batch, graph.num_in, height, width)
    weight, bias = torch.randn(graph.num_edges, 3, 3), torch.randn(graph.num_out)
    x64 = x.double().requires_grad_()
    want = dense(graph, x64, weight, bias, padding)
    grad = torch.randn(want.shape)
    want_x = torch.autograd.grad(want, x64, grad.double())[0].float()
    scale = max(1, 9 * graph.num_edges / graph.num_out) ** 0.5
    for threads in (1, 3):
        conv = Conv(graph, x.shape, (3, 3), padding=padding, threads=threads, isa=isa + WINOGRAD)
        # Depthwise layers have kernels of their own, which know square paddings.
        assert conv.is_winograd(0) == (name != "degree_1" or padding[0] != padding[1])
        assert conv.is_winograd(1)
        assert not conv.is_winograd(2)
        close = {"rtol": 1e-4, "atol": 3e-6 * scale}
        torch.testing.assert_close(conv.forward(x, weight, bias), want.detach().float(), **close)
        torch.testing.assert_close(conv.grad_input(grad, weight), want_x, **close)


def test_is_chosen_where_it_is_faster(library, isa):
    """Not for few edges, strides, other kernels, dilation; never if that is asked for."""

    def chosen(degree, kernel=(3, 3), flag=0, side=28, block=(4, 1), **geometry):
        graph = Graph.random(library, 64, 64, degree, block)
        conv = Conv(graph, (2, 64, side, side), kernel, isa=isa + flag, **geometry)
        assert not conv.is_winograd(2)
        return conv.is_winograd(0), conv.is_winograd(1)

    assert chosen(32, padding=(1, 1)) == (True, True)
    assert chosen(8, padding=(1, 1), block=(4, 4)) == (True, True)
    assert chosen(32, padding=(1, 1), block=(1, 1)) == (True, True)
    assert chosen(2, padding=(1, 1)) == (False, False)
    assert chosen(32, padding=(1, 1), flag=DIRECT) == (False, False)
    assert chosen(2, padding=(1, 1), flag=WINOGRAD) == (True, True)
    for other in (
        {"stride": (2, 2)},
        {"dilation": (2, 2)},
        {"padding": (3, 3)},
        {"kernel": (3, 1)},
        {"kernel": (5, 5)},
    ):
        assert chosen(32, flag=WINOGRAD, **other) == (False, False)


def test_infinity_stays_with_the_pixels_that_see_it(library, isa):
    """Each result is made of its own nine pixels; but infinities meet, and give NaN."""
    graph = Graph.random(library, 32, 32, 32, (4, 1))
    x = torch.randn(1, 32, 16, 16)
    x[0, :, 5, 6] = torch.inf
    weight = torch.rand(graph.num_edges, 3, 3)
    finite = torch.ones(16, 16, dtype=torch.bool)
    finite[4:7, 5:8] = False
    for flag in (DIRECT, WINOGRAD):
        conv = Conv(graph, x.shape, (3, 3), padding=(1, 1), isa=isa + flag)
        y = conv.forward(x, weight)
        assert torch.equal(y.isfinite(), finite.expand(1, 32, 16, 16))
        assert y.isnan().any() == (flag == WINOGRAD)


def test_long_sums_of_gradients_round_as_dense_ones(library, isa):
    """To scatter is to add in one long chain, which is only for graphs of small fan-out."""
    torch.manual_seed(0)
    graph = Graph.random(library, 64, 1600, 32, (4, 1))
    grad, weight = torch.randn(1, 1600, 8, 8), torch.randn(graph.num_edges, 3, 3)
    conv = Conv(graph, (1, 64, 8, 8), (3, 3), padding=(1, 1), isa=isa + WINOGRAD)
    exact, dense_layer = (
        F.conv_transpose2d(grad.to(d), graph.dense(weight.to(d)), padding=1)
        for d in (torch.float64, torch.float32)
    )
    error, dense_error = (
        (r.double() - exact).norm() for r in (conv.grad_input(grad, weight), dense_layer)
    )
    assert error < 1.5 * dense_error


def test_gradient_is_weighed_against_the_way_it_would_go_instead(library, isa):
    """Blocks (4, 1) scatter their gradients, faster than the lone rows of the transposed graph."""
    graph = Graph.random(library, 512, 512, 64, (4, 1))
    conv = Conv(graph, (1, 512, 7, 7), (3, 3), padding=(1, 1), isa=isa)
    assert not conv.is_winograd(1)
    lone = Graph.random(library, 128, 128, 32)
    conv = Conv(lone, (1, 128, 28, 28), (3, 3), padding=(1, 1), isa=isa)
    assert conv.is_winograd(1)


def test_same_bits_every_time(library, isa):
    graph = Graph.random(library, 48, 48, 24, (4, 1))
    x, weight = torch.randn(3, 48, 15, 15), torch.randn(graph.num_edges, 3, 3)
    for threads in (1, 2):
        conv = Conv(graph, x.shape, (3, 3), padding=(1, 1), threads=threads, isa=isa + WINOGRAD)
        assert conv.is_winograd(0)
        first = conv.forward(x, weight)
        assert all(torch.equal(conv.forward(x, weight), first) for _ in range(3))


@pytest.mark.parametrize("name", ["random", "4x1", "4x4", "odd_block"])
def test_scratch_is_all_it_touches(library, isa, name):
    """Nothing beyond the scratch it asked for, at an odd address, and beyond its results."""
    graph, guard = make(library, name), 64
    conv = Conv(
        graph, (3, graph.num_in, 9, 11), (3, 3), padding=(1, 1), threads=2, isa=isa + WINOGRAD
    )
    guarded = [torch.full((n + guard + 1,), 77, dtype=torch.uint8) for n in conv.scratch_bytes()]
    conv.scratch = [memory[1:] for memory in guarded]
    y, x, w = (torch.ones(shape) for shape in conv.shapes)
    runs = (lambda out: conv.forward(x, w, out=out)), (lambda out: conv.grad_input(y, w, out=out))
    for op, run in enumerate(runs):
        room = torch.full((guard + conv.result(op, None).numel() + guard,), -1.0)
        run(room[guard:-guard].view(conv.shapes[op]))
        assert room[:guard].eq(-1).all()
        assert room[-guard:].eq(-1).all()
        assert guarded[op][0] == 77
        assert guarded[op][-guard:].eq(77).all()


@pytest.mark.parametrize("edges", [0, 1, 7, 8, 9, 100, 333])
def test_weights_once(library, isa, edges):
    """G g G^T, for any number of edges, without reading or writing beside them."""
    graph = Graph.random(library, 360, 1, edges)
    conv = Conv(graph, (1, 360, 8, 8), (3, 3), padding=(0, 1), isa=isa + WINOGRAD)
    pointer = graph.pointer
    size = library.xn_winograd_size(pointer, conv.pointer, isa + WINOGRAD)
    assert size >= 16 * edges
    assert size % 16 == 0
    weight = torch.randn(edges, 3, 3)
    to = torch.full((size + 16,), torch.nan)
    status = library.xn_winograd_weight(pointer, weight.data_ptr(), to.data_ptr(), 2, isa)
    assert status == 0
    assert to[size:].isnan().all()
    g = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]).double()
    want = (g @ weight.double() @ g.T).flatten(1).T
    torch.testing.assert_close(
        to[:size].view(16, -1)[:, :edges].double(), want, rtol=1e-6, atol=1e-6
    )


def test_wrong_arguments(library):
    graph = Graph.random(library, 8, 8, 2)
    conv = Conv(graph, (1, 8, 8, 8), (3, 3))
    ask = library.xn_conv_is_winograd
    assert ask(None, conv.pointer, 0, 1, 0) == -1
    assert ask(graph.pointer, None, 0, 1, 0) == -1
    assert ask(graph.pointer, conv.pointer, 3, 1, 0) == -1
    assert library.xn_winograd_size(graph.pointer, None, 0) == -1
    assert library.xn_winograd_size(None, conv.pointer, 0) == -1
    nothing = ctypes.c_void_p()
    assert library.xn_winograd_weight(graph.pointer, nothing, nothing, 1, 0) == 1
