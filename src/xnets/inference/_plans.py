"""From a trace and sizes to what runs: engines chosen, memory planned, batches cut into pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from xnets.inference._choose import Choice, candidates, choose, settle
from xnets.inference._execute import PLACES, TORCH, Engine, Plan, clock_for
from xnets.inference._fits import Trace
from xnets.inference._ir import Step, weights_of
from xnets.inference._native import has_library
from xnets.inference._planned import Planned, shares
from xnets.inference._program import Program
from xnets.inference._stages import Stage, cut, fewest_milliseconds, narrow_places
from xnets.inference._weights import FLOATS

_ROUNDS, _SECONDS = 3, 1.0  # at least
_LONG = 10.0  # seconds after which one round must do
_HOPELESS = 1.2  # times as long as the fastest: no more than that
# Samples that a thread takes at a time. With one, activations stay in the cache from step to step;
# with several, weights do, and images of a few pixels fill the vectors.
_SAMPLES = (1, 4, 16)
_LARGEST = 1 << 26  # bytes of activations: with more, several samples are not even tried
_ALONE = "only the compiled library gives each thread samples of its own"
_ENTER = 0.02  # milliseconds that Python takes for a call
_WORTH = 0.97  # of the time: what several samples must take less, for threads share the last cache


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
    whole = _stage(trace.program, sizes, engines, threads)
    found = [Planned([whole], None, trace, engines)]
    batch = trace.any_batch
    if engines != "measure" or batch is None or not has_library() or sizes[batch] < 2:
        return found[0]
    count = sizes[batch]
    one = _stage(trace.program, {batch: 1}, engines, threads, samples=1)
    found.append(Planned([one], count, trace, engines))
    if not any(choice.reason for choice in one.choices.values()):
        # Threads that share every layer wait for each other after each; those that have samples of
        # their own wait once. But a step of torch has threads of its own.
        at_once = min(threads, count)
        known = {_identity(step): choice for step, choice in one.choices.items()}
        for places, samples in _ways(trace.program, batch, shares(count, at_once), known):
            parts = cut(trace.program, places)
            stages = [
                _native_stage(part, {batch: many}, known)
                for part, many in zip(parts, samples, strict=True)
            ]
            found.append(Planned(stages, count, trace, engines, at_once))
    inputs = [torch.zeros(tuple(v.shape), **FLOATS) for v in whole.plan.program.inputs]
    leaves: list[Any] = [None] * (max(trace.tensor_leaves) + 1)
    for index, tensor in zip(trace.tensor_leaves, inputs, strict=True):
        leaves[index] = tensor
    with torch.no_grad():
        return found[_fastest([lambda one=one: one.run(leaves) for one in found], threads)]  # type: ignore[misc]


def _stage(
    program: Program, sizes: Mapping[Any, int], engines: str, threads: int, samples: int = 0
) -> Stage:
    """All of a program, each step by the engine that was chosen for it."""
    program = program.bind(sizes)
    empty = any(0 in value.shape for value in program.inputs)
    wanted = "torch" if empty else engines
    program = settle(program, wanted, threads)
    choices = choose(program, wanted, threads)
    added = Engine("ours") if engines != "torch" and not empty and has_library() else TORCH
    return Stage(_plan(program, choices, added, threads), samples, choices)


def _native_stage(program: Program, sizes: Mapping[Any, int], known: Mapping[Any, Choice]) -> Stage:
    """A part of a program on one thread, all by the library, with what is known of its steps."""
    program = settle(program.bind(sizes), "measure", 1)
    choices: dict[Step, Choice] = {}
    for step in program:
        if isinstance(step, PLACES):
            continue
        ours, before = candidates(step), known.get(_identity(step))
        if before is None:
            choices[step] = Choice(ours[0], {}, _ALONE)
        else:
            fits = before.engine.name == "ours" and before.engine in ours
            choices[step] = Choice(before.engine if fits else ours[0], before.ms)
    (samples,) = sizes.values()
    return Stage(_plan(program, choices, Engine("ours"), 1), samples, choices)


def _plan(program: Program, choices: Mapping[Step, Choice], added: Engine, threads: int) -> Plan:
    by_value = {step.y: choice.engine for step, choice in choices.items()}

    def engine_of(step: Step) -> Engine:
        return by_value.get(step.y, added)  # copies that the plan adds

    with torch.inference_mode(False), torch.no_grad():
        return Plan(program, engine_of, threads)


def _identity(step: Step) -> tuple[object, ...]:
    """What a step has in common with itself for other numbers of samples."""
    weights, before = getattr(step, "weights", None), getattr(step, "before", None)
    return step.name, step.label(), id(weights), before is None


def _ways(
    program: Program, batch: Any, rows: Sequence[slice], known: Mapping[Any, Choice]
) -> list[tuple[list[int], list[int]]]:
    """Where to cut a program, and how many samples each part should take, by measuring the parts.

    Args:
        program: With a symbol for the batch.
        batch: The symbol.
        rows: The samples of each thread.
        known: What was chosen for its steps.

    Returns:
        Places and numbers of samples: a sample at a time, and what else seems faster.
    """
    lengths = {part.stop - part.start for part in rows}
    fitting = [n for n in range(1, max(_SAMPLES) + 1) if all(size % n == 0 for size in lengths)]
    numbers = sorted({max(n for n in fitting if n <= most) for most in _SAMPLES})
    simple: tuple[list[int], list[int]] = ([], [1])
    if len(numbers) == 1:
        return [simple]
    places = narrow_places(program)
    costs = []
    for part in cut(program, places):
        stages = [_native_stage(part, {batch: number}, known) for number in numbers]
        kept = [s for s in stages if s.samples == 1 or 4 * s.plan.memory.arena <= _LARGEST]
        found = zip([s.samples for s in kept], _milliseconds(kept), strict=True)
        costs.append({many: ms if many == 1 else ms / _WORTH for many, ms in found})
    samples = fewest_milliseconds(costs, _ENTER)
    changes = [i for i in range(1, len(samples)) if samples[i] != samples[i - 1]]
    better = [places[i - 1] for i in changes], [samples[i] for i in (0, *changes)]
    return [simple] if better == simple else [simple, better]


def _milliseconds(stages: Sequence[Stage]) -> list[float]:
    """Of one call of each, on one thread."""
    runs = []
    for stage in stages:
        inputs = [torch.ones(tuple(v.shape), **FLOATS) for v in stage.plan.program.inputs]
        runs.append(stage.plan.repeatable(inputs))
    clock = clock_for(1)
    least = [float("inf")] * len(runs)
    for _ in range(_ROUNDS + 1):
        for i, run in enumerate(runs):
            start = clock()
            run()
            least[i] = min(least[i], 1e3 * (clock() - start))
    return least


def _fastest(runs: Sequence[Callable[[], object]], threads: int) -> int:
    """Which of them is: the least of some rounds in turns, for machines are not always as fast."""
    clock = clock_for(threads)
    least = [float("inf")] * len(runs)
    rounds, started, seconds = 0, time.perf_counter(), 0.0
    while rounds <= (1 if seconds > _LONG else _ROUNDS) or seconds < _SECONDS:
        for i, run in enumerate(runs):
            if rounds > _ROUNDS and least[i] > _HOPELESS * min(least):
                continue
            start = clock()
            run()
            if rounds:  # the first one allocates
                least[i] = min(least[i], clock() - start)
        rounds, seconds = rounds + 1, time.perf_counter() - started
    return least.index(min(least))
