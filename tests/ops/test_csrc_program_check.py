"""What the C library refuses of lists of inference steps, before it runs any."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.ops.compiled import binding
from tests.ops.programs import Graph, Program, conv_of
from xnets.ops._cpu_program import CStep, CTensor, Kind


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
