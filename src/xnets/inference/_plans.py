"""From a trace and sizes to what runs: engines chosen, memory planned, batches cut into pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from xnets.inference._borrowed import Borrowed
from xnets.inference._choose import Choice, candidates, choose, settle
from xnets.inference._execute import TORCH, Engine, Plan, clock_for
from xnets.inference._ir import Aten, Step, Value, weights_of
from xnets.inference._native import has_library
from xnets.inference._program import Program, is_expression
from xnets.inference._report import Report, make_report
from xnets.inference._weights import FLOATS

# A batch may be faster in pieces, whose activations stay in the cache from step to step.
_PIECES = (1,)  # samples
_ROUNDS = 3
_HOPELESS = 1.5  # times as long as the fastest: no more rounds


class Trace:
    """A simplified program, and which inputs it is right for.

    Args:
        program: The program.
        leaves: The arguments that it was made with.
        spec: How its outputs are put together.
        operations: How many the model has.
        borrowed: What of the model's memory it reads.
    """

    def __init__(
        self, program: Program, leaves: list[Any], spec: Any, operations: int, borrowed: Borrowed
    ) -> None:
        self.program = program
        self.borrowed = borrowed
        self.spec = spec
        self.operations = operations
        self.tensor_leaves = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._constants = {i: v for i, v in enumerate(leaves) if not isinstance(v, Tensor)}

    def fits(self, leaves: Sequence[Any]) -> dict[Any, int] | None:
        """The sizes for which it is the program of these inputs, or None."""
        for i, value in self._constants.items():
            if type(leaves[i]) is not type(value) or leaves[i] != value:
                return None
        sizes: dict[Any, int] = {}
        for index, value in zip(self.tensor_leaves, self.program.inputs, strict=True):
            tensor = leaves[index]
            if tensor.dtype != value.dtype or tensor.dim() != len(value.shape):
                return None
            for have, want in zip(tensor.shape, value.shape, strict=True):
                if not is_expression(want):
                    if have != want:
                        return None
                elif not want.is_Symbol or sizes.setdefault(want, have) != have:
                    return None
        return sizes

    @property
    def any_batch(self) -> Any:
        """The symbol of the batch, if every step treats every sample by itself; else None."""
        symbols = {value.shape[0] for value in self.program.inputs if value.shape}
        if len(symbols) != 1 or self._constants or not is_expression(batch := symbols.pop()):
            return None
        for step in self.program:
            values = [*step.reads, *step.makes]
            if isinstance(step, Aten) or any(value.shape[0] != batch for value in values):
                return None
        outputs = self.program.outputs
        return batch if all(isinstance(output, Value) for output in outputs) else None


class Planned:
    """A plan, and how arguments and outputs go with it.

    Args:
        plan: For the samples of one piece.
        pieces: How many pieces the batch is cut into.
        trace: What it is the plan of.
        choices: What was chosen for its steps.
        engines: As asked for.
        at_once: How many pieces run at once, each on a thread of its own.

    Attributes:
        used: When it was used last, by a count of uses.
    """

    used = 0

    def __init__(
        self,
        plan: Plan,
        pieces: int,
        trace: Trace,
        choices: Mapping[Step, Choice],
        engines: str,
        at_once: int = 1,
    ) -> None:
        self.plan, self.pieces, self.at_once, self.spec = plan, pieces, at_once, trace.spec
        self.is_tensor = bool(trace.spec.is_leaf())
        self.borrowed = trace.borrowed
        self.trace, self._choices, self._engines = trace, choices, engines

    def run(self, leaves: Sequence[Any]) -> list[Any]:
        """The outputs for the leaves of the arguments."""
        inputs = self._inputs(leaves)
        if self.pieces == 1:
            return self.plan.run(inputs)
        pieces = self._cut(inputs)
        shares = [
            pieces[len(pieces) * i // self.at_once : len(pieces) * (i + 1) // self.at_once]
            for i in range(self.at_once)
        ]
        parts = _side_by_side([lambda share=share: self._run_all(share) for share in shares])  # type: ignore[misc]
        return [torch.cat(part) for part in zip(*chain(*parts), strict=True)]

    def _run_all(self, pieces: list[tuple[Tensor, ...]]) -> list[list[Any]]:
        return [self.plan.run(piece) for piece in pieces]

    def time(self, leaves: Sequence[Any]) -> list[tuple[Step, float]]:
        """Each step and its milliseconds, all pieces together, over those that run at once."""
        runs = [self.plan.time(piece) for piece in self._cut(self._inputs(leaves))]
        return [
            (run[0][0], sum(ms for _, ms in run) / self.at_once) for run in zip(*runs, strict=True)
        ]

    def report(self, error: float, seconds: float) -> Report:
        """What was done."""
        program = self.plan.program
        shapes = [tuple(value.shape) for value in program.inputs]
        if self.pieces > 1:
            shapes = [(shape[0] * self.pieces, *shape[1:]) for shape in shapes]
        return make_report(
            self.plan,
            self._choices,
            self.trace.operations,
            pieces=self.pieces,
            at_once=self.at_once,
            engines=self._engines,
            inputs=tuple(shapes),
            weight_bytes=self.plan.weight_bytes,
            error=error,
            seconds=seconds,
        )

    def _inputs(self, leaves: Sequence[Any]) -> list[Tensor]:
        return [leaves[i].resolve_neg().contiguous() for i in self.trace.tensor_leaves]

    def _cut(self, inputs: list[Tensor]) -> list[tuple[Tensor, ...]]:
        return list(zip(*(tensor.chunk(self.pieces) for tensor in inputs), strict=True))


def make_planned(trace: Trace, sizes: dict[Any, int], engines: str, threads: int) -> Planned:
    """Plan a trace for one set of sizes.

    Args:
        trace: The trace.
        sizes: A number for each of its symbols.
        engines: See `xnets.optimize`. Where they are measured, so is whether to cut the batch.
        threads: How many threads the compiled library takes.

    Returns:
        The fastest plan.
    """
    try:
        return _fastest_planned(trace, sizes, engines, threads)
    finally:
        for step in trace.program:
            for weights in weights_of(step):
                weights.kept.clear()


def _fastest_planned(trace: Trace, sizes: dict[Any, int], engines: str, threads: int) -> Planned:
    planned = _planned(trace, sizes, 1, engines, threads)
    assert planned is not None
    batch = trace.any_batch
    if engines != "measure" or batch is None or not has_library():
        return planned
    whole = sizes[batch]
    found = [planned]
    for size in _PIECES:
        if size < whole and whole % size == 0:
            for at_once in sorted({1, min(threads, whole // size)}):
                one = _planned(trace, {batch: size}, whole // size, engines, threads, at_once)
                found += [] if one is None else [one]
    if len(found) == 1:
        return planned
    inputs = [torch.zeros(tuple(v.shape), **FLOATS) for v in planned.plan.program.inputs]
    leaves: list[Any] = [None] * (max(trace.tensor_leaves) + 1)
    for index, tensor in zip(trace.tensor_leaves, inputs, strict=True):
        leaves[index] = tensor
    with torch.no_grad():
        return found[_fastest([lambda one=one: one.run(leaves) for one in found], threads)]  # type: ignore[misc]


def _planned(
    trace: Trace,
    sizes: Mapping[Any, int],
    pieces: int,
    engines: str,
    threads: int,
    at_once: int = 1,
) -> Planned | None:
    """A plan for one piece of the batch.

    Several pieces at once take one thread each: threads that share every layer wait for each other
    after each, those that have samples of their own wait once. None if a step needs torch then,
    which has threads of its own.
    """
    program = trace.program.bind(sizes)
    empty = any(0 in value.shape for value in program.inputs)
    wanted = "torch" if empty else engines
    program = settle(program, wanted, threads)
    choices = choose(program, wanted, threads)
    engine_by_value = {step.y: choice.engine for step, choice in choices.items()}
    if at_once > 1:
        if any(choice.reason for choice in choices.values()):
            return None
        for step, choice in choices.items():
            if choice.engine == TORCH:
                engine_by_value[step.y] = candidates(step)[0]
    added = Engine("ours") if engines != "torch" and not empty and has_library() else TORCH

    def engine_of(step: Step) -> Engine:
        return engine_by_value.get(step.y, added)  # copies that the plan adds

    with torch.inference_mode(False), torch.no_grad():
        plan = Plan(program, engine_of, threads if at_once == 1 else 1)
        return Planned(plan, pieces, trace, choices, engines, at_once)


def _side_by_side(runs: Sequence[Callable[[], list[Any]]]) -> list[list[Any]]:
    """What they return, the first run here and each of the others on a thread of its own.

    Not a pool: its threads would be missing after a fork, gone once the main thread has ended,
    and shared by callers. To start a thread takes some tens of microseconds.
    """
    found: list[list[Any]] = [[] for _ in runs]
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            found[i] = runs[i]()
        except BaseException as error:  # raised below, where the caller is
            errors.append(error)

    threads = [Thread(target=work, args=(i,), daemon=True) for i in range(1, len(runs))]
    for thread in threads:
        thread.start()
    try:
        found[0] = runs[0]()
    finally:
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return found


def _fastest(runs: Sequence[Callable[[], object]], threads: int) -> int:
    """Which of them is: the least of a few rounds in turns, for machines are not always as fast."""
    clock = clock_for(threads)
    least = [float("inf")] * len(runs)
    for round_number in range(_ROUNDS + 1):
        for i, run in enumerate(runs):
            if _HOPELESS * min(least) < least[i] < float("inf"):
                continue
            start = clock()
            run()
            if round_number:  # the first one allocates
                least[i] = min(least[i], clock() - start)
    return least.index(min(least))
