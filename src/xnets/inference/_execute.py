"""A program for one set of sizes, ready to run: memory planned, native steps in one call."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xnets.inference._borrowed import tensors_in
from xnets.inference._interpret import torch_runner
from xnets.inference._ir import Aten, Concat, Slice, Step, Value, View, weights_of
from xnets.inference._memory import Memory
from xnets.inference._native import NativeStep, library, native_step
from xnets.inference._program import Program
from xnets.inference._weights import FLOATS
from xnets.ops._cpu_library import ISA, must
from xnets.ops._cpu_program import CStep, CTensor


@dataclass(frozen=True)
class Engine:
    """What runs a step.

    Args:
        name: "ours": the compiled library; "torch".
        rows: Of torch's layers on the compiled library, how many outputs share their input list.
    """

    name: str
    rows: int = 0

    def __str__(self) -> str:
        """Its name."""
        return f"{self.name} ({self.rows} rows)" if self.rows > 1 else self.name


TORCH = Engine("torch")
_LARGE = 1 << 22  # bytes: from here on pages of 4 KB make the processor search for them
PLACES = (View, Slice, Concat)  # steps that do nothing: they say where values lie


class Workspace:
    """The memory of one call at a time: a plan has as many as calls that ran at once.

    Args:
        plan: Whose.
    """

    def __init__(self, plan: Plan) -> None:
        with torch.inference_mode(False):  # else it could not be written to outside of that mode
            self.arena = _large(plan.memory.arena)
            self.views = [self.arena.as_strided(*geometry) for geometry in plan.arena_views]
            self.scratch = torch.empty(plan.scratch, dtype=torch.uint8, device="cpu")
        self.scratch_address = self.scratch.data_ptr()
        self.tensors: list[Any] = [None] * plan.num_slots
        self.slots = (ctypes.c_void_p * plan.num_slots)()
        self.slots[0] = self.arena.data_ptr()


def clock_for(threads: int) -> Callable[[], float]:
    """What to time so many threads by: one thread's own time leaves out what else runs here."""
    return time.thread_time if threads == 1 else time.perf_counter


Instruction = Callable[[Workspace], None]
Fetch = Callable[[Workspace], Any]


class Plan:
    """A program with its memory and its engines, which any number of threads may run.

    Args:
        program: With numbers for sizes.
        engine_of: What runs each step.
        threads: How many threads the compiled library takes.
    """

    def __init__(self, program: Program, engine_of: Callable[[Step], Engine], threads: int) -> None:
        self.threads = threads
        self.engine_of = engine_of
        self.memory = Memory(program, self._is_native)
        self.program = self.memory.program
        self._slots: dict[Value, int] = {}
        for root in self.memory.roots.values():
            if root.kind != "arena":
                self._slots[root.value] = len(self._slots) + 1
        self.num_slots = len(self._slots) + 1
        self.arena_views: list[tuple[Any, ...]] = []
        self._view_numbers: dict[Value, int] = {}
        self._users = self.program.users()
        self.scratch = 0
        self._forms: list[Any] = []  # of weights, as the engines take them
        self._instructions: list[tuple[list[Step], Instruction]] = []
        self._build()
        self._outputs = [
            self._fetch(output) if isinstance(output, Value) else output
            for output in self.program.outputs
        ]
        self._input_slots = [self._slots[value] for value in self.program.inputs]
        # Where an output is made, and which it is, unless it is only a part of what is made there.
        outputs = enumerate(self.program.outputs)
        numbers = {value: i for i, value in outputs if isinstance(value, Value)}
        self._fresh = [
            (self._slots[root.value], root.value.shape, numbers.get(root.value))
            for root in self.memory.roots.values()
            if root.kind == "output"
        ]
        self._pool: deque[Workspace] = deque()

    @property
    def calls(self) -> int:
        """How many calls a run makes."""
        return sum(bool(steps) for steps, _ in self._instructions)

    @property
    def weights(self) -> list[Tensor]:
        """All weights, tables and constants that the steps hold, in all their forms."""
        return list(tensors_in((self.program.steps, self.program.outputs, self._forms)))

    def _is_native(self, step: Step) -> bool:
        return self.engine_of(step).name == "ours"

    # --- running ---------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Tensor], into: Sequence[Tensor] | None = None) -> list[Any]:
        """Compute the outputs.

        Args:
            inputs: Contiguous, of the sizes of the plan.
            into: Where to, one contiguous tensor for each output; all of them must be values.

        Returns:
            The outputs, which share no memory with the plan.
        """
        workspace = self._enter(inputs, into)
        try:
            for _, instruction in self._instructions:
                instruction(workspace)
            outputs = self._outputs_in(workspace)
            if into is None:
                return outputs
            for output, target in zip(outputs, into, strict=True):
                if output is not target:
                    target.copy_(output)
            return list(into)
        finally:
            self._leave(workspace)

    def repeatable(self, inputs: Sequence[Tensor]) -> Callable[[], None]:
        """The steps alone, on memory that is allocated once: what they cost inside a network.

        Args:
            inputs: As for `run`.

        Returns:
            Runs the steps; not to be called by several threads at once.
        """
        workspace = self._enter(inputs)

        def run() -> None:
            for _, instruction in self._instructions:
                instruction(workspace)

        return run

    def time(self, inputs: Sequence[Tensor]) -> list[tuple[Step, float]]:
        """Run step by step.

        Args:
            inputs: As for `run`.

        Returns:
            Each step and the milliseconds that it took.
        """
        clock = clock_for(self.threads)
        workspace = self._enter(inputs)
        found = []
        try:
            for steps, instruction in self._instructions:
                parts = [instruction]
                if isinstance(instruction, _NativeRun):
                    parts = instruction.one_by_one()
                elif not steps:
                    instruction(workspace)
                    continue
                for step, part in zip(steps, parts, strict=True):
                    start = clock()
                    part(workspace)
                    found.append((step, 1e3 * (clock() - start)))
        finally:
            self._leave(workspace)
        return found

    def _enter(self, inputs: Sequence[Tensor], into: Sequence[Tensor] | None = None) -> Workspace:
        try:
            workspace = self._pool.pop()
        except IndexError:
            workspace = Workspace(self)
        for slot, tensor in zip(self._input_slots, inputs, strict=True):
            workspace.tensors[slot] = tensor
            workspace.slots[slot] = tensor.data_ptr()
        for slot, shape, number in self._fresh:
            if into is None or number is None:
                tensor = torch.empty(shape, **FLOATS)
            else:
                tensor = into[number]
            workspace.tensors[slot] = tensor
            workspace.slots[slot] = tensor.data_ptr()
        return workspace

    def _outputs_in(self, workspace: Workspace) -> list[Any]:
        outputs = [fetch(workspace) if callable(fetch) else fetch for fetch in self._outputs]
        return [o.contiguous() if isinstance(o, Tensor) else o for o in outputs]

    def _leave(self, workspace: Workspace) -> None:
        """Give a workspace back, without the tensors of the call, whether or not it failed."""
        workspace.tensors = [None] * self.num_slots
        self._pool.append(workspace)

    # --- building --------------------------------------------------------------------------------

    def _build(self) -> None:
        run: list[tuple[Step, NativeStep]] = []
        dead: list[int] = []  # slots that nothing reads any more: let go after the current call
        dies = self._deaths()
        for position, step in enumerate(self.program):
            if isinstance(step, PLACES):
                pass
            elif self._is_native(step):
                native = native_step(step, self._locate, self.engine_of(step).rows)
                self._forms.append(native.keep)
                run.append((step, native))
            else:
                self._flush(run, dead)
                self._forms += [weights.dense() for weights in weights_of(step)]
                self._instructions.append(([step], self._torch_step(step)))
            dead += dies.get(position, [])
            if not run and dead:
                self._instructions.append(([], _let_go(dead)))
                dead = []
        self._flush(run, dead)

    def _flush(self, run: list[tuple[Step, NativeStep]], dead: list[int]) -> None:
        if not run:
            return
        native = _NativeRun([built for _, built in run], self.threads)
        sizes = [self.memory.arena] + [0] * (self.num_slots - 1)
        for value, slot in self._slots.items():
            sizes[slot] = self.memory.roots[value].size
        native.check(sizes)
        self.scratch = max(self.scratch, native.scratch)
        self._instructions.append(([step for step, _ in run], native))
        run.clear()
        if dead:
            self._instructions.append(([], _let_go(dead)))
            dead.clear()

    def _torch_step(self, step: Step) -> Instruction:
        runner = torch_runner(step)
        fetch = [self._fetch(value) for value in step.reads]
        stores = [self._store(value) for value in step.makes]
        several = isinstance(step, Aten) and len(step.ys) > 1

        def instruction(w: Workspace) -> None:
            result = runner(*[f(w) for f in fetch])
            if several:
                for store, one in zip(stores, result, strict=True):
                    store(w, one)
            else:
                stores[0](w, result)

        return instruction

    def _store(self, value: Value) -> Callable[[Workspace, Tensor], None]:
        place = self.memory.places.of(value)
        root = self.memory.roots[place.root]
        if root.kind != "torch":
            fetch = self._fetch(value)
            return lambda w, result: fetch(w).copy_(result)
        slot = self._slots[root.value]
        # Only operations of torch can read whatever layout this one returned.
        plain = not all(isinstance(user, Aten) for user in self._users[value])

        def store(w: Workspace, result: Tensor) -> None:
            if plain and not result.is_contiguous():
                result = result.contiguous()
            w.tensors[slot] = result
            w.slots[slot] = result.data_ptr()

        return store

    def _fetch(self, value: Value) -> Fetch:
        place = self.memory.places.of(value)
        root = self.memory.roots[place.root]
        strides = [1] * len(value.shape)
        for d in range(len(strides) - 2, -1, -1):
            strides[d] = strides[d + 1] * value.shape[d + 1]
        if len(strides) > 1:
            strides[0] = place.image
        shape, offset = value.shape, place.offset
        if root.kind == "arena":
            if value not in self._view_numbers:
                self._view_numbers[value] = len(self.arena_views)
                self.arena_views.append((shape, strides, root.offset + offset))
            number = self._view_numbers[value]
            return lambda w: w.views[number]
        slot = self._slots[root.value]
        if value is root.value:
            return lambda w: w.tensors[slot]

        def fetch(w: Workspace) -> Tensor:
            whole: Tensor = w.tensors[slot]
            return whole.as_strided(shape, strides, whole.storage_offset() + offset)

        return fetch

    def _locate(self, value: Value) -> CTensor:
        place = self.memory.places.of(value)
        root = self.memory.roots[place.root]
        slot = 0 if root.kind == "arena" else self._slots[root.value]
        return CTensor(slot, 0, root.offset + place.offset, place.image)

    def _deaths(self) -> dict[int, list[int]]:
        """What torch returned is let go after the step that reads it last."""
        found: dict[int, list[int]] = {}
        for root in self.memory.roots.values():
            if root.kind == "torch":
                found.setdefault(root.last, []).append(self._slots[root.value])
        return found


class _NativeRun:
    """Consecutive steps of the compiled library, one call."""

    def __init__(self, steps: list[NativeStep], threads: int) -> None:
        self._library = library()
        self._steps = (CStep * len(steps))(*(step.c for step in steps))
        self._keep = steps
        self._threads = threads
        self._run = self._library.xn_program_run
        self._address = ctypes.addressof(self._steps)
        count = len(steps)
        self.scratch = int(self._library.xn_program_scratch(self._address, count, threads, ISA))
        must(1 if self.scratch < 0 else 0)

    def check(self, sizes: list[int]) -> None:
        """Make sure that every step stays inside its slots, given their sizes in numbers."""
        array = (ctypes.c_int64 * len(sizes))(*sizes)
        check = self._library.xn_program_check
        must(check(self._address, len(self._steps), ctypes.addressof(array), len(sizes)))

    def __call__(self, w: Workspace) -> None:
        count = len(self._steps)
        must(self._run(self._address, count, w.slots, w.scratch_address, self._threads, ISA))

    def one_by_one(self) -> list[Instruction]:
        """The steps as calls of their own."""

        def one(position: int) -> Instruction:
            address = self._address + position * ctypes.sizeof(CStep)
            return lambda w: must(
                self._run(address, 1, w.slots, w.scratch_address, self._threads, ISA)
            )

        return [one(position) for position in range(len(self._steps))]


def _large(count: int) -> Tensor:
    """Memory for so many numbers, in large pages where the system has them."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or 4 * count < _LARGE:
        return torch.empty(count, **FLOATS)
    memory = mmap.mmap(-1, 4 * count)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(advice)
    return torch.frombuffer(memory, dtype=torch.float32)


def _let_go(slots: Sequence[int]) -> Instruction:
    slots = tuple(slots)

    def instruction(w: Workspace) -> None:
        for slot in slots:
            w.tensors[slot] = None

    return instruction
