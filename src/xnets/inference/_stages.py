"""Programs cut where one value is all that goes on, each part with as many samples as suit it.

The first layers of a network have large images and few weights: with one sample at a time they
stay in the cache. The last ones have small images and many weights, which several samples share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xnets.inference._choose import Choice
from xnets.inference._execute import PLACES, Plan
from xnets.inference._ir import Step, Value
from xnets.inference._program import Program


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of a network, and how many samples it takes at a time.

    Args:
        plan: Of the part.
        samples: How many.
        choices: What was chosen for its steps.
    """

    plan: Plan
    samples: int
    choices: Mapping[Step, Choice]

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Compute the outputs of any number of samples that is a multiple of `samples`."""
        for start in range(0, len(outputs[0]), self.samples):
            rows = slice(start, start + self.samples)
            self.plan.run([t[rows] for t in inputs], [t[rows] for t in outputs])

    def outputs(self, samples: int) -> list[Tensor]:
        """Memory for its outputs."""
        values = self.plan.program.output_values
        with torch.inference_mode(False):  # other threads, which are not in that mode, write to it
            return [
                torch.empty((samples, *value.shape[1:]), dtype=value.dtype, device="cpu")
                for value in values
            ]


def run_stages(
    stages: Sequence[Stage], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Run the parts of a network one after the other, on one thread.

    Args:
        stages: The parts.
        inputs: Of the first; contiguous.
        outputs: Of the last; written to.
    """
    for stage in stages[:-1]:
        between = stage.outputs(len(outputs[0]))
        stage.run(inputs, between)
        inputs = between
    stages[-1].run(inputs, outputs)


def narrow_places(program: Program) -> list[int]:
    """Where a program may be cut: positions of steps before which only one value is still needed.

    Args:
        program: Each of whose steps treats every sample by itself.

    Returns:
        The positions, with a step that computes something before, between and after them.
    """
    last = {value: at for at, step in enumerate(program) for value in step.reads}
    last.update(dict.fromkeys(program.output_values, len(program.steps)))
    alive = {value for value in program.inputs if value in last}
    works = [not isinstance(step, PLACES) for step in program]
    found: list[int] = []
    for at, step in enumerate(program):
        alive.update(step.makes)
        alive = {value for value in alive if last.get(value, -1) > at}
        start = found[-1] if found else 0
        if len(alive) == 1 and any(works[start : at + 1]) and any(works[at + 1 :]):
            found.append(at + 1)
    return found


def cut(program: Program, places: Sequence[int]) -> list[Program]:
    """Cut a program.

    Args:
        program: The program.
        places: Some of its `narrow_places`.

    Returns:
        Its parts; each makes the one input of the next.
    """
    parts: list[Program] = []
    inputs: list[Value] = program.inputs
    for start, end in zip([0, *places], [*places, len(program.steps)], strict=True):
        outputs = program.outputs
        if end < len(program.steps):
            needed = {value for step in program.steps[end:] for value in step.reads}
            needed.update(program.output_values)
            made = [value for step in program.steps[:end] for value in step.makes]
            outputs = [value for value in (*program.inputs, *made) if value in needed]
        parts.append(Program(program.steps[start:end], inputs, outputs))
        inputs = outputs
    return parts


def fewest_milliseconds(costs: Sequence[Mapping[int, float]], enter: float) -> list[int]:
    """How many samples each part should take at a time, no part fewer than the one before it.

    Args:
        costs: Of each part, for each number of samples, the milliseconds of that many.
        enter: Milliseconds of a call.

    Returns:
        A number for each part, so that they are fastest together: neighbours with the same number
        are one call.
    """
    best: dict[int, tuple[float, list[int]]] = {}
    for part in costs:
        found = {}
        for samples, ms in part.items():
            ways = [
                (before + (samples != last) * enter / samples, path)
                for last, (before, path) in best.items()
                if last <= samples
            ] or [(enter / samples, [])]
            before, path = min(ways, key=lambda way: way[0])
            found[samples] = (before + ms / samples, [*path, samples])
        best = found
    return min(best.values(), key=lambda way: way[0])[1] if best else []
