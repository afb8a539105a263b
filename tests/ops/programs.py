"""Lists of inference steps as the C library takes them, with tensors in slots of their own."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from tests.ops import denormals
from tests.ops.compiled import binding
from xnets.ops._cpu_program import Act, CStep, CTensor, Kind

Graph = binding.Graph
NEARLY_ZERO = (Act.SILU, Act.GELU)  # functions of large negative numbers are below the normal ones


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
        """`value` as the structure holds it: an address of what then lives with the program."""
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
        denormals.fill(scratch[1:-64])
        guarded = [torch.full((s.numel() + 32,), 7.0) for s in self.slots]
        for guard, slot in zip(guarded, self.slots, strict=True):
            guard[16:-16] = slot.flatten()
        pointers = (ctypes.c_void_p * len(guarded))(*(g[16:].data_ptr() for g in guarded))

        def run():
            assert not self.library.xn_program_run(
                steps, len(steps), pointers, scratch[1:].data_ptr(), self.threads, self.isa
            )

        met = denormals.met_in(run)
        assert not met or any(step.act in NEARLY_ZERO for step in self.steps)
        assert scratch[0] == 77
        assert scratch[-64:].eq(77).all()
        for guard, slot in zip(guarded, self.slots, strict=True):
            assert guard[:16].eq(7).all()
            assert guard[-16:].eq(7).all()
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
