"""One timer for every benchmark: competitors interleaved, round by round, medians and spread."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

Run = Callable[[], object]

ROUNDS = 15
_LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """How long one call took, in milliseconds.

    Args:
        median: Over the rounds.
        low: The first quartile.
        high: The third quartile.
        rounds: How many rounds.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median."""
        return (self.high - self.low) / self.median


def time_interleaved(
    competitors: Mapping[str, Sequence[Run]],
    *,
    seconds: float = 0.2,
    device: str = "cpu",
) -> dict[str, Timing]:
    """Time competitors in turn, round by round, so that a busy machine slows all of them alike.

    In each round every competitor runs as many calls in a row as fit its share of time, at least
    one; the round counts with their mean. What takes long takes part in fewer rounds, evenly
    spread. Wall time; device events on CUDA.

    Args:
        competitors: The calls of each, taken in turn: several calls on tensors of their own keep a
            device's cache from serving them. They have run before: nothing is warmed up here but
            for one call.
        seconds: How long to time each, about.
        device: "cpu" or "cuda".

    Returns:
        The timing of each.

    Examples:
        >>> timings = time_interleaved({"sum": [lambda: sum(range(9))]}, seconds=0.1)
        >>> timings["sum"].rounds, timings["sum"].low <= timings["sum"].median
        (15, True)
    """
    measure = _cuda_seconds if device.startswith("cuda") else _wall_seconds
    times: dict[str, list[float]] = {name: [] for name in competitors}
    with _without_garbage_collection():
        estimates = {name: measure(runs, 1) for name, runs in competitors.items()}
        shares = {name: _rounds(estimate, seconds) for name, estimate in estimates.items()}
        calls = {
            name: max(1, round(seconds / ROUNDS / max(estimate, 1e-9)))
            for name, estimate in estimates.items()
        }
        order = list(competitors)
        for i in range(ROUNDS):
            for name in order if i % 2 == 0 else reversed(order):
                # As many of the rounds as its share, evenly spread.
                if (i + 1) * shares[name] // ROUNDS > i * shares[name] // ROUNDS:
                    times[name].append(measure(competitors[name], calls[name]))
    return {name: _timing(values) for name, values in times.items()}


def _rounds(estimate: float, seconds: float) -> int:
    return min(ROUNDS, max(_LEAST_ROUNDS, int(seconds / max(estimate, 1e-9))))


def _timing(seconds: Sequence[float]) -> Timing:
    low, median, high = 1e3 * np.quantile(np.array(seconds), [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(seconds))


def _wall_seconds(runs: Sequence[Run], calls: int) -> float:
    start = time.perf_counter()
    for i in range(calls):
        runs[i % len(runs)]()
    return (time.perf_counter() - start) / calls


def _cuda_seconds(runs: Sequence[Run], calls: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for i in range(calls):
        runs[i % len(runs)]()
    stop.record()
    stop.synchronize()
    milliseconds: float = start.elapsed_time(stop)
    return milliseconds / 1e3 / calls


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Give torch, and every other library with a pool of threads, so many of them.

    Args:
        threads: How many.

    Yields:
        Nothing; the former numbers come back at the end.

    Examples:
        >>> with threads_set(1):
        ...     torch.get_num_threads()
        1
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
