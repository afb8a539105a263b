"""The timer and the meter of memory. No test asserts a time."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from xnets.bench import memory, timer
from xnets.bench.timer import ROUNDS, threads_set, time_interleaved


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until somebody moves it."""
    now = [0.0]
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def takes(seconds, log=None, name=""):
        def run():
            now[0] += seconds
            if log is not None:
                log.append(name)

        return run

    return takes


def test_medians_and_quartiles_are_those_of_the_rounds(monkeypatch):
    rounds = iter([0.004, *np.linspace(0.001, 0.015, ROUNDS)])  # the first is the estimate
    monkeypatch.setattr(timer, "_wall_seconds", lambda runs, calls: next(rounds))
    timing = time_interleaved({"one": [lambda: None]}, seconds=1)["one"]
    assert timing.rounds == ROUNDS
    assert (timing.low, timing.median, timing.high) == pytest.approx((4.5, 8, 11.5))
    assert timing.spread == pytest.approx(7 / 8)


def test_competitors_take_turns_and_share_the_time(clock):
    log: list[str] = []
    competitors = {"fast": [clock(0.001, log, "f")], "slow": [clock(0.02, log, "s")]}
    timings = time_interleaved(competitors, seconds=0.15)
    assert timings["fast"].median == pytest.approx(1)
    assert timings["slow"].median == pytest.approx(20)
    assert timings["fast"].rounds == ROUNDS
    # 7 rounds of 20 ms are what fits, and they lie among the others' rounds, not before them.
    assert timings["slow"].rounds == 7
    turns = "".join(log)[2:].replace("f" * 10, "F")
    assert turns.count("F") == ROUNDS
    assert "sss" not in turns
    assert "FFFF" not in turns


def test_what_is_too_slow_still_runs_three_times(clock):
    assert time_interleaved({"slow": [clock(5.0)]}, seconds=0.1)["slow"].rounds == 3


def test_several_calls_take_turns(clock):
    log: list[str] = []
    runs = [clock(0.001, log, "a"), clock(0.001, log, "b")]
    time_interleaved({"two": runs}, seconds=0.03)
    assert "".join(log).startswith("aabab")


def test_threads_are_set_and_given_back():
    before = torch.get_num_threads()
    with threads_set(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_what_was_held_at_once():
    # A process of its own: the heap of a long one may keep so much that nothing can be said.
    code = """
import torch
from xnets.bench.memory import peak_memory

size = 8 << 20

def run():
    a = torch.ones(size // 4)  # 8 MiB
    b = a + 1  # 8 MiB more
    del a
    return b * 2  # b and its double

print(peak_memory(run) / size, peak_memory(lambda: None) / size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    most, nothing = map(float, done.stdout.split())
    assert 1.9 < most < 3.2  # the freed 8 MiB may stay in the heap
    assert nothing < 1 / 8


def test_peak_memory_says_nothing_rather_than_too_little(monkeypatch):
    monkeypatch.setattr(memory, "_touch", lambda: None)  # as where the heap has room enough
    assert memory.peak_memory(lambda: torch.ones(1 << 20)) is None
