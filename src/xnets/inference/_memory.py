"""Which memory each value gets: one arena, in which places are used again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xnets.inference._ir import (
    Aten,
    Concat,
    Conv,
    Linear,
    Pointwise,
    ScaleBy,
    Slice,
    Step,
    Value,
    View,
)
from xnets.inference._place import Places
from xnets.inference._program import Program

ALIGNMENT = 16  # numbers: 64 bytes, a line of the cache
IsNative = Callable[[Step], bool]


@dataclass
class Root:
    """A stretch of memory.

    Args:
        value: The value that is all of it.
        size: Numbers.
        first: The step that writes into it first; -1: it comes in.
        last: The step that reads it last.
        kind: "arena"; "input"; "torch", what an operation of torch returned; or "output", made anew
            for every call.
        offset: In the arena, numbers.
    """

    value: Value
    size: int
    first: int
    last: int
    kind: str = "arena"
    offset: int = 0


class Memory:
    """The memory plan of a program.

    Args:
        program: With numbers for sizes.
        is_native: Whether a step runs in the compiled library, which writes where it is told.

    Attributes:
        program: With the copies that the plan needs.
        places: Where every value lies in its root.
        roots: By their value.
        arena: Numbers.
        unshared: What the arena would be if nothing were used again.
    """

    def __init__(self, program: Program, is_native: IsNative) -> None:
        self.places = Places(program)
        self.program = self.places.program
        self._held: dict[Value, set[Value]] = {}
        self.roots: dict[Value, Root] = {}
        self._live(is_native)
        self._work_in_place(is_native)
        self.arena = _assign([root for root in self.roots.values() if root.kind == "arena"])
        self.unshared = sum(root.size for root in self.roots.values() if root.kind == "arena")

    def _roots_of(self, value: Value) -> set[Value]:
        """The roots whose memory a value may lie in, views of torch included."""
        # What was a root may share another's memory by now.
        names = self._held.get(value, (value,))
        return {self.places.of(name).root for name in names}

    def _live(self, is_native: IsNative) -> None:
        for value in self.program.inputs:
            self.roots[value] = Root(value, _size(value), -1, -1, "input")
        for position, step in enumerate(self.program):
            for value in step.reads:
                for name in self._roots_of(value):
                    self.roots[name].last = max(self.roots[name].last, position)
            for value in step.makes:
                self._make(step, value, position, is_native)
        end = len(self.program.steps)
        for value in self.program.output_values:
            for name in self._roots_of(value):
                root = self.roots[name]
                root.last = end
                if root.kind == "arena":
                    root.kind = "output"

    def _make(self, step: Step, value: Value, position: int, is_native: IsNative) -> None:
        if isinstance(step, Aten) and step.may_alias:
            self._held[value] = {r for read in step.reads for r in self._roots_of(read)} | {value}
        name = self.places.of(value).root
        if isinstance(step, (View, Slice)):
            if any(read in self._held for read in step.reads):
                self._held[value] = {r for read in step.reads for r in self._roots_of(read)}
            return
        if name not in self.roots:
            own = name is value and not isinstance(step, Concat) and not is_native(step)
            self.roots[name] = Root(
                name, _size(name), position, position, "torch" if own else "arena"
            )

    def _work_in_place(self, is_native: IsNative) -> None:
        """Let what is added to be overwritten by the sum, where nobody reads it afterwards."""
        for position, step in enumerate(self.program):
            if not (isinstance(step, (Conv, Linear, Pointwise, ScaleBy)) and is_native(step)):
                continue
            own = self.roots.get(step.y)
            if own is None or own.kind != "arena" or own.first != position:
                continue
            candidates: list[Value | None] = []
            if not isinstance(step, ScaleBy):
                candidates.append(step.residual)
            if isinstance(step, (Pointwise, ScaleBy)):
                candidates.append(step.x)
            for value in candidates:
                if value is not None and self._may_overwrite(value, step, position, own):
                    root = self.roots[self.places.of(value).root]
                    root.last = own.last
                    del self.roots[step.y]
                    self.places.put(step.y, root.value)
                    break

    def _may_overwrite(self, value: Value, step: Step, position: int, own: Root) -> bool:
        if value in self._held:
            return False
        root = self.roots[self.places.of(value).root]
        if root.kind != "arena" or root.last != position or root.size != own.size:
            return False
        others = [read for read in step.reads if read is not value]
        if isinstance(step, (Conv, Linear)):  # reads all of its input for each number it writes
            others.append(step.x)
        if any(root.value in self._roots_of(read) for read in others):
            return False
        return self.places.is_whole(value) and value.shape[0] == step.y.shape[0]


def _size(value: Value) -> int:
    return value.shape[0] * value.per_image if value.shape else 1


def _assign(roots: list[Root]) -> int:
    """Give offsets so that what lives at the same time does not overlap, the largest first."""
    placed: list[Root] = []
    total = 0
    for root in sorted(roots, key=lambda r: (-r.size, r.first)):
        others = sorted(
            (o for o in placed if o.first <= root.last and root.first <= o.last),
            key=lambda o: o.offset,
        )
        best, best_gap, start = None, None, 0
        for other in others:
            gap = other.offset - start
            if gap >= root.size and (best_gap is None or gap < best_gap):
                best, best_gap = start, gap
            start = max(start, _aligned(other.offset + other.size))
        root.offset = start if best is None else best
        placed.append(root)
        total = max(total, root.offset + _aligned(root.size))
    return total


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
