"""Lists of inference steps of the C library, each kind beside a reference in torch."""

from __future__ import annotations

import ctypes
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.ops.compiled import binding
from xnets.ops._cpu_program import Act, CStep, CTensor, Kind

Graph = binding.Graph


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


class Program:
    """Tensors in slots, and steps between them; what the steps point to stays alive with it."""

    def __init__(self, library, threads=1, isa=0):
        self.library, self.threads, self.isa = library, threads, isa
        self.slots: list[Tensor] = []
        self.steps: list[CStep] = []
        self.alive: list[object] = []

    def put(self, value: Tensor, before=0, after=0) -> CTensor:
        """A copy of `value` in a slot of its own, between other channels (or features)."""
        wide = (before + value.shape[1] + after, *value.shape[2:])
        slot = torch.full((value.shape[0], *wide), torch.nan)
        slot[:, before : before + value.shape[1]] = value
        self.slots.append(slot)
        pixels = math.prod(value.shape[2:])
        return CTensor(len(self.slots) - 1, 0, before * pixels, math.prod(wide))

    def room(self, *shape: int, before=0, after=0) -> CTensor:
        return self.put(torch.full(shape, torch.nan), before, after)

    def read(self, place: CTensor, *shape: int) -> Tensor:
        strides = [place.image]
        for size in range(1, len(shape)):
            strides.append(math.prod(shape[size + 1 :]))
        return self.slots[place.slot].as_strided(shape, strides, place.offset)

    def add(self, kind: Kind, x: CTensor, y: CTensor, residual: CTensor | None = None, **fields):
        step = CStep(kind=kind, x=x, y=y, residual=residual or CTensor(-1), in_high=math.inf)
        for name, value in fields.items():
            setattr(step, name, self.field(value))
        self.steps.append(step)
        return step

    def field(self, value):
        """`value` as the structure holds it: addresses of what then lives as long as the program."""
        self.alive.append(value)
        if isinstance(value, Tensor):
            return value.data_ptr()
        if isinstance(value, Graph):
            return value.pointer
        if isinstance(value, ctypes.Structure):
            return ctypes.addressof(value)
        return (ctypes.c_int32 * 3)(*value) if isinstance(value, (list, tuple)) else value

    def check(self) -> int:
        sizes = (ctypes.c_int64 * len(self.slots))(*(s.numel() for s in self.slots))
        steps = (CStep * len(self.steps))(*self.steps)
        return self.library.xn_program_check(steps, len(steps), sizes, len(sizes))

    def run(self) -> None:
        """Check, then run with guards around the scratch and every slot."""
        assert self.check() == 0
        steps = (CStep * len(self.steps))(*self.steps)
        size = self.library.xn_program_scratch(steps, len(steps), self.threads, self.isa)
        assert size >= 0
        scratch = torch.full((size + 65,), 77, dtype=torch.uint8)
        guarded = [torch.full((s.numel() + 32,), 7.0) for s in self.slots]
        for guard, slot in zip(guarded, self.slots, strict=True):
            guard[16:-16] = slot.flatten()
        pointers = (ctypes.c_void_p * len(guarded))(*(g[16:].data_ptr() for g in guarded))
        status = self.library.xn_program_run(
            steps, len(steps), pointers, scratch[1:].data_ptr(), self.threads, self.isa
        )
        assert status == 0
        assert scratch[0] == 77 and scratch[-64:].eq(77).all()
        for guard, slot in zip(guarded, self.slots, strict=True):
            assert guard[:16].eq(7).all() and guard[-16:].eq(7).all()
            slot.copy_(guard[16:-16].view(slot.shape))

    def result(self, place: CTensor, *shape: int) -> Tensor:
        """What the run left at `place`; its neighbours must still be NaN."""
        value = self.read(place, *shape).clone()
        self.read(place, *shape).fill_(torch.nan)
        assert self.slots[place.slot].isnan().all(), "wrote beside its channels"
        return value


def conv_of(batch, size, kernel=None, stride=None, padding=None, dilation=None):
    fields = (
        (size, 1),
        (kernel or (), 1),
        (stride or (), 1),
        (padding or (), 0),
        (dilation or (), 1),
    )
    return binding.CConv(batch, *((ctypes.c_int32 * 3)(*binding.three(v, f)) for v, f in fields))


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


def plain_program(library):
    """A convolution, a pool and a map, correct as they stand."""
    program = Program(library)
    graph = Graph.random(library, 8, 12, 3)
    x, y = program.put(torch.randn(2, 8, 6, 6)), program.room(2, 12, 6, 6)
    z, gates = program.room(2, 12, 3, 3), program.put(torch.ones(2, 12, 1, 1))
    program.add(
        Kind.CONV,
        x,
        y,
        graph=graph,
        conv=conv_of(2, (6, 6), (3, 3), None, (1, 1)),
        weight=torch.randn(graph.num_edges, 3, 3),
    )
    program.add(
        Kind.MAX_POOL,
        y,
        z,
        conv=conv_of(2, (6, 6), (2, 2), (2, 2)),
        channels_in=12,
        channels_out=12,
    )
    program.add(
        Kind.SCALE_BY, z, z, gates, conv=conv_of(2, (3, 3)), channels_in=12, channels_out=12
    )
    program.add(
        Kind.COPY,
        y,
        program.room(2, 2, 6, 6),
        conv=conv_of(2, (6, 6)),
        channels_in=12,
        channels_out=2,
        index=torch.tensor([11, 0], dtype=torch.int32),
    )
    return program


HUGE = 2**31 - 1
BROKEN = {  # which step, and what is done to it
    "kind": (0, lambda s, p: setattr(s, "kind", 7)),
    "act": (0, lambda s, p: setattr(s, "act", 9)),
    "in_act": (0, lambda s, p: setattr(s, "in_act", -1)),
    "graph": (0, lambda s, p: setattr(s, "graph", None)),
    "weight": (0, lambda s, p: setattr(s, "weight", None)),
    "conv": (0, lambda s, p: setattr(s, "conv", None)),
    "slot": (0, lambda s, p: setattr(s.x, "slot", len(p.slots))),
    "no_slot": (0, lambda s, p: setattr(s.y, "slot", -1)),
    "residual_slot": (0, lambda s, p: setattr(s.residual, "slot", HUGE)),
    "offset": (0, lambda s, p: setattr(s.x, "offset", 1)),
    "negative_offset": (0, lambda s, p: setattr(s.x, "offset", -1)),
    "huge_offset": (0, lambda s, p: setattr(s.x, "offset", 2**63 - 1)),
    "image": (0, lambda s, p: setattr(s.y, "image", s.y.image + 1)),
    "small_image": (0, lambda s, p: setattr(s.y, "image", s.y.image - 1)),
    "huge_image": (0, lambda s, p: setattr(s.y, "image", 2**63 - 1)),
    "x_is_y": (0, lambda s, p: setattr(s, "y", s.x)),
    "huge_batch": (0, lambda s, p: setattr(p.conv(0), "batch", HUGE)),
    "huge_size": (0, lambda s, p: p.conv(0).input.__setitem__(2, HUGE)),
    "huge_padding": (0, lambda s, p: p.conv(0).padding.__setitem__(1, HUGE)),
    "stride_0": (0, lambda s, p: p.conv(0).stride.__setitem__(1, 0)),
    "channels": (1, lambda s, p: setattr(s, "channels_out", 11)),
    "no_channels": (1, lambda s, p: (setattr(s, "channels_in", 0), setattr(s, "channels_out", 0))),
    "huge_channels": (
        1,
        lambda s, p: (setattr(s, "channels_in", HUGE), setattr(s, "channels_out", HUGE)),
    ),
    "pool_residual": (1, lambda s, p: setattr(s.residual, "slot", 0)),
    "output": (1, lambda s, p: s.output.__setitem__(2, 4)),
    "negative_output": (1, lambda s, p: s.output.__setitem__(2, -1)),
    "avg_dilation": (
        1,
        lambda s, p: (setattr(s, "kind", Kind.AVG_POOL), p.conv(1).dilation.__setitem__(1, 2)),
    ),
    "no_gates": (2, lambda s, p: setattr(s.residual, "slot", -1)),
    "half_in_place": (2, lambda s, p: setattr(s.x, "offset", 1)),
    "index": (3, lambda s, p: p.index().__setitem__(0, 12)),
    "negative_index": (3, lambda s, p: p.index().__setitem__(1, -1)),
    "no_index": (3, lambda s, p: setattr(s, "index", None)),
}


class Breakable(Program):
    def conv(self, step: int):
        return binding.CConv.from_address(self.steps[step].conv)

    def before(self):
        return binding.CConv.from_address(self.steps[0].before)

    def index(self):
        return (ctypes.c_int32 * 2).from_address(self.steps[3].index)


@pytest.mark.parametrize("name", BROKEN)
def test_check_refuses(library, name):
    program = plain_program(library)
    program.__class__ = Breakable
    assert program.check() == 0
    step, spoil = BROKEN[name]
    spoil(program.steps[step], program)
    assert program.check() == 1


BROKEN_BEFORE = {
    "no_weight": lambda s, p: setattr(s, "before_weight", None),
    "scale": lambda s, p: setattr(s, "scale", s.bias),
    "batch": lambda s, p: setattr(p.before(), "batch", 1),
    "size": lambda s, p: p.before().input.__setitem__(1, 8),
    "huge_size": lambda s, p: p.before().input.__setitem__(1, HUGE),
    "depth": lambda s, p: p.before().padding.__setitem__(0, 1),
    "kernel": lambda s, p: p.before().kernel.__setitem__(1, 4),
    "stride": lambda s, p: p.before().stride.__setitem__(1, 1),
    "stride_3": lambda s, p: [p.before().stride.__setitem__(a, 3) for a in (1, 2)],
    "dilation": lambda s, p: p.before().dilation.__setitem__(2, 2),
    "padding": lambda s, p: p.before().padding.__setitem__(2, 0),
    "second_kernel": lambda s, p: [
        p.conv(0).kernel.__setitem__(1, 3),
        p.conv(0).padding.__setitem__(1, 1),
    ],
    "second_stride": lambda s, p: p.conv(0).stride.__setitem__(1, 2),
    "image": lambda s, p: setattr(s.x, "image", s.x.image - 1),
    "offset": lambda s, p: setattr(s.x, "offset", 1),
    "x_is_y": lambda s, p: setattr(s, "y", s.x),
}


@pytest.mark.parametrize("name", BROKEN_BEFORE)
def test_check_refuses_before(library, name):
    """What is read is as large as the depthwise convolution's input, not the other's."""
    program = Program(library)
    graph = Graph.random(library, 8, 12, 3)
    program.add(
        Kind.CONV,
        program.put(torch.randn(2, 8, 7, 6)),
        program.room(2, 12, 4, 3),
        graph=graph,
        conv=conv_of(2, (4, 3)),
        weight=torch.randn(graph.num_edges, 1, 1),
        bias=torch.randn(12),
        before=conv_of(2, (7, 6), (3, 3), (2, 2), (1, 1)),
        before_weight=torch.randn(8, 3, 3),
    )
    program.__class__ = Breakable
    assert program.check() == 0
    BROKEN_BEFORE[name](program.steps[0], program)
    assert program.check() == 1


def test_check_refuses_broken_tables(library):
    program = plain_program(library)
    graph = next(a for a in program.alive if isinstance(a, Graph))
    for table, at, value in (
        (graph.indices, 0, 8),
        (graph.indptr, 3, HUGE),
        (graph.indptr, -1, -1),
    ):
        kept = table[at].item()
        table[at] = value
        assert program.check() == 1
        table[at] = kept
    assert program.check() == 0


def test_run_and_scratch_refuse(library):
    program = plain_program(library)
    steps = (CStep * len(program.steps))(*program.steps)
    slots = (ctypes.c_void_p * 8)()
    assert library.xn_program_scratch(None, 1, 1, 0) == -1
    assert library.xn_program_scratch(steps, -1, 1, 0) == -1
    assert library.xn_program_scratch(steps, len(steps), 1, 9) == -1
    assert library.xn_program_run(steps, len(steps), None, None, 1, 0) == 1
    assert library.xn_program_run(steps, len(steps), slots, None, 1, 0) == 1
    assert library.xn_program_run(steps, len(steps), slots, 64, 1, 9) == 2
    assert library.xn_program_run(None, 0, None, None, 1, 0) == 0
    assert library.xn_program_check(None, 0, None, 0) == 0
    steps[0].conv = None
    assert library.xn_program_run(steps, len(steps), slots, 64, 1, 0) == 1


def places_overlap(a: CTensor, a_span: int, b: CTensor, b_span: int, images: int) -> bool:
    ranges = [
        {t.offset + i * t.image + k for i in range(images) for k in range(span)}
        for t, span in ((a, a_span), (b, b_span))
    ]
    return bool(ranges[0] & ranges[1])


def test_check_finds_every_overlap(library):
    """All places of two tensors in one small slot, beside the sets of their numbers."""
    images, image, size = 3, 7, 40
    for x_span in (1, 2, 4):
        for y_at in range(size):
            for x_at in (0, 5, 9):
                program = Program(library)
                program.slots = [torch.zeros(size)]
                x, y = CTensor(0, 0, x_at, image), CTensor(0, 0, y_at, image)
                program.add(
                    Kind.COPY,
                    x,
                    y,
                    conv=conv_of(images, (1, 1)),
                    channels_in=x_span,
                    channels_out=3,
                    index=torch.zeros(3, dtype=torch.int32),
                )
                inside = y_at + (images - 1) * image + 3 <= size
                apart = not places_overlap(x, x_span, y, 3, images)
                assert (program.check() == 0) == (inside and apart), (x_span, x_at, y_at)
