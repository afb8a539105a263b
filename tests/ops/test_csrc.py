"""The C library against dense convolutions and linear layers, called through its C interface alone."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F

from tests.ops import denormals
from tests.ops.compiled import CSRC, binding

Graph, Conv, Linear = binding.Graph, binding.Conv, binding.Linear
CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


GRAPHS = {  # num_in, num_out, base degree, block, irregular
    "random": (13, 11, 5, (1, 1), False),
    "irregular": (24, 40, 9, (1, 1), True),
    "degree_1": (7, 9, 1, (1, 1), False),
    "no_edges": (5, 6, 0, (1, 1), False),
    "4x1": (20, 24, 7, (4, 1), False),
    "8x1": (20, 32, 7, (8, 1), True),
    "4x4": (24, 32, 3, (4, 4), True),
    "8x8": (32, 48, 2, (8, 8), False),
    "odd_block": (21, 30, 4, (15, 3), False),
    "2x1": (17, 22, 6, (2, 1), True),
    "complete": (6, 19, 1, (19, 6), False),
    "wide": (600, 40, 70, (1, 1), True),
    # Enough inputs, and edges, that they are taken stretch by stretch.
    "many_edges": (300, 40, 200, (1, 1), True),
    "many_edges_2x1": (280, 10, 120, (2, 1), True),
    "many_edges_4x1": (290, 24, 140, (4, 1), True),
    "many_edges_4x4": (264, 24, 40, (4, 4), False),
}

SHAPES = {  # batch and size, kernel, stride, padding, dilation
    "pointwise": ((2, 9, 11), (1, 1), (1, 1), (0, 0), (1, 1)),
    "pointwise_7x7": ((5, 7, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    "pointwise_large": ((2, 33, 35), (1, 1), (1, 1), (0, 0), (1, 1)),
    "pointwise_stride": ((2, 9, 12), (1, 1), (2, 2), (0, 0), (1, 1)),
    "pointwise_padded": ((2, 5, 6), (1, 1), (1, 1), (1, 2), (1, 1)),
    "3x3": ((2, 10, 13), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_7x7": ((2, 7, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_joined": ((9, 7, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_joined_unpadded": ((7, 5, 6), (3, 3), (1, 1), (0, 2), (1, 1)),
    "3x3_joined_dilated": ((5, 6, 5), (3, 3), (1, 1), (3, 1), (2, 1)),
    "3x3_large": ((1, 40, 57), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_stride": ((2, 11, 14), (3, 3), (2, 2), (1, 1), (1, 1)),
    "3x3_dilated": ((1, 12, 9), (3, 3), (1, 1), (2, 2), (2, 2)),
    "odd": ((2, 13, 15), (2, 5), (3, 2), (1, 3), (2, 1)),
    "stride_over_kernel": ((1, 10, 11), (2, 1), (3, 4), (0, 0), (1, 1)),
    "padding_over_kernel": ((1, 4, 5), (3, 3), (1, 1), (4, 5), (1, 1)),
    "1d": ((3, 21), (3,), (1,), (1,), (1,)),
    "1d_stride": ((2, 50), (7,), (3,), (2,), (2,)),
    "3d": ((2, 4, 6, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "3d_odd": ((1, 7, 6, 5), (2, 3, 1), (2, 1, 3), (1, 0, 0), (1, 2, 1)),
    "3d_pointwise": ((2, 3, 4, 5), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    "tiny": ((3, 1, 2), (1, 1), (1, 1), (0, 0), (1, 1)),
    "tiny_3x3": ((4, 2, 2), (3, 3), (1, 1), (1, 1), (1, 1)),
    # Found by fuzzing under AddressSanitizer: one pixel in or out, and images shorter than a vector.
    "one_pixel": ((3, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "one_pixel_1": ((1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "one_pixel_in": ((3, 1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    "one_pixel_in_padded": ((3, 1, 1), (1, 2), (1, 2), (2, 3), (1, 1)),
    "one_pixel_out": ((3, 3, 3), (3, 3), (1, 1), (0, 0), (1, 1)),
    "one_pixel_out_stride": ((3, 4, 4), (3, 2), (2, 3), (0, 0), (1, 2)),
    "one_pixel_out_1d": ((3, 5), (3,), (1,), (0,), (2,)),
    "one_pixel_out_3d": ((2, 2, 1, 3), (2, 1, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    "tiny_pointwise_stride": ((9, 5), (1,), (2,), (0,), (1,)),
    "tiny_pointwise_stride_2d": ((2, 3, 3), (1, 1), (2, 2), (0, 0), (1, 1)),
    "batch_0": ((0, 5, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
}

FOR_MANY_INPUTS = ["pointwise", "pointwise_7x7", "pointwise_stride", "3x3_joined", "3x3_stride"]


def dense_results(function, x, weight, bias, graph):
    """Output and gradients by torch in float64, and the gradient that was sent back."""
    x64, w64 = x.double().requires_grad_(), weight.double().requires_grad_()
    y = function(x64, graph.dense(w64), None if bias is None else bias.double())
    grad = torch.randn(y.shape)
    grads = torch.autograd.grad(y, (x64, w64), grad.double(), allow_unused=True)
    return (
        y.detach().float(),
        grad,
        *(g.float() if g is not None else torch.zeros(w.shape) for g, w in zip(grads, (x, weight))),
    )


def assert_close(actual, expected, terms):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5 * max(terms, 1) ** 0.5)


def assert_conv_equals_dense(graph, size, kernel, stride, padding, dilation, isa):
    torch.manual_seed(0)
    x = torch.randn(size[0], graph.num_in, *size[1:])
    weight, bias = torch.randn(graph.num_edges, *kernel), torch.randn(graph.num_out)
    function = lambda a, w, b: CONVS[len(kernel)](a, w, b, stride, padding, dilation)  # noqa: E731
    y, grad, grad_x, grad_w = dense_results(function, x, weight, bias, graph)
    terms = graph.num_edges / graph.num_out * weight[:1].numel()
    for threads in (1, 3):
        conv = Conv(graph, x.shape, kernel, stride, padding, dilation, threads, isa)
        assert_close(conv.forward(x, weight, bias), y, terms)
        assert_close(conv.grad_input(grad, weight), grad_x, terms * graph.num_out / graph.num_in)
        assert_close(conv.grad_weight(x, grad), grad_w, y[:, 0].numel())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GRAPHS)
def test_conv_equals_dense(library, isa, name, shape):
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    size, kernel, stride, padding, dilation = SHAPES[shape]
    if num_in > 100 and shape not in FOR_MANY_INPUTS:
        pytest.skip("graphs of many inputs are there for how they are cut up, not for every shape")
    graph = Graph.random(library, num_in, num_out, degree, block, irregular=irregular)
    assert_conv_equals_dense(graph, size, kernel, stride, padding, dilation, isa)


JOINED = {  # num_in, num_out, degree, block; batch and size, kernel, padding, dilation
    "3_outputs": (16, 3, 3, (1, 1), (4, 3, 6), (3, 3), (0, 0), (1, 1)),
    "2_outputs": (16, 2, 3, (2, 1), (4, 1, 5), (3, 3), (1, 1), (1, 1)),
    "2_outputs_5x5": (16, 2, 3, (2, 1), (4, 2, 4), (5, 5), (2, 2), (1, 1)),
    "6_outputs_dilated": (16, 6, 3, (1, 1), (7, 3, 3), (3, 3), (1, 1), (2, 2)),
    "2_inputs": (2, 16, 1, (1, 2), (4, 1, 4), (3, 3), (1, 1), (1, 1)),
    "2_inputs_4x1": (2, 16, 2, (4, 1), (4, 1, 4), (3, 3), (1, 1), (1, 1)),
    "48_inputs": (48, 2, 3, (2, 1), (2, 1, 2), (3, 3), (1, 2), (1, 1)),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_images_as_far_apart_as_their_channels_are_long(library, isa, name):
    """The gap between joined images must not pass for the distance between images in memory."""
    num_in, num_out, degree, block, size, kernel, padding, dilation = JOINED[name]
    assert_conv_equals_dense(
        Graph.random(library, num_in, num_out, degree, block),
        *(size, kernel, (1, 1), padding, dilation, isa + binding.DIRECT),
    )


@pytest.mark.parametrize("name", ["4x1", "8x1", "2x1"])
def test_images_that_come_from_memory(library, isa, name):
    """Over 4 MB, where tiles of 1x1 layers are copied that otherwise would be read in place."""
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    graph = Graph.random(library, num_in, num_out, degree, block, irregular=irregular)
    assert_conv_equals_dense(graph, (5, 109, 107), (1, 1), (1, 1), (0, 0), (1, 1), isa)


EMPTY = {  # size of x, kernel, stride, padding
    "no_width": ((2, 3, 0), (3, 3), (1, 1), (2, 2)),
    "no_width_stride": ((2, 3, 0), (3, 3), (2, 2), (2, 2)),
    "no_height": ((2, 0, 3), (5, 5), (1, 1), (4, 4)),
    "nothing": ((1, 0, 0), (3, 3), (1, 1), (2, 2)),
    "no_output": ((2, 5, 2), (3, 3), (1, 1), (0, 0)),
    "no_output_stride": ((3, 1, 4), (3, 3), (2, 2), (0, 0)),
}


@pytest.mark.parametrize("flag", [0, binding.DIRECT, binding.WINOGRAD])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), "depthwise"])
@pytest.mark.parametrize("name", EMPTY)
def test_images_without_pixels(library, isa, name, block, flag):
    """Of no input come biases and gradients of zero."""
    size, kernel, stride, padding = EMPTY[name]
    if block == "depthwise":
        graph = Graph(library, 8, 8, range(9), range(8))
    else:
        graph = Graph.random(library, 8, 8, 2, block)
    for threads in (1, 3):
        conv = Conv(
            *(graph, (size[0], 8, *size[1:]), kernel, stride, padding),
            threads=threads,
            isa=isa + flag,
        )
        weight, bias = torch.randn(graph.num_edges, *kernel), torch.randn(8)
        y = conv.forward(torch.zeros(conv.shapes[1]), weight, bias)
        assert torch.equal(y, bias.view(1, -1, 1, 1).expand(y.shape))
        grad = torch.randn(y.shape)
        assert not conv.grad_input(grad, weight).any()
        assert not conv.grad_weight(torch.zeros(conv.shapes[1]), grad).any()


@pytest.mark.parametrize("rows", [5, 8, 17, 100, 1500])
@pytest.mark.parametrize(
    "sizes", [(1, 4, (4, 1)), (1, 6, (2, 1)), (1, 5, (1, 1)), (5, 1, (1, 1)), (4, 1, (1, 4))]
)
def test_linear_of_one_feature(library, isa, sizes, rows):
    """Features of one side lie as far apart as pixels do."""
    torch.manual_seed(0)
    num_in, num_out, block = sizes
    graph = Graph.random(library, num_in, num_out, num_in // block[1], block)
    x, weight = torch.randn(rows, num_in), torch.randn(graph.num_edges, 1)
    y, grad, grad_x, grad_w = dense_results(
        lambda a, w, b: F.linear(a, w[..., 0], b), x, weight, None, graph
    )
    linear = Linear(graph, rows, 2, isa)
    assert_close(linear.forward(x, weight), y, num_in)
    assert_close(linear.grad_input(grad, weight), grad_x, num_out)
    assert_close(linear.grad_weight(x, grad), grad_w, rows)


@pytest.mark.parametrize("rows", [0, 1, 3, 5, 17, 130])
@pytest.mark.parametrize("name", GRAPHS)
def test_linear_equals_dense(library, isa, name, rows):
    torch.manual_seed(0)
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    graph = Graph.random(library, num_in, num_out, degree, block, irregular=irregular)
    x, weight, bias = (
        torch.randn(rows, num_in),
        torch.randn(graph.num_edges, 1),
        torch.randn(num_out),
    )
    function = lambda a, w, b: F.linear(a, w[..., 0], b)  # noqa: E731
    y, grad, grad_x, grad_w = dense_results(function, x, weight, bias, graph)
    for threads in (1, 3):
        linear = Linear(graph, rows, threads, isa)
        assert_close(linear.forward(x, weight, bias), y, degree * block[1])
        assert_close(linear.forward(x, weight), y - bias, degree * block[1])
        assert_close(linear.grad_input(grad, weight), grad_x, degree * block[0])
        assert_close(linear.grad_weight(x, grad), grad_w, rows)


def assert_touches_only_its_own(conv, y, x, w):
    """Beyond its scratch, at an odd address, and beyond its results nothing is written."""
    guard = 64
    guarded = [torch.full((n + guard + 1,), 77, dtype=torch.uint8) for n in conv.scratch_bytes()]
    conv.scratch = [memory[1:] for memory in guarded]
    runs = (
        lambda o: conv.forward(x, w, out=o),
        lambda o: conv.grad_input(y, w, out=o),
        lambda o: conv.grad_weight(x, y, out=o),
    )
    for op, run in enumerate(runs):
        count = conv.result(op, None).numel()
        room = torch.full((guard + count + guard,), -1.0)
        run(room[guard : guard + count].view(conv.shapes[op]))
        assert room.isfinite().all()
        assert room[:guard].eq(-1).all() and room[guard + count :].eq(-1).all()
        assert guarded[op][0] == 77 and guarded[op][-guard:].eq(77).all()


@pytest.mark.parametrize("shape", ["pointwise", "pointwise_7x7", "3x3_joined", "odd", "3x3_stride"])
@pytest.mark.parametrize("name", ["random", "4x4", "complete"])
def test_scratch_is_all_it_touches(library, isa, name, shape):
    """Beyond the scratch it asked for, at an odd address, and beyond its results nothing is written."""
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    size, kernel, stride, padding, dilation = SHAPES[shape]
    graph = Graph.random(library, num_in, num_out, degree, block, irregular=irregular)
    conv = Conv(graph, (size[0], num_in, *size[1:]), kernel, stride, padding, dilation, 2, isa)
    assert_touches_only_its_own(conv, *(torch.ones(shape) for shape in conv.shapes))


WAYS = {"chosen": 0, "direct": binding.DIRECT, "winograd": binding.WINOGRAD}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GRAPHS)
def test_computes_with_nothing_left_over(library, isa, name, way):
    """Lanes that nobody needs hold no small integers of before: such numbers cost a hundred times as much."""
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    graph = Graph.random(library, num_in, num_out, degree, block, irregular=irregular)
    torch.manual_seed(0)

    def check(layer):
        y, x, w = (1 + torch.rand(shape) for shape in layer.shapes)
        for memory in layer.scratch:
            denormals.fill(memory)
        out = [torch.ones(shape) for shape in layer.shapes]
        assert not denormals.met_in(lambda: layer.forward(x, w, out=out[0]))
        assert not denormals.met_in(lambda: layer.grad_input(y, w, out=out[1]))
        assert not denormals.met_in(lambda: layer.grad_weight(x, y, out=out[2]))

    for shape, (size, kernel, stride, padding, dilation) in SHAPES.items():
        if num_in < 100 or shape in FOR_MANY_INPUTS:
            sizes = (size[0], num_in, *size[1:])
            check(Conv(graph, sizes, kernel, stride, padding, dilation, 1, isa + WAYS[way]))
    for rows in (1, 3, 5, 33, 130):
        check(Linear(graph, rows, 1, isa))


def test_knows_when_numbers_below_the_normal_ones_are_met():
    small, one = torch.full((64,), 3, dtype=torch.int32).view(torch.float32), torch.ones(64)
    assert denormals.met_in(lambda: one * one) is False
    assert denormals.met_in(lambda: small * one) is denormals.WATCHED


@pytest.mark.parametrize("block", [(1, 1), (2, 1), (4, 1), (4, 4)])
@pytest.mark.parametrize("side", [3, 4, 7, 33])
def test_gradients_keep_channels_apart(library, isa, side, block):
    """Where a channel ends within a vector, what lies behind it is another's: even infinity must not get through."""
    torch.manual_seed(0)
    graph = Graph.random(library, 24, 16, 5, block)
    outputs, inputs = graph.edges()
    x, grad = torch.randn(1, 24, side, side), torch.randn(1, 16, side, side)
    conv = Conv(graph, x.shape, (1, 1), isa=isa)
    expected = conv.grad_weight(x, grad)
    x[0, 1::2], grad[0, 1::2] = torch.inf, torch.inf
    alone = (outputs % 2 == 0) & (inputs % 2 == 0)
    assert alone.any()
    torch.testing.assert_close(conv.grad_weight(x, grad)[alone], expected[alone])


def test_same_threads_same_bits(library):
    torch.manual_seed(0)
    graph = Graph.random(library, 48, 64, 12)
    x, weight = torch.randn(4, 48, 9, 9), torch.randn(graph.num_edges, 3, 3)
    conv = Conv(graph, x.shape, (3, 3), padding=(1, 1), threads=2)
    y = conv.forward(x, weight)
    first = y, conv.grad_input(y, weight), conv.grad_weight(x, y)
    for _ in range(3):
        again = conv.forward(x, weight), conv.grad_input(y, weight), conv.grad_weight(x, y)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_from_many_python_threads(library):
    torch.manual_seed(0)
    graph = Graph.random(library, 48, 64, 12, (4, 1))
    x, weight = torch.randn(4, 48, 9, 9), torch.randn(graph.num_edges, 3, 3)
    expected = Conv(graph, x.shape, (3, 3), padding=(1, 1), threads=2).forward(x, weight)
    wrong = []

    def work():
        conv = Conv(graph, x.shape, (3, 3), padding=(1, 1), threads=2)
        wrong.extend(i for i in range(20) if not torch.equal(conv.forward(x, weight), expected))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_shares_torch_threads(library):
    """In a new process: one OpenMP runtime is mapped, torch's, and torch's thread count is the library's."""
    program = f"""
import importlib.util, os, torch
spec = importlib.util.spec_from_file_location("binding", {str(CSRC / "binding.py")!r})
binding = importlib.util.module_from_spec(spec); spec.loader.exec_module(binding)
library = binding.load({library._name!r})
graph = binding.Graph.random(library, 64, 64, 16)
x, w = torch.randn(8, 64, 16, 16), torch.randn(graph.num_edges, 1, 1)
tasks = lambda: len(os.listdir("/proc/self/task"))
torch.set_num_threads(1)
before = tasks()
conv = binding.Conv(graph, x.shape, (1, 1), threads=0)
conv.forward(x, w)
assert tasks() == before, "one thread must start no other"
torch.set_num_threads(3)
conv = binding.Conv(graph, x.shape, (1, 1), threads=0)
conv.forward(x, w)
assert tasks() == before + 2, "three threads are the caller and two more"
torch.randn(1 << 22).exp_()
assert tasks() == before + 2, "torch must work on the same threads"
maps = {{line.split()[-1] for line in open("/proc/self/maps") if "omp" in os.path.basename(line.split()[-1])}}
openmp = {{m for m in maps if os.path.basename(m).startswith(("libgomp", "libomp", "libiomp"))}}
assert {{os.path.realpath(m) for m in openmp}} == {{os.path.realpath(library.xn_openmp_path().decode())}}, openmp
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    subprocess.run([sys.executable, "-c", program], check=True)


def test_bad_arguments(library):
    graph = Graph.random(library, 8, 8, 3)
    conv = Conv(graph, (1, 8, 4, 4), (3, 3))
    x, w, y = torch.ones(1, 8, 4, 4), torch.ones(graph.num_edges, 3, 3), torch.ones(1, 8, 2, 2)
    arrays = [t.data_ptr() for t in (x, w)]
    call = lambda g, isa: library.xn_conv_forward(  # noqa: E731
        g, conv.pointer, *arrays, None, y.data_ptr(), conv.scratch[0].data_ptr(), 1, isa
    )
    assert call(graph.pointer, 0) == 0
    assert call(graph.pointer, 9) == 2
    assert call(None, 0) == 1
    arrays[0] = None
    assert call(graph.pointer, 0) == 1, "an input"
    conv.c.kernel[1] = conv.c.kernel[2] = 1 << 12
    conv.c.padding[1] = conv.c.padding[2] = 1 << 12
    assert library.xn_conv_scratch(graph.pointer, conv.pointer, 0, 1, 0) == -1, "2^24 taps"
    conv.c.stride[1] = 0
    assert call(graph.pointer, 0) == 1
    assert library.xn_conv_scratch(graph.pointer, conv.pointer, 0, 1, 0) == -1
    broken = binding.CGraph.from_buffer_copy(graph.c)
    indices = graph.indices.clone()
    indices[0] = 8
    broken.indices = indices.data_ptr()
    assert library.xn_check_graph(ctypes.byref(broken)) == 1


ROUNDING = {  # kind, channels, side (1: linear), batch, degree
    "1x1": (1, 512, 7, 4, 256),
    "1x1_long": (1, 1024, 5, 2, 512),
    "3x3": (3, 128, 9, 2, 64),
    "3x3_sparse": (3, 128, 14, 2, 16),
    "linear": (1, 1024, 1, 64, 256),
    "linear_few": (1, 1024, 1, 4, 128),
    "linear_one": (1, 1024, 1, 1, 512),
}


def rms_error(actual, exact):
    return (actual.double() - exact).pow(2).mean().sqrt().item()


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (4, 4)])
@pytest.mark.parametrize("name", ROUNDING)
def test_rounds_no_worse_than_dense(library, isa, name, block):
    """Errors against float64, beside those of torch's dense layer in float32."""
    torch.manual_seed(0)
    side, channels, size, batch, degree = ROUNDING[name]
    linear = name.startswith("linear")
    graph = Graph.random(library, channels, channels, degree // block[1], block)
    x = torch.randn(batch, channels) if linear else torch.randn(batch, channels, size, size)
    weight = torch.randn(graph.num_edges, *([1] if linear else [side, side]))
    if linear:
        function, layer = lambda a, w: F.linear(a, w[..., 0]), Linear(graph, batch, 1, isa)
    else:
        padding = (side // 2, side // 2)
        function = lambda a, w: F.conv2d(a, w, padding=padding)  # noqa: E731
        layer = Conv(graph, x.shape, (side, side), padding=padding, isa=isa)
    grad = torch.randn(layer.shapes[0])
    results = []
    for dtype in (torch.float64, torch.float32):
        inputs, full = x.to(dtype).requires_grad_(), graph.dense(weight.to(dtype)).requires_grad_()
        y = function(inputs, full)
        grad_x, grad_full = torch.autograd.grad(y, (inputs, full), grad.to(dtype))
        results.append((y.detach(), grad_x, grad_full[graph.edges()].view(weight.shape)))
    ours = layer.forward(x, weight), layer.grad_input(grad, weight), layer.grad_weight(x, grad)
    for op, (actual, exact, dense) in enumerate(zip(ours, *results, strict=True)):
        # A tenth for chance; below 1.2e-7 of the result, float32 itself is the limit, for dense layers too.
        # Winograd's transforms round by about as much once more, however short the sums are.
        floor = 1.2e-7 * exact.pow(2).mean().sqrt().item()
        limit = 1.5 if not linear and layer.is_winograd(op) else 1.1
        assert rms_error(actual, exact) <= max(limit * rms_error(dense, exact), floor)
