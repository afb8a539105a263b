"""What became of a model: what was fused, what runs each layer, and what could not be helped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch

from xnets._table import format_table
from xnets.inference._execute import PLACES, Plan
from xnets.inference._ir import Aten, Concat, Copy
from xnets.inference._program import Program
from xnets.inference._stages import Stage


@dataclass(frozen=True)
class StepReport:
    """One step of an optimised model.

    Args:
        name: The module that it comes from; "" for the model itself.
        kind: What it computes.
        output: Shape of its output.
        fused: Operations of the model that it does besides, in order.
        engine: What runs it: "ours", the compiled library, with how many outputs share an input
            list where that is a choice; or "torch".
        ms: Milliseconds of every candidate that was measured, by name; of one sample on all
            threads where several samples go through at once on threads of their own.
        reason: Why there was no choice; "" if there was.
        samples: How many samples it takes at a time, where the batch is cut into pieces; else 0.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    fused: tuple[str, ...]
    engine: str
    ms: Mapping[str, float]
    reason: str
    samples: int = 0


@dataclass(frozen=True)
class Report:
    """What `xnets.optimize` made of a model, for one shape of its input.

    Args:
        inputs: Shapes of the inputs.
        threads: Number of threads.
        engines: As asked for.
        steps: One entry a step.
        operations: Operations of the model in eval mode.
        pieces: How many pieces the batch is cut into, at the most: `samples` of a step says how
            many samples it takes at a time, whose shape and memory are given.
        at_once: How many pieces run at once, each on a thread of its own.
        written_in_place: Pieces of concatenations that are made where they belong.
        calls: How many calls the steps make: neighbouring ones of the compiled library are one.
        arena_bytes: Memory of all activations of a call.
        unshared_bytes: What that would be if no memory were used twice.
        weight_bytes: Of all weights, in every form that is held, index tables and constants.
        error: Largest difference from the model's output, relative to its largest.
        seconds: How long all this took.
    """

    inputs: tuple[tuple[int, ...], ...]
    threads: int
    engines: str
    steps: tuple[StepReport, ...]
    operations: int
    pieces: int
    at_once: int
    written_in_place: int
    calls: int
    arena_bytes: int
    unshared_bytes: int
    weight_bytes: int
    error: float
    seconds: float

    @property
    def fused(self) -> dict[str, int]:
        """How many of the model's operations of each kind became part of another."""
        return dict(Counter(word for step in self.steps for word in step.fused))

    @property
    def left(self) -> tuple[StepReport, ...]:
        """The steps that torch runs because there was no other way."""
        return tuple(s for s in self.steps if s.engine == "torch" and s.reason)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = []
        for step in self.steps:
            ms = ", ".join(f"{name} {time:.3g}" for name, time in step.ms.items())
            name = step.name or "(model)"
            shape = "x".join(map(str, step.output))
            rows.append([name, step.kind, shape, ", ".join(step.fused), step.engine, ms])
        header = ["layer", "step", "output", "with", "engine", "milliseconds"]
        return format_table(header, rows) + "\n" + self.summary()

    def summary(self) -> str:
        """A few lines on the whole."""
        engines = Counter(step.engine.split(" ")[0] for step in self.steps)
        shares = " and ".join(f"{count} by {name}" for name, count in engines.items())
        fused = ", ".join(f"{count} {word}" for word, count in self.fused.items())
        lines = [
            f"{self.operations} operations became {len(self.steps)} steps in {self.calls} calls: "
            f"{shares or 'nothing to run'}, {self.threads} threads"
            + (f", the batch in {self.pieces} pieces" if self.pieces > 1 else "")
            + "".join(self._changes())
            + (f", {self.at_once} at once" if self.at_once > 1 else ""),
            f"part of another step: {fused or 'nothing'}; pieces of concatenations written in "
            f"place: {self.written_in_place}",
            f"activations {self.arena_bytes:,} bytes ({self.unshared_bytes:,} without sharing), "
            f"weights {self.weight_bytes:,} bytes",
            f"differs from the model by {self.error:.1g} of its largest output; "
            f"made in {self.seconds:.1f} s",
        ]
        reasons: dict[str, Counter[str]] = {}
        for step in self.left:
            reasons.setdefault(step.reason, Counter())[step.kind] += 1
        for reason, kinds in reasons.items():
            which = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            lines.append(f"left to torch, as {reason}: {which}")
        return "\n".join(lines)

    def _changes(self) -> Iterator[str]:
        for before, step in pairwise(self.steps):
            if step.samples != before.samples:
                yield f", from {step.name or step.kind} on {step.samples} samples at a time"


def make_report(
    stages: Sequence[Stage], operations: int, batch: int | None, at_once: int, **facts: Any
) -> Report:
    """The report of a network in stages.

    Args:
        stages: The stages.
        operations: Of the model.
        batch: Samples of the batch, where it is cut into pieces; else None.
        at_once: How many threads take samples of their own.
        facts: The other fields.

    Returns:
        The report.
    """
    plans = [stage.plan for stage in stages]
    made = [value for plan in plans[:-1] for value in plan.program.output_values]
    between = (batch or 0) * sum(value.per_image for value in made)
    everything = [step for plan in plans for step in plan.program]
    copied = {s.y for s in everything if isinstance(s, Copy)}
    pieces = [x for s in everything if isinstance(s, Concat) for x in s.xs]
    return Report(
        steps=tuple(one for stage in stages for one in _step_reports(stage, batch is not None)),
        operations=operations,
        pieces=1 if batch is None else batch // min(stage.samples for stage in stages),
        written_in_place=sum(x not in copied for x in pieces),
        calls=sum(plan.calls for plan in plans),
        arena_bytes=4 * (at_once * sum(plan.memory.arena for plan in plans) + between),
        unshared_bytes=4 * (at_once * sum(plan.memory.unshared for plan in plans) + between),
        at_once=at_once,
        weight_bytes=_weight_bytes(plans),
        threads=plans[0].threads * at_once,
        **facts,
    )


def _step_reports(stage: Stage, in_pieces: bool) -> Iterator[StepReport]:
    by_value = {step.y: choice for step, choice in stage.choices.items()}
    for step in stage.plan.program:
        if isinstance(step, PLACES):
            continue
        choice = by_value.get(step.y)
        yield StepReport(
            name=step.name,
            kind=step.label(),
            output=tuple(step.y.shape),
            fused=step.fused,
            engine=str(stage.plan.engine_of(step)),
            ms={} if choice is None else {str(e): time for e, time in choice.ms.items()},
            reason="a piece that cannot be written in place" if choice is None else choice.reason,
            samples=stage.samples if in_pieces else 0,
        )


def _weight_bytes(plans: Sequence[Plan]) -> int:
    """Of all weights, tables and constants of plans, each memory once."""
    held = [t for plan in plans for t in plan.weights if t.layout == torch.strided]
    storages = [tensor.untyped_storage() for tensor in held]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def count_operations(program: Program) -> int:
    """Operations of a program that compute or move something."""
    return sum(isinstance(step, (Concat, Aten)) or not isinstance(step, PLACES) for step in program)
