"""What answers a call: arguments go through the stages of a network, samples side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from xnets.inference._execute import Engine
from xnets.inference._fits import Trace
from xnets.inference._ir import Step
from xnets.inference._report import Report, make_report
from xnets.inference._stages import Stage, run_stages


class Planned:
    """The stages of a network, and how arguments and outputs go with them.

    Args:
        stages: The stages. One alone may be for the whole batch, and for programs that have none.
        batch: Samples of the batch, where it is cut into pieces; else None.
        trace: What it is the plan of.
        engines: As asked for.
        at_once: How many threads take samples of their own.

    Attributes:
        used: When it was used last, by a count of uses.
    """

    used = 0

    def __init__(
        self,
        stages: Sequence[Stage],
        batch: int | None,
        trace: Trace,
        engines: str,
        at_once: int = 1,
    ) -> None:
        self.stages, self.at_once, self.spec = list(stages), at_once, trace.spec
        self.is_tensor = bool(trace.spec.is_leaf())
        self.borrowed = trace.borrowed
        self.trace, self._batch, self._engines = trace, batch, engines

    def run(self, leaves: Sequence[Any]) -> list[Any]:
        """The outputs for the leaves of the arguments."""
        inputs = self._inputs(leaves)
        if self._batch is None:
            return self.stages[0].plan.run(inputs)
        outputs = self.stages[-1].outputs(self._batch)
        bounds = shares(self._batch, self.at_once)
        _side_by_side(
            [lambda rows=rows: self._run_share(inputs, outputs, rows) for rows in bounds]  # type: ignore[misc]
        )
        return outputs

    def _run_share(self, inputs: list[Tensor], outputs: list[Tensor], rows: slice) -> None:
        run_stages(self.stages, [t[rows] for t in inputs], [t[rows] for t in outputs])

    def time(self, leaves: Sequence[Any]) -> list[tuple[Step, Engine, float]]:
        """Each step, what runs it and its milliseconds, of all samples, over the threads."""
        inputs = self._inputs(leaves)
        found: list[tuple[Step, Engine, float]] = []
        for stage in self.stages:
            pieces: list[Sequence[Tensor]] = [inputs]
            if self._batch is not None:
                pieces = [*zip(*(t.split(stage.samples) for t in inputs), strict=True)]
            runs = [stage.plan.time(piece) for piece in pieces]
            for same in zip(*runs, strict=True):
                step = same[0][0]
                ms = sum(ms for _, ms in same) / self.at_once
                found.append((step, stage.plan.engine_of(step), ms))
            if stage is not self.stages[-1]:
                outputs = stage.outputs(len(inputs[0]))
                stage.run(inputs, outputs)
                inputs = outputs
        return found

    def report(self, error: float, seconds: float) -> Report:
        """What was done."""
        shapes = [tuple(value.shape) for value in self.stages[0].plan.program.inputs]
        if self._batch is not None:
            shapes = [(self._batch, *shape[1:]) for shape in shapes]
        return make_report(
            self.stages,
            self.trace.operations,
            batch=self._batch,
            at_once=self.at_once,
            engines=self._engines,
            inputs=tuple(shapes),
            error=error,
            seconds=seconds,
        )

    def _inputs(self, leaves: Sequence[Any]) -> list[Tensor]:
        return [leaves[i].detach().resolve_neg().contiguous() for i in self.trace.tensor_leaves]


def shares(batch: int, threads: int) -> list[slice]:
    """The samples of each thread."""
    bounds = [batch * i // threads for i in range(threads + 1)]
    return [slice(start, end) for start, end in pairwise(bounds)]


def _side_by_side(runs: Sequence[Callable[[], None]]) -> None:
    """Run all of them, the first here and each of the others on a thread of its own.

    Not a pool: its threads would be missing after a fork, gone once the main thread has ended,
    and shared by callers. To start a thread takes some tens of microseconds.
    """
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            with torch.no_grad():  # which holds for one thread
                runs[i]()
        except BaseException as error:  # raised below, where the caller is
            errors.append(error)

    threads = [Thread(target=work, args=(i,), daemon=True) for i in range(1, len(runs))]
    started: list[Thread] = []
    try:
        with suppress(RuntimeError):  # no more threads are to be had: what is left runs here
            for thread in threads:
                thread.start()
                started.append(thread)
        runs[0]()
        for run in runs[len(started) + 1 :]:
            run()
    finally:
        for thread in started:
            thread.join()
    if errors:
        raise errors[0]
