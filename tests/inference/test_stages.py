"""Batches that go through a network in stages, each with as many samples at a time as suit it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import xnets
from tests.inference.conftest import difference, randomized
from xnets.inference import _native, _planned, _plans
from xnets.inference._stages import cut, fewest_milliseconds, narrow_places

NEEDS_LIBRARY = pytest.mark.skipif(not _native.has_library(), reason="no compiled library")


class Residual(nn.Module):
    """Two layers around which their input goes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = xnets.nn.ExpanderConv2d(width, width, 1, compression=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def network() -> nn.Sequential:
    return randomized(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            Residual(8),
            nn.MaxPool2d(2),
            Residual(8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    )


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def last(runs: Sequence[Callable[[], object]], threads: int) -> int:
    for run in runs:
        run()
    return len(runs) - 1


@NEEDS_LIBRARY
@pytest.mark.parametrize("numbers", [[1, 4], [1, 1, 1, 4], [1, 4, 8], [4, 8], [8]], ids=str)
def test_every_way_through_a_network(
    numbers: list[int], monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    def asked_for(costs: Sequence[dict[int, float]], enter: float) -> list[int]:
        assert [sorted(part) for part in costs] == [[1, 4, 8]] * len(costs)
        assert len(costs) >= len(numbers)
        return numbers + numbers[-1:] * (len(costs) - len(numbers))

    monkeypatch.setattr(_plans, "_fastest", last)
    monkeypatch.setattr(_plans, "fewest_milliseconds", asked_for)
    model, x = network(), torch.randn(16, 3, 8, 8)
    fast = xnets.optimize(model, x)
    found = [step.samples for step in fast.report.steps]
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(numbers))
    assert found == sorted(found)
    assert (fast.report.pieces, fast.report.at_once) == (16 // numbers[0], 2)
    many = numbers[-1]
    assert (f"{many} samples at a time" in fast.report.summary()) == (numbers[0] != many)
    assert [step.name for step in fast.profile(x)] == [step.name for step in fast.report.steps]
    for _ in range(3):
        x = torch.randn(16, 3, 8, 8)
        with torch.no_grad():
            assert difference(fast(x), model(x)) < 1e-5
        with torch.inference_mode():
            y = fast(x)
            assert difference(y, model(x)) < 1e-5
    kept = y.clone()
    fast(torch.randn(16, 3, 8, 8))
    assert torch.equal(y, kept)  # what was returned is the caller's


@NEEDS_LIBRARY
@pytest.mark.parametrize(
    ("batch", "numbers"), [(2, [1]), (3, [1]), (5, [1]), (6, [1, 3]), (7, [1])]
)
def test_all_threads_have_whole_pieces(
    batch: int, numbers: list[int], monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    """Numbers of samples divide what each thread has."""
    found: list[list[int]] = []

    def largest(costs: Sequence[dict[int, float]], enter: float) -> list[int]:
        found.append(sorted(costs[0]))
        return [max(part) for part in costs]

    monkeypatch.setattr(_plans, "_fastest", last)
    monkeypatch.setattr(_plans, "fewest_milliseconds", largest)
    model, x = network(), torch.randn(batch, 3, 8, 8)
    fast = xnets.optimize(model, x)
    assert found == ([numbers] if len(numbers) > 1 else [])
    with torch.no_grad():
        assert difference(fast(x), model(x)) < 1e-5


def test_programs_are_cut_where_one_value_goes_on(two_threads: None) -> None:
    """And their parts, one after the other, compute what the whole does."""
    model, x = network(), torch.randn(2, 3, 8, 8)
    fast = xnets.optimize(model, x, engines="torch")
    program = fast._traces[0].program.bind({fast._traces[0].any_batch: 2})
    places = narrow_places(program)
    assert len(places) >= 4
    inside = {s.name for s in program if s.name.endswith(("first", "second"))}
    ends = [program.steps[place - 1].name for place in places]
    assert not any(name.endswith("first") for name in ends)  # its input is needed, too
    assert len(inside) == 4
    for chosen in itertools.chain([places], ([place] for place in places)):
        values = [x]
        for part in cut(program, chosen):
            plan = _plans._plan(part, {}, _plans.TORCH, 1)
            values = plan.run(values)
        with torch.no_grad():
            assert difference(values[0], model(x)) < 1e-5


@given(
    st.lists(
        st.fixed_dictionaries({1: st.floats(0.1, 9), 4: st.floats(0.1, 9), 8: st.floats(0.1, 9)}),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0.0, 0.5, 3.0]),
)
def test_numbers_of_samples_are_the_best_of_all(
    costs: list[dict[int, float]], enter: float
) -> None:
    def total(numbers: Sequence[int]) -> float:
        calls = [n for n, _ in itertools.groupby(numbers)]
        parts = sum(part[n] / n for part, n in zip(costs, numbers, strict=True))
        return parts + sum(enter / n for n in calls)

    ways = itertools.combinations_with_replacement((1, 4, 8), len(costs))  # none falls
    assert total(fewest_milliseconds(costs, enter)) == pytest.approx(min(map(total, ways)))


class Functional(nn.Module):
    """Two layers of one module, which have one name; the input goes out, too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (
            nn.Parameter(torch.randn(4, 3, 3, 3)),
            nn.Parameter(torch.randn(16, 4, 3, 3)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.relu(nn.functional.conv2d(x, self.a, padding=1))
        return x, x[:, :2], nn.functional.conv2d(y, self.b, padding=1)


@NEEDS_LIBRARY
def test_layers_of_one_name_and_inputs_that_go_out(
    monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    monkeypatch.setattr(_plans, "_fastest", last)
    model, x = Functional().eval(), torch.randn(8, 3, 8, 8)
    fast = xnets.optimize(model, x)
    assert fast.report.at_once == 2
    for _ in range(5):
        outputs = fast(x.requires_grad_())
        assert not any(output.requires_grad for output in outputs)
        with torch.no_grad():
            assert difference(outputs, model(x)) < 1e-5


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return self.layer(x) * scale


def test_a_number_beside_a_batch(two_threads: None) -> None:
    model, x = Scaled().eval(), torch.randn(8, 3, 8, 8)
    fast = xnets.optimize(model, (x, torch.tensor(2.0)))
    with torch.no_grad():
        assert difference(fast(x, torch.tensor(3.0)), model(x, torch.tensor(3.0))) < 1e-5


@NEEDS_LIBRARY
def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    def refused(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_plans, "_fastest", last)
    model, x = network(), torch.randn(8, 3, 8, 8)
    fast = xnets.optimize(model, x)
    assert fast.report.at_once == 2
    monkeypatch.setattr(_planned.Thread, "start", refused)
    with torch.no_grad():
        assert difference(fast(x), model(x)) < 1e-5


@NEEDS_LIBRARY
def test_the_report_counts_all_activations(
    monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    monkeypatch.setattr(_plans, "_fastest", last)
    monkeypatch.setattr(
        _plans, "fewest_milliseconds", lambda costs, _: [1] + [4] * (len(costs) - 1)
    )
    fast = xnets.optimize(network(), torch.randn(16, 3, 8, 8))
    (planned,) = fast._plans.values()
    first, second = (stage.plan for stage in planned.stages)
    between = 16 * 8 * 8 * 8  # what the first layer makes
    arenas = 2 * (first.memory.arena + second.memory.arena)
    assert fast.report.arena_bytes == 4 * (arenas + between)
