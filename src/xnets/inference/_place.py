"""Where values lie: views inside what they are views of, pieces inside their concatenation.

A value lies in a *root*, a stretch of memory, at an offset; inside a sample its numbers are
contiguous, and only the distance from sample to sample is the root's. So a tensor can be a range of
the channels of a larger one, and concatenation is writing in the right place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from xnets.inference._ir import Aten, Concat, Copy, Linear, Slice, Step, Value, View
from xnets.inference._program import Program


@dataclass(frozen=True)
class Place:
    """Where a value lies.

    Args:
        root: The value whose memory it lies in; itself if it is nobody's part.
        offset: Numbers from the start of the root to the value's first.
        image: Numbers from one sample to the next.
    """

    root: Value
    offset: int
    image: int


class Places:
    """The places of all values of a program; see `place`.

    Attributes:
        program: With copies where a concatenation cannot be written in place.
    """

    def __init__(self, program: Program) -> None:
        self.program = _with_copies_of_slices(program)
        self.makers = self.program.makers()
        self._parents: dict[Value, tuple[Value, int]] = {}
        self._packed = _packed(self.program)
        self._join()
        self.makers = self.program.makers()

    def of(self, value: Value) -> Place:
        """The place of a value."""
        if value in self._parents:
            parent, offset = self._parents[value]
            place = self.of(parent)
            return replace(place, offset=place.offset + offset)
        step = self.makers.get(value)
        if isinstance(step, View):
            place = self.of(step.x)
            same = step.x.shape[0] == value.shape[0]
            return place if same else replace(place, image=value.per_image)
        if isinstance(step, Slice):
            place = self.of(step.x)
            return replace(place, offset=place.offset + step.start * _per_entry(value))
        return Place(value, 0, value.per_image)

    def put(self, value: Value, into: Value) -> None:
        """Let a root share the memory of another of the same size."""
        self._parents[value] = (into, 0)

    def is_whole(self, value: Value) -> bool:
        """Whether a value is all of its root."""
        place = self.of(value)
        same = place.root.per_image * place.root.shape[0] == value.per_image * value.shape[0]
        return same and place.offset == 0

    # --- concatenation ---------------------------------------------------------------------------

    def _join(self) -> None:
        copies: dict[Step, list[Step]] = {}
        replaced: dict[Step, Step] = {}
        for step in reversed(self.program.steps):
            if not isinstance(step, Concat) or self._lies_in_order(step):
                continue
            pieces, start = [], 0
            for x in step.xs:
                base = self._base(x)
                if self._can_place(base, step):
                    self._parents[base] = (step.y, start)
                    pieces.append(x)
                else:
                    copy = Value(f"{x.name} in {step.y.name}", x.shape, x.dtype)
                    copies.setdefault(step, []).append(Copy(name=step.name, x=x, y=copy))
                    self._parents[copy] = (step.y, start)
                    pieces.append(copy)
                start += x.per_image
            replaced[step] = replace(step, xs=tuple(pieces))
        steps: list[Step] = []
        for step in self.program.steps:
            steps += copies.get(step, [])
            steps.append(replaced.get(step, step))
        self.program = Program(steps, self.program.inputs, self.program.outputs)

    def _lies_in_order(self, step: Concat) -> bool:
        """Whether the pieces lie side by side already, as those of DenseNet's earlier layers do."""
        if step.y in self._parents or step.y in self._packed:
            return False
        first = self.of(step.xs[0])
        if first.root is step.xs[0]:
            return False
        expected = first.offset
        for x in step.xs:
            place = self.of(x)
            if place.root is not first.root or place.offset != expected:
                return False
            expected += x.per_image
        parent = first.root
        self._parents[step.y] = (parent, first.offset)
        return True

    def _base(self, value: Value) -> Value:
        """What a value is a view of, sample by sample."""
        step = self.makers.get(value)
        while isinstance(step, View) and step.x.shape[0] == value.shape[0]:
            value = step.x
            step = self.makers.get(value)
        return value

    def _can_place(self, value: Value, concat: Concat) -> bool:
        step = self.makers.get(value)
        if step is None or isinstance(step, (View, Slice)) or value in self._parents:
            return False
        if isinstance(step, Aten) and step.may_alias:
            return False
        return value not in self._packed and value.shape[0] == concat.y.shape[0]


def _per_entry(value: Value) -> int:
    size = 1
    for dim in value.shape[2:]:
        size *= dim
    return size


def _needs_packed(step: Step) -> list[Value]:
    """The values of a step that must have their samples side by side."""
    if isinstance(step, Linear) and len(step.x.shape) > 2:
        values = [step.x, step.y, step.residual]
        return [value for value in values if value is not None]
    if isinstance(step, View) and step.x.shape[0] != step.y.shape[0]:
        return [step.x, step.y]
    return []


def _packed(program: Program) -> set[Value]:
    """The values that must have their samples side by side, and those they are views of."""
    makers = program.makers()
    found: set[Value] = set()
    for step in program:
        for value in _needs_packed(step):
            found.add(value)
            maker = makers.get(value)
            while isinstance(maker, View):
                found.add(maker.x)
                maker = makers.get(maker.x)
    return found


def _exchange(changed: dict[Value, Value]) -> Callable[[Value], Value]:
    return lambda value: changed.get(value, value)


def _with_copies_of_slices(program: Program) -> Program:
    """A copy wherever samples must lie side by side and a slice of channels is read."""
    makers = program.makers()

    def is_sliced(value: Value) -> bool:
        maker = makers.get(value)
        while isinstance(maker, View):
            maker = makers.get(maker.x)
        return isinstance(maker, Slice)

    steps: list[Step] = []
    for step in program:
        changed: dict[Value, Value] = {}
        for value in _needs_packed(step):
            if value in step.reads and is_sliced(value) and value.shape[0] != 1:
                copy = Value(f"{value.name} packed", value.shape, value.dtype)
                steps.append(Copy(name=step.name, x=value, y=copy))
                changed[value] = copy
        steps.append(step.map_values(_exchange(changed)) if changed else step)
    return Program(steps, program.inputs, program.outputs)
