"""Lists of inference steps of the C library, each kind beside a reference in torch."""

from __future__ import annotations

import ctypes
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.ops.compiled import binding
from tests.ops.programs import Graph, Program, conv_of
from xnets.ops._cpu_program import Act, CStep, CTensor, Kind

ACTS = {  # number, low, high, reference
    "none": (Act.NONE, 0, 0, lambda v: v),
    "relu": (Act.CLAMP, 0, math.inf, F.relu),
    "relu6": (Act.CLAMP, 0, 6, F.relu6),
    "silu": (Act.SILU, 0, 0, F.silu),
    "hardswish": (Act.HARDSWISH, 0, 0, F.hardswish),
    "sigmoid": (Act.SIGMOID, 0, 0, torch.sigmoid),
    "hardsigmoid": (Act.HARDSIGMOID, 0, 0, F.hardsigmoid),
    "gelu": (Act.GELU, 0, 0, F.gelu),
    "tanh": (Act.TANH, 0, 0, torch.tanh),
    "leaky": (Act.LEAKY, 0.1, 0, lambda v: F.leaky_relu(v, 0.1)),
}


def act_fields(name: str) -> dict[str, object]:
    kind, low, high, _ = ACTS[name]
    return {"act": kind, "low": low, "high": high}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected.float(), rtol=2e-5, atol=2e-5)


def test_structures_are_those_of_the_header():
    """Where C puts the fields: a mistake here would be read as other fields."""
    assert ctypes.sizeof(CTensor) == 24
    assert CStep.graph.offset == 56 and CStep.rows.offset == 72 and CStep.x.offset == 128
    assert CStep.before.offset == 200 and ctypes.sizeof(CStep) == 216


GRAPHS = {  # num_in, num_out, base degree, block, irregular
    "random": (13, 11, 5, (1, 1), False),
    "irregular_4x1": (24, 40, 9, (4, 1), True),
    "8x8": (32, 48, 2, (8, 8), False),
    "odd_block": (21, 30, 4, (15, 3), False),
    "depthwise": (19, 19, 0, (1, 1), False),
    # Sums of many runs and stretches: the end must come once.
    "many_edges": (300, 20, 200, (1, 1), True),
    "many_edges_4x1": (290, 24, 140, (4, 1), True),
    "complete": (70, 24, 1, (24, 70), False),
}

CONVS = {  # batch and size, kernel, stride, padding, dilation
    "pointwise": ((2, 9, 11), (1, 1), (1, 1), (0, 0), (1, 1)),
    "pointwise_56": ((1, 16, 20), (1, 1), (1, 1), (0, 0), (1, 1)),
    "pointwise_7x7": ((5, 7, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    "pointwise_stride": ((2, 9, 12), (1, 1), (2, 2), (0, 0), (1, 1)),
    "3x3": ((3, 10, 13), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_wide": ((1, 5, 40), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_joined": ((9, 7, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_stride": ((2, 11, 14), (3, 3), (2, 2), (1, 1), (1, 1)),
    # Rows shorter than a vector, of images that lie further apart than is prepared at once.
    "pointwise_2x2_joined": ((70, 2, 2), (1, 1), (1, 1), (0, 0), (1, 1)),
    "3x3_2x3_joined": ((70, 2, 3), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3_stride_joined": ((33, 5, 6), (3, 3), (2, 2), (1, 1), (1, 1)),
    "odd": ((2, 13, 15), (2, 5), (3, 2), (1, 3), (2, 1)),
    "3d": ((2, 4, 6, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "one_pixel": ((3, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "batch_0": ((0, 5, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
}
FUNCTIONS = {2: F.conv2d, 3: F.conv3d}
HARD = ["many_edges", "many_edges_4x1", "complete"]


def make_graph(library, name: str) -> Graph:
    num_in, num_out, degree, block, irregular = GRAPHS[name]
    if name == "depthwise":
        return Graph(library, num_in, num_out, range(num_in + 1), range(num_in))
    return Graph.random(library, num_in, num_out, degree, block, irregular=irregular)


def channels(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(-1, *[1] * (like.dim() - 2))


def winograd_weight(graph, conv, weight: Tensor, isa: int) -> list[Tensor]:
    """The weights as Winograd's algorithm wants them, if it knows the convolution."""
    pointer, library = graph.pointer, graph.library
    size = library.xn_winograd_size(pointer, ctypes.addressof(conv), isa)
    if size <= 0:
        return []
    to = torch.full((size,), torch.nan)
    assert library.xn_winograd_weight(pointer, weight.data_ptr(), to.data_ptr(), 1, isa) == 0
    return [to]


@pytest.mark.parametrize("shape", CONVS)
@pytest.mark.parametrize("name", GRAPHS)
def test_conv(library, isa, name, shape):
    """Bias, residual and activation, between channels of others, from a prepared source or not."""
    size, kernel, stride, padding, dilation = CONVS[shape]
    if name in HARD and shape in ("odd", "3d", "one_pixel", "3x3_wide"):
        pytest.skip("graphs of many inputs are there for how they are cut up, not for every shape")
    graph = make_graph(library, name)
    x = torch.randn(size[0], graph.num_in, *size[1:])
    weight = torch.randn(graph.num_edges, *kernel) / max(1, graph.num_edges // graph.num_out) ** 0.5
    bias, scale, shift = (torch.randn(n) for n in (graph.num_out, graph.num_in, graph.num_in))
    conv = conv_of(*((size[0], size[1:]) + (kernel, stride, padding, dilation)))
    function, dense = FUNCTIONS[len(kernel)], graph.dense(weight.double())
    for act, residual_kind, prepared, threads in (
        ("none", None, False, 1),
        ("relu", "other", False, 2),
        ("relu6", "itself", False, 1),
        ("silu", "strided", True, 2),
        ("gelu", "itself", True, 1),
        ("relu", None, True, 2),
    ):
        source, fields = x.double(), {}
        if prepared:
            source = F.relu(source * channels(scale, x) + channels(shift, x))
            fields = {"scale": scale, "shift": shift, "in_act": Act.CLAMP}
        want = function(source, dense, bias.double(), stride, padding, dilation)
        # Half of the 3x3 convolutions go by Winograd's algorithm, some with weights made before.
        flag = binding.WINOGRAD if threads == 2 else 0
        program = Program(library, threads, isa + flag)
        if residual_kind == "other" and (
            points := winograd_weight(graph, conv, weight, isa + flag)
        ):
            fields["winograd"] = points[0]
        put = program.put(x, 3, 2)
        y = program.room(*want.shape, before=2, after=1)
        residual = None
        if residual_kind:
            added = torch.randn(want.shape)
            want = want + added
            residual = (
                y
                if residual_kind == "itself"
                else program.put(added, *{"strided": (1, 4)}.get(residual_kind, (0, 0)))
            )
            if residual_kind == "itself":
                program.read(y, *want.shape).copy_(added)
        program.add(
            Kind.CONV,
            put,
            y,
            residual,
            graph=graph,
            conv=conv,
            weight=weight,
            bias=bias,
            **act_fields(act),
            **fields,
        )
        program.run()
        close(program.result(y, *want.shape), ACTS[act][3](want))


DEPTHWISE = {  # batch, side lengths, kernel, stride, padding, outputs for each input
    "3x3": (2, (19, 21), 3, 1, 1, 1),
    "3x3_7x7": (3, (7, 7), 3, 1, 1, 1),
    "3x3_stride": (1, (15, 22), 3, 2, 1, 1),
    "5x5": (2, (14, 14), 5, 1, 2, 1),
    "5x5_stride": (1, (17, 33), 5, 2, 2, 2),
    "bands": (1, (150, 45), 3, 1, 1, 1),
    "bands_stride": (1, (141, 60), 3, 2, 1, 2),
    "unpadded": (1, (9, 12), 3, 2, 0, 1),
    "padded_far": (1, (4, 5), 3, 1, 3, 1),
    "one_pixel": (2, (1, 1), 5, 2, 2, 1),
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(library, isa, name):
    """One input for each output, not always its own; also without a program."""
    batch, size, kernel, stride, padding, multiplier = DEPTHWISE[name]
    width = 5
    inputs = torch.arange(width * multiplier).flip(0) // multiplier
    graph = Graph(library, width, len(inputs), range(len(inputs) + 1), inputs)
    x, weight = torch.randn(batch, width, *size), torch.randn(len(inputs), kernel, kernel)
    bias, scale, shift = torch.randn(len(inputs)), torch.randn(width), torch.randn(width)
    conv = conv_of(batch, size, (kernel,) * 2, (stride,) * 2, (padding,) * 2)
    dense = graph.dense(weight.double())
    for act, added, prepared, threads in (
        ("relu6", False, False, 1),
        ("relu", True, False, 2),
        ("silu", False, True, 2),
        ("none", True, True, 1),
    ):
        source = x.double()
        fields = {"scale": scale, "shift": shift, "in_act": Act.CLAMP} if prepared else {}
        if prepared:
            source = F.relu(source * channels(scale, x) + channels(shift, x))
        want = F.conv2d(source, dense, bias.double(), stride, padding)
        program = Program(library, threads, isa)
        put, y = program.put(x, 2, 1), program.room(*want.shape, before=1, after=2)
        if added:
            residual = torch.randn(want.shape)
            program.read(y, *want.shape).copy_(residual)
            want = want + residual
        fields |= {"graph": graph, "conv": conv, "weight": weight, "bias": bias, **act_fields(act)}
        program.add(Kind.CONV, put, y, y if added else None, **fields)
        program.run()
        close(program.result(y, *want.shape), ACTS[act][3](want))
    layer = binding.Conv(
        graph, x.shape, (kernel,) * 2, (stride,) * 2, (padding,) * 2, threads=2, isa=isa
    )
    want = F.conv2d(x.double(), dense, bias.double(), stride, padding)
    close(layer.forward(x, weight, bias), want)


BEFORE = {  # batch, side lengths, kernel, stride, padding
    **{name: case[:5] for name, case in DEPTHWISE.items()},
    "3x3_14x14": (2, (14, 14), 3, 1, 1),
    "3x3_stride_14x14": (2, (14, 14), 3, 2, 1),
    "3x3_stride_2x30": (1, (2, 30), 3, 2, 1),
    "narrow": (3, (40, 3), 3, 1, 1),
    "narrow_stride": (3, (41, 5), 3, 2, 1),
    "shrinking": (1, (30, 18), 5, 1, 0),
    "growing": (1, (9, 11), 3, 1, 2),
    "growing_stride": (1, (9, 12), 5, 2, 4),
}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("graph_name", ["random", "irregular_4x1", "8x8", "many_edges", "complete"])
def test_depthwise_before_a_convolution(library, isa, name, graph_name):
    """One step for both; pixels of other channels, NaN here, count for nothing."""
    batch, size, kernel, stride, padding = BEFORE[name]
    graph = make_graph(library, graph_name)
    x, first = torch.randn(batch, graph.num_in, *size), torch.randn(graph.num_in, kernel, kernel)
    shift, bias = torch.randn(graph.num_in), torch.randn(graph.num_out)
    weight = torch.randn(graph.num_edges, 1, 1) / max(1, graph.num_edges // graph.num_out) ** 0.5
    windows = conv_of(batch, size, (kernel,) * 2, (stride,) * 2, (padding,) * 2)
    sums = F.conv2d(x.double(), first[:, None].double(), None, stride, padding, 1, graph.num_in)
    for in_act, act, shifted, added, threads in (
        ("relu", "none", True, None, 1),
        ("relu6", "relu", True, "itself", 2),
        ("none", "silu", False, None, 3),
        ("hardswish", "relu6", True, "strided", 1),
    ):
        inner = ACTS[in_act][3](sums + channels(shift, x).double() if shifted else sums)
        want = F.conv2d(inner, graph.dense(weight.double()), bias.double())
        program = Program(library, threads, isa)
        put, y = program.put(x, 2, 1), program.room(*want.shape, before=1, after=2)
        residual = None
        if added:
            values = torch.randn(want.shape)
            want = want + values
            residual = y if added == "itself" else program.put(values, 1, 4)
            if added == "itself":
                program.read(y, *want.shape).copy_(values)
        kind, low, high, _ = ACTS[in_act]
        program.add(
            Kind.CONV,
            put,
            y,
            residual,
            graph=graph,
            conv=conv_of(batch, sums.shape[2:]),
            weight=weight,
            bias=bias,
            before=windows,
            before_weight=first,
            in_act=kind,
            in_low=low,
            in_high=high,
            **act_fields(act),
            **({"shift": shift} if shifted else {}),
        )
        program.run()
        close(program.result(y, *want.shape), ACTS[act][3](want))


@pytest.mark.parametrize("rows", [0, 1, 3, 5, 37])
@pytest.mark.parametrize("name", GRAPHS)
def test_linear(library, isa, name, rows):
    graph = make_graph(library, name)
    x, weight = torch.randn(rows, graph.num_in), torch.randn(graph.num_edges, 1)
    weight /= max(1, graph.num_edges // graph.num_out) ** 0.5
    bias, added = torch.randn(graph.num_out), torch.randn(rows, graph.num_out)
    sums = F.linear(x.double(), graph.dense(weight.double())[..., 0], bias.double())
    for act, residual, threads in (
        ("none", False, 1),
        ("relu", False, 2),
        ("tanh", True, 1),
        ("relu6", True, 2),
    ):
        program = Program(library, threads, isa)
        put, y = program.put(x, 2, 3), program.room(rows, graph.num_out, before=1, after=2)
        if residual:
            program.read(y, *sums.shape).copy_(added)
        program.add(
            Kind.LINEAR,
            put,
            y,
            y if residual else None,
            graph=graph,
            rows=rows,
            weight=weight,
            bias=bias,
            **act_fields(act),
        )
        program.run()
        close(program.result(y, *sums.shape), ACTS[act][3](sums + added if residual else sums))


@pytest.mark.parametrize("act", ACTS)
def test_activations(library, isa, act):
    """Of every layer and of a map, over the range where they bend, at its ends, and of NaN."""
    x = torch.cat(
        [
            torch.linspace(-12, 12, 4001),
            torch.tensor([0.0, -0.0, 100, -100, 1e30, -1e30, torch.nan]),
        ]
    )
    program = Program(library, 1, isa)
    put, y = program.put(x[None, :, None]), program.room(1, len(x), 1)
    program.add(
        Kind.POINTWISE,
        put,
        y,
        conv=conv_of(1, (1, 1)),
        channels_in=len(x),
        channels_out=len(x),
        **act_fields(act),
    )
    program.run()
    got, want = program.read(y, 1, len(x), 1)[0, :, 0], ACTS[act][3](x.double())
    torch.testing.assert_close(got, want.float(), rtol=2e-6, atol=1e-7, equal_nan=True)


POOLS = {  # batch and size, kernel, stride, padding, dilation, ceil
    "2x2": ((2, 8, 12), (2, 2), (2, 2), (0, 0), (1, 1), False),
    "3x3_stride": ((3, 15, 22), (3, 3), (2, 2), (1, 1), (1, 1), False),
    "3x3_same": ((1, 9, 35), (3, 3), (1, 1), (1, 1), (1, 1), False),
    "ceil": ((2, 14, 19), (3, 3), (2, 2), (0, 0), (1, 1), True),
    "ceil_padded": ((2, 13, 8), (3, 2), (3, 2), (1, 1), (1, 1), True),
    "odd": ((2, 17, 21), (5, 4), (3, 5), (2, 1), (1, 1), False),
    "dilated": ((1, 17, 40), (3, 3), (1, 2), (1, 1), (2, 3), False),
    "global": ((3, 7, 7), (7, 7), (1, 1), (0, 0), (1, 1), False),
    "global_wide": ((1, 9, 23), (9, 23), (1, 1), (0, 0), (1, 1), False),
    "large_window": ((1, 20, 20), (18, 18), (1, 1), (9, 9), (1, 1), False),
    "3d": ((2, 6, 7, 9), (3, 2, 3), (2, 1, 2), (1, 0, 1), (1, 1, 1), False),
    "one_pixel": ((2, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), False),
    "batch_0": ((0, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False),
}


@pytest.mark.parametrize("kind", ["max", "avg", "avg_exclude"])
@pytest.mark.parametrize("name", POOLS)
def test_pools(library, isa, name, kind):
    size, kernel, stride, padding, dilation, ceil = POOLS[name]
    if kind != "max" and name == "dilated":
        pytest.skip("means have no dilation")
    dims, width = len(kernel), 5
    x = torch.randn(size[0], width, *size[1:])
    if kind == "max":
        pool = {2: F.max_pool2d, 3: F.max_pool3d}[dims]
        if x.numel():
            x.view(-1)[3] = torch.nan
        want = pool(x, kernel, stride, padding, dilation, ceil)
    else:
        pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[dims]
        want = pool(x, kernel, stride, padding, ceil, kind == "avg")
    for threads in (1, 2):
        program = Program(library, threads, isa)
        put, y = program.put(x, 1, 2), program.room(*want.shape, before=2, after=3)
        program.add(
            Kind.MAX_POOL if kind == "max" else Kind.AVG_POOL,
            put,
            y,
            conv=conv_of(size[0], size[1:], kernel, stride, padding, dilation),
            channels_in=width,
            channels_out=width,
            exclude_padding=kind == "avg_exclude",
            output=binding.three(want.shape[2:], 0 if not ceil else 1) if ceil else (0, 0, 0),
            **act_fields("relu6"),
        )
        program.run()
        torch.testing.assert_close(
            program.result(y, *want.shape), F.relu6(want), rtol=1e-5, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 16)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_maps(library, isa, batch, size):
    """Affine maps, sums, moved and scaled channels; in place where they may."""
    width, pixels = 37, math.prod(size)
    x, added = torch.randn(batch, width, *size), torch.randn(batch, width, *size)
    scale, shift = torch.randn(width), torch.randn(width)
    index = torch.randint(0, width, (21,), dtype=torch.int32)
    gate = torch.rand(batch, width, 1, 1)
    conv = conv_of(batch, size)
    same = {"conv": conv, "channels_in": width, "channels_out": width}
    affine = x * scale[:, None, None] + shift[:, None, None]
    for threads in (1, 2):
        program = Program(library, threads, isa)
        source, other = program.put(x, 2, 1), program.put(added, 1, 3)
        gates = program.put(gate, 4)
        places = [program.room(batch, n, *size, before=3, after=2) for n in (37, 37, 21, 37, 37)]
        in_place = program.put(x), program.put(x)
        program.add(
            Kind.POINTWISE,
            source,
            places[0],
            scale=scale,
            shift=shift,
            **same,
            **act_fields("relu"),
        )
        program.add(Kind.POINTWISE, source, places[1], other, **same, **act_fields("silu"))
        program.add(
            Kind.COPY, source, places[2], conv=conv, index=index, channels_in=width, channels_out=21
        )
        program.add(Kind.COPY, source, places[3], **same)
        program.add(Kind.SCALE_BY, source, places[4], gates, **same)
        program.add(Kind.POINTWISE, in_place[0], in_place[0], in_place[0], scale=scale, **same)
        program.add(Kind.SCALE_BY, in_place[1], in_place[1], gates, **same)
        program.run()
        wants = (
            F.relu(affine),
            F.silu(x + added),
            x[:, index.long()],
            x,
            x * gate,
            x * scale[:, None, None] + x,
            x * gate,
        )
        for place, want in zip((*places, *in_place), wants, strict=True):
            close(program.result(place, *want.shape), want)
    assert pixels


def test_steps_follow_one_another(library, isa):
    """A dense block: each layer reads all channels before it and writes behind them, in one buffer."""
    batch, size, first, growth, layers = 2, (9, 10), 12, 8, 3
    total = first + growth * layers
    x = torch.randn(batch, first, *size)
    program = Program(library, 2, isa)
    buffer = program.put(x, 0, growth * layers)
    pooled = program.room(batch, total, 1, 1)
    want = x.double()
    for layer in range(layers):
        width = first + growth * layer
        graph = Graph.random(library, width, growth, 5, seed=layer)
        weight, bias = torch.randn(graph.num_edges, 3, 3) / 7, torch.randn(growth)
        scale, shift = torch.randn(width), torch.randn(width)
        y = CTensor(buffer.slot, 0, width * math.prod(size), buffer.image)
        program.add(
            Kind.CONV,
            buffer,
            y,
            graph=graph,
            conv=conv_of(batch, size, (3, 3), None, (1, 1)),
            weight=weight,
            bias=bias,
            scale=scale,
            shift=shift,
            in_act=Act.CLAMP,
        )
        new = F.relu(want * channels(scale, x) + channels(shift, x))
        new = F.conv2d(new, graph.dense(weight.double()), bias.double(), padding=1)
        want = torch.cat([want, new], 1)
    program.add(
        Kind.AVG_POOL,
        buffer,
        pooled,
        conv=conv_of(batch, size, size),
        channels_in=total,
        channels_out=total,
    )
    program.run()
    close(program.read(buffer, *want.shape), want)
    close(program.read(pooled, batch, total, 1, 1), want.mean((2, 3), keepdim=True))
