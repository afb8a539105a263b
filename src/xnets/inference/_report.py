"""What became of a model: what was fused, what runs each layer, and what could not be helped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xnets._table import format_table
from xnets.inference._choose import Choice
from xnets.inference._execute import PLACES, Plan
from xnets.inference._ir import Aten, Concat, Copy, Step
from xnets.inference._program import Program


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
        ms: Milliseconds of every candidate that was measured, by name.
        reason: Why there was no choice; "" if there was.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    fused: tuple[str, ...]
    engine: str
    ms: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class Report:
    """What `xnets.optimize` made of a model, for one shape of its input.

    Args:
        inputs: Shapes of the inputs.
        threads: Number of threads.
        engines: As asked for.
        steps: One entry a step.
        operations: Operations of the model in eval mode.
        pieces: How many pieces the batch is cut into, each run through all steps; the shapes,
            memory and times of the steps are those of one piece.
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


def make_report(
    plan: Plan, choices: Mapping[Step, Choice], operations: int, **facts: Any
) -> Report:
    """The report of a plan.

    Args:
        plan: The plan.
        choices: What was chosen for the steps of the program that it was made from.
        operations: Of the model.
        facts: The other fields.

    Returns:
        The report.
    """
    by_value = {step.y: choice for step, choice in choices.items()}
    steps = []
    for step in plan.program:
        if isinstance(step, PLACES):
            continue
        choice = by_value.get(step.y)
        reason = "a piece that cannot be written in place" if choice is None else choice.reason
        engine = plan.engine_of(step)
        ms = {} if choice is None else {str(e): time for e, time in choice.ms.items()}
        shape = tuple(step.y.shape)
        steps.append(
            StepReport(step.name, step.label(), shape, step.fused, str(engine), ms, reason)
        )
    copied = {s.y for s in plan.program if isinstance(s, Copy)}
    pieces = [x for s in plan.program if isinstance(s, Concat) for x in s.xs]
    return Report(
        steps=tuple(steps),
        operations=operations,
        written_in_place=sum(x not in copied for x in pieces),
        calls=plan.calls,
        arena_bytes=4 * plan.memory.arena,
        unshared_bytes=4 * plan.memory.unshared,
        threads=plan.threads * facts["at_once"],
        **facts,
    )


def count_operations(program: Program) -> int:
    """Operations of a program that compute or move something."""
    return sum(isinstance(step, (Concat, Aten)) or not isinstance(step, PLACES) for step in program)
