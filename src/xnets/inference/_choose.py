"""Which engine runs each step: measured on this machine, remembered while the process lives."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from xnets.inference._execute import PLACES, TORCH, Engine, Plan, clock_for
from xnets.inference._fuse import apart
from xnets.inference._ir import Aten, Conv, Linear, Step, Value
from xnets.inference._native import has_library, why_not_native
from xnets.inference._program import Program
from xnets.inference._weights import FLOATS

ENGINES = ("measure", "ours", "torch")
_ROWS = (4, 8)  # of torch's layers: outputs that share a list of inputs
_ROUNDS, _SECONDS = 3, 0.06  # of each candidate at least, and of all candidates of a step about
_CLEAR = 1.5  # a candidate that is so many times faster than all others needs no more rounds
# Between two runs of ours torch must make up for what it costs to leave and to enter the library,
# and for caches that are not as warm as when it is measured alone.
_WORTH, _INTERRUPTION = 0.9, 0.02

# What was measured: signature of the step -> milliseconds of each candidate.
_KNOWN: dict[tuple[object, ...], dict[Engine, float]] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Choice:
    """What runs a step, and why.

    Args:
        engine: The choice.
        ms: Milliseconds of every candidate that was measured.
        reason: Why there was nothing to choose from; "" if there was.
    """

    engine: Engine
    ms: dict[Engine, float]
    reason: str = ""


def choose(program: Program, engines: str, threads: int) -> dict[Step, Choice]:
    """Choose an engine for every step that computes something.

    Args:
        program: With numbers for sizes.
        engines: "measure": the fastest; "ours": the compiled library wherever it can; "torch".
        threads: How many threads the library takes.

    Returns:
        The choices.
    """
    chosen: dict[Step, Choice] = {}
    for step in program:
        if isinstance(step, PLACES):
            continue
        reason = why_not_native(step)
        if not has_library():
            reason = "there is no compiled library"
        if reason:
            chosen[step] = Choice(TORCH, {}, reason)
        elif engines == "torch":
            chosen[step] = Choice(TORCH, {}, "as asked for")
        elif engines == "ours":
            chosen[step] = Choice(candidates(step)[0], {}, "as asked for")
        else:
            ms = _measured(step, threads)
            chosen[step] = Choice(_best(ms), ms)
    return chosen


def settle(program: Program, engines: str, threads: int) -> Program:
    """Take apart what is better done in two steps than in one.

    Args:
        program: With numbers for sizes.
        engines: See `choose`. "ours" leaves together what the library can run.
        threads: How many threads the library takes.

    Returns:
        The program.
    """
    steps: list[Step] = []
    for step in program:
        if isinstance(step, Conv) and step.before is not None:
            steps += [step] if _is_better(step, engines, threads) else apart(step)
        else:
            steps.append(step)
    return Program(steps, program.inputs, program.outputs)


def _is_better(step: Conv, engines: str, threads: int) -> bool:
    """Whether a convolution should compute the depthwise one before it."""
    if engines == "torch" or not has_library() or why_not_native(step):
        return False
    if engines == "ours":
        return True
    found = [_measured(one, threads) for one in (step, *apart(step))]
    together, *alone = (ms[_best(ms)] for ms in found)
    return together < sum(alone)


def forget() -> None:
    """Forget all measurements, so that the next choice measures again.

    Examples:
        >>> from xnets.inference import forget_measurements
        >>> forget_measurements()
    """
    with _LOCK:
        _KNOWN.clear()


def candidates(step: Step) -> list[Engine]:
    """What could run a step, the likeliest first."""
    if not isinstance(step, (Conv, Linear)) or step.weights.pattern is not None:
        return [Engine("ours"), TORCH]
    height = step.weights.num_out // step.weights.groups
    fitting = [rows for rows in _ROWS if height % rows == 0]
    ours = [Engine("ours", rows) for rows in fitting] or [Engine("ours", height)]
    return [*ours, TORCH]


def _best(ms: dict[Engine, float]) -> Engine:
    def cost(engine: Engine) -> float:
        return ms[engine] if engine.name == "ours" else ms[engine] / _WORTH + _INTERRUPTION

    return min(ms, key=cost)


def _measured(step: Step, threads: int) -> dict[Engine, float]:
    key = signature(step, threads)
    with _LOCK:  # one at a time: measurements side by side would measure each other
        if key not in _KNOWN:
            _KNOWN[key] = _measure(step, threads)
        return _KNOWN[key]


def signature(step: Step, threads: int) -> tuple[object, ...]:
    """What the time of a step depends on, apart from the machine."""
    parts: list[object] = [type(step).__name__, threads]
    parts += [tuple(value.shape) for value in (*step.reads, step.y)]
    if isinstance(step, (Conv, Linear)):
        weights = step.weights
        graph = weights.pattern
        parts += [weights.kernel, weights.edges.shape[0], weights.groups, step.act.kind]
        parts += [graph.block if graph else None, weights.torch_groups, step.bias is None]
    if isinstance(step, Conv):
        parts += [step.stride, step.padding, step.dilation, step.prologue is None]
        if (first := step.before) is not None:
            parts += [first.weights.kernel, first.stride, first.padding, first.act.kind]
    else:
        parts += [getattr(step, name, None) for name in ("mode", "kernel", "stride", "act")]
    return tuple(parts)


def _measure(step: Step, threads: int) -> dict[Engine, float]:
    """Milliseconds of every candidate, each round one run of each."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(value.shape, generator=generator, **FLOATS) for value in step.reads]
    runs: dict[Engine, Callable[[], object]] = {}
    for engine in candidates(step):
        runs[engine] = _alone(step, engine, threads, inputs)
    clock = clock_for(threads)
    with torch.no_grad():
        for run in runs.values():  # warm: allocate, load code
            run()
        times: dict[Engine, list[float]] = {engine: [] for engine in runs}
        end = time.perf_counter() + _SECONDS
        while len(times[TORCH]) < _ROUNDS or (
            time.perf_counter() < end and not _is_clear([min(found) for found in times.values()])
        ):
            for engine, run in runs.items():
                start = clock()
                run()
                times[engine].append(1e3 * (clock() - start))
            if sum(map(sum, times.values())) > 3e3 * _SECONDS:  # a slow layer: no more rounds
                break
    # The best of a few: whatever else runs on the machine only makes it slower.
    return {engine: min(found, default=math.inf) for engine, found in times.items()}


def _is_clear(ms: list[float]) -> bool:
    fastest, *others = sorted(ms)
    return all(_CLEAR * fastest + _INTERRUPTION < other for other in others)


def _alone(
    step: Step, engine: Engine, threads: int, inputs: list[torch.Tensor]
) -> Callable[[], object]:
    """A step as a program of its own."""
    assert not isinstance(step, Aten)
    copies: dict[Value, Value] = {}

    def copied(value: Value) -> Value:
        return copies.setdefault(value, Value(value.name, value.shape, value.dtype))

    alone = step.map_values(copied)
    program = Program([alone], [copied(value) for value in step.reads], [alone.y])
    return Plan(program, lambda _: engine, threads).repeatable(inputs)
