"""xnets.optimize from end to end: equal to the model, on every engine, from several threads."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import xnets
from tests.inference.conftest import difference, randomized
from tests.inference.emulated import Emulated
from tests.inference.nets import LARGER, NETS, Lambda, bound, conv, dense_block, lowered, normed
from xnets.inference import _choose, _execute, _native, _optimize, _planned, _plans
from xnets.inference._execute import TORCH, Engine, Plan
from xnets.inference._fuse import simplify
from xnets.inference._ir import Conv, Linear, Step
from xnets.inference._native import why_not_native

HAS_LIBRARY = _native.has_library()
NEEDS_LIBRARY = pytest.mark.skipif(not HAS_LIBRARY, reason="no compiled library")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulated]:
    """The compiled library, emulated and watched."""
    emulation = Emulated()
    for user in (_execute, _native):
        monkeypatch.setattr(user, "library", lambda: emulation)
    for module in (_choose, _optimize, _plans):
        monkeypatch.setattr(module, "has_library", lambda: True)
    if not HAS_LIBRARY:
        monkeypatch.setattr(_native, "turns", lambda graph, op: None)
    yield emulation
    _choose.forget()  # such measurements are of the emulation


def run_plan(name: str, batch: int, engine: Engine) -> None:
    """The planned program of a network, twice, beside the network."""
    model, program = lowered(name)
    program = bound(simplify(program), batch)

    def engine_of(step: Step) -> Engine:
        if why_not_native(step):
            return TORCH
        choices = [e for e in _choose.candidates(step) if e.name == engine.name]
        return choices[0] if isinstance(step, (Conv, Linear)) else engine

    plan = Plan(program, engine_of, torch.get_num_threads())
    x = torch.randn(batch, 8, 7, 6)
    before = x.clone()
    with torch.no_grad():
        expected = tree_leaves(model(x.clone()))
        for _ in range(2):  # in memory that is new, and in memory that was used before
            assert difference(plan.run([x]), expected) < 1e-5
    assert torch.equal(x, before)


@pytest.mark.parametrize("batch", [2, 1])
@pytest.mark.parametrize("name", [*NETS, *LARGER])
def test_every_access_of_the_plan(name: str, batch: int, emulated: Emulated) -> None:
    run_plan(name, batch, Engine("ours"))
    assert emulated.calls


@NEEDS_LIBRARY
@pytest.mark.parametrize("batch", [2, 1])
@pytest.mark.parametrize("name", [*NETS, *LARGER])
def test_compiled(name: str, batch: int) -> None:
    run_plan(name, batch, Engine("ours"))


@pytest.mark.parametrize("name", [*NETS, *LARGER])
def test_torch_alone(name: str) -> None:
    run_plan(name, 2, TORCH)


@pytest.mark.parametrize("name", ["dense block", "attention", "several"])
def test_any_batch_by_one_trace(name: str) -> None:
    model = randomized(LARGER[name]())
    fast = xnets.optimize(model, torch.randn(1, 8, 7, 6))
    for batch in (3, 1):
        x = torch.randn(batch, 8, 7, 6)
        with torch.no_grad():
            assert difference(fast(x), model(x)) < 1e-5
    assert len(fast._traces) == 1


def test_dense_blocks_are_written_in_place(emulated: Emulated) -> None:
    fast = xnets.optimize(randomized(dense_block()), torch.randn(2, 8, 7, 6), engines="ours")
    assert fast.report.written_in_place == 9
    assert not [step for step in fast.report.steps if step.kind == "copy"]
    assert fast.report.calls == 1
    assert emulated.calls[-1] == 4


def test_memory_is_used_again(emulated: Emulated) -> None:
    layers = [normed(conv()) for _ in range(6)]
    fast = xnets.optimize(
        randomized(nn.Sequential(*layers)), torch.randn(1, 8, 8, 8), engines="ours"
    )
    assert fast.report.arena_bytes == 2 * 4 * 8 * 64
    assert fast.report.unshared_bytes == 5 * 4 * 8 * 64


def test_sums_overwrite_what_is_added(emulated: Emulated) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.d(y + m.c(m.b(y)))

    model = Lambda(forward, a=conv(), b=conv(), c=conv(), d=conv()).eval()
    fast = xnets.optimize(model, torch.randn(1, 8, 8, 8), engines="ours")
    assert fast.report.arena_bytes == 2 * 4 * 8 * 64  # y, b(y): the sum lies where y lay


def test_what_is_read_twice_is_not_overwritten(emulated: Emulated) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.c(y + m.b(y))  # y is the input of b, too

    model = Lambda(forward, a=conv(), b=conv(), c=conv()).eval()
    x = torch.randn(1, 8, 8, 8)
    fast = xnets.optimize(model, x, engines="ours")
    with torch.no_grad():
        assert difference(fast(x), model(x)) < 1e-5


# --- what a user sees ----------------------------------------------------------------------------


def small() -> nn.Module:
    return randomized(
        nn.Sequential(normed(conv()), normed(conv()), nn.Flatten(), nn.Linear(200, 3))
    )


def test_threads_share_a_model() -> None:
    model = small()
    inputs = [torch.randn(1 + i % 3, 8, 5, 5) for i in range(24)]
    fast = xnets.optimize(model, inputs[0])
    with ThreadPoolExecutor(6) as pool, torch.no_grad():
        found = list(pool.map(fast, inputs * 4))
        for x, y in zip(inputs * 4, found, strict=True):
            assert difference(y, model(x)) < 1e-5


@NEEDS_LIBRARY
def test_samples_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread takes samples of its own where that was the fastest."""
    found: list[int] = []

    def last_is_fastest(runs: Sequence[Callable[[], object]], threads: int) -> int:
        for run in runs:
            run()
            found.append(threads)
        return len(runs) - 1

    monkeypatch.setattr(_plans, "_fastest", last_is_fastest)
    model, inputs = small(), [torch.randn(5, 8, 5, 5) for _ in range(8)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fast = xnets.optimize(model, inputs[0])
        assert found == [2, 2, 2]  # whole, in pieces, in pieces side by side
        assert (fast.report.pieces, fast.report.at_once, fast.report.threads) == (5, 2, 2)
        assert "5 pieces, 2 at once" in fast.report.summary()
        with ThreadPoolExecutor(3) as pool, torch.no_grad():
            for x, y in zip(inputs, pool.map(fast, inputs), strict=True):
                assert difference(y, model(x)) < 1e-5
        with torch.inference_mode():
            assert difference(fast(inputs[0]), model(inputs[0])) < 1e-5
        assert len(fast.profile(inputs[0])) == 3
    finally:
        torch.set_num_threads(threads)


def test_an_error_on_another_thread_is_the_callers() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("on a thread of its own")

    def succeed() -> None:
        done.append(1)

    with pytest.raises(ValueError, match="thread of its own"):
        _planned._side_by_side([succeed, fail, succeed])
    with pytest.raises(ValueError, match="thread of its own"):
        _planned._side_by_side([fail, succeed])
    assert done == [1, 1, 1]  # the others end before the caller goes on


def test_side_by_side_after_the_main_thread() -> None:
    """A server's threads outlive it; a pool of Python's takes nothing more then."""
    code = """
import threading, time
from xnets.inference._planned import _side_by_side
def serve():
    threading.main_thread().join()
    time.sleep(0.2)
    done = []
    _side_by_side([lambda: done.append(1), lambda: done.append(2)])
    print(sorted(done))
threading.Thread(target=serve).start()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert result.stdout.strip() == "[1, 2]", result.stderr


def test_outputs_are_the_callers() -> None:
    fast = xnets.optimize(small(), torch.randn(1, 8, 5, 5))
    x = torch.randn(1, 8, 5, 5)
    first = fast(x)
    kept = first.clone()
    fast(torch.randn(1, 8, 5, 5))
    assert torch.equal(first, kept)


def test_inference_mode_and_no_mode_mix() -> None:
    model, x = dense_block(), torch.randn(1, 8, 5, 5)
    with torch.inference_mode():
        fast = xnets.optimize(randomized(model), x)
        fast(x)
    y = fast(x)
    assert not y.requires_grad
    with torch.inference_mode():
        fast(x)


def test_other_shapes_are_traced_again() -> None:
    model = randomized(nn.Sequential(normed(conv()), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    fast = xnets.optimize(model, torch.randn(1, 8, 5, 5))
    x = torch.randn(2, 8, 9, 4)
    with torch.no_grad():
        assert difference(fast(x), model(x)) < 1e-5
    assert fast.report_for(x).inputs == ((2, 8, 9, 4),)
    assert fast.report.inputs == ((1, 8, 5, 5),)


def test_a_layout_of_the_input_is_no_matter() -> None:
    model = small()
    x = torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last)
    fast = xnets.optimize(model, x)
    with torch.no_grad():
        assert difference(fast(x), model(x)) < 1e-5


def test_empty_batches() -> None:
    fast = xnets.optimize(small(), torch.randn(2, 8, 5, 5))
    assert fast(torch.randn(0, 8, 5, 5)).shape == (0, 3)


def test_several_arguments() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, options: dict[str, Tensor], factor: float) -> Tensor:
            return x * factor + options["bias"]

    arguments = (torch.randn(2, 3), {"bias": torch.randn(2, 3)}, 2.0)
    fast = xnets.optimize(Two().eval(), arguments)
    assert difference(fast(*arguments), Two()(*arguments)) < 1e-6
    other = (*arguments[:2], 3.0)
    assert difference(fast(*other), Two()(*other)) < 1e-6


def test_constants_of_another_type_are_others() -> None:
    """1, 1.0 and True are equal, and make different programs."""
    model = Lambda(lambda m, x: x)
    model.forward = lambda x, factor: x * factor  # type: ignore[method-assign]
    x = torch.arange(6).view(2, 3)
    fast = xnets.optimize(model.eval(), (x, 2))
    assert fast(x, 2).dtype == torch.int64
    assert fast(x, 2.0).dtype == torch.float32
    assert fast(x, 2).dtype == torch.int64


def test_report_and_profile() -> None:
    fast = xnets.optimize(small(), torch.randn(1, 8, 5, 5))
    report = fast.report
    assert report.fused == {"BatchNorm": 2, "ReLU": 2}
    assert report.error < 1e-5
    assert [step.kind for step in report.steps] == ["dense conv 3x3"] * 2 + ["dense linear"]
    assert json.loads(json.dumps(report.to_dict()))["operations"] == report.operations == 7
    text = str(report)
    assert "0.0" in text
    assert "BatchNorm, ReLU" in text
    assert "7 operations became 3 steps" in text
    times = fast.profile(torch.randn(1, 8, 5, 5))
    assert [time.kind for time in times] == [step.kind for step in report.steps]
    assert all(time.ms > 0 for time in times)


def test_choices_are_measured_once() -> None:
    _choose.forget()
    model = small()
    first = xnets.optimize(model, torch.randn(1, 8, 5, 5)).report
    second = xnets.optimize(model, torch.randn(1, 8, 5, 5)).report
    assert first.steps == second.steps
    measured = [step for step in first.steps if step.ms]
    assert len(measured) == (3 if HAS_LIBRARY else 0)
    for step in measured:
        assert "torch" in step.ms
        assert step.engine in step.ms


@NEEDS_LIBRARY
@pytest.mark.parametrize("together", [True, False])
def test_a_depthwise_convolution_is_joined_where_that_is_faster(
    together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then the plan's choices are those of the steps that it has."""

    def measured(step: Step, threads: int) -> dict[Engine, float]:
        joined = isinstance(step, Conv) and step.before is not None
        return {Engine("ours"): (0.9 if together else 1.1) if joined else 0.5, TORCH: 9.0}

    monkeypatch.setattr(_choose, "_measured", measured)
    model, _ = lowered("separable expander")
    x = torch.randn(2, 8, 7, 6)
    fast = xnets.optimize(model, x)
    kinds = ["expander conv 1x1"] if together else ["depthwise conv 3x3", "expander conv 1x1"]
    assert [step.kind for step in fast.report.steps] == kinds
    assert all(step.engine == "ours" and step.ms for step in fast.report.steps)
    assert fast.report.fused["BatchNorm"] == (1 if together else 2)
    assert len(xnets.optimize(model, x, engines="ours").report.steps) == 1
    assert len(xnets.optimize(model, x, engines="torch").report.steps) == 2
    weights = sum(p.numel() * 4 for p in model.parameters() if p.dim() > 1)
    assert fast.report.weight_bytes > weights


@NEEDS_LIBRARY
def test_forced_engines_give_the_same_numbers_each_time() -> None:
    model, x = small(), torch.randn(2, 8, 5, 5)
    first = xnets.optimize(model, x, engines="ours")
    second = xnets.optimize(model, x, engines="ours")
    assert {step.engine.split(" ")[0] for step in first.report.steps} == {"ours"}
    assert first.report.calls == 1
    assert torch.equal(first(x), second(x))


# --- what it refuses -----------------------------------------------------------------------------


def test_training_is_refused() -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8))
    with pytest.raises(ValueError, match=r"`model` is in training mode: call `model.eval\(\)`"):
        xnets.optimize(model, torch.randn(1, 8, 5, 5))
    model.eval()[1].train()
    with pytest.raises(ValueError, match="its '1' is in training mode"):
        xnets.optimize(model, torch.randn(1, 8, 5, 5))
    fast = xnets.optimize(model.eval(), torch.randn(1, 8, 5, 5))
    assert fast.eval() is fast
    with pytest.raises(RuntimeError, match="train the model that it was made from"):
        fast.train()


def test_other_types_are_refused() -> None:
    x = torch.randn(1, 8, 5, 5)
    with pytest.raises(ValueError, match=r"'weight' is torch.float64.* call `model.float\(\)`"):
        xnets.optimize(conv().double().eval(), x.double())
    with pytest.raises(ValueError, match="'weight' is on meta, must be on the CPU"):
        xnets.optimize(conv().to("meta").eval(), x)
    with pytest.raises(ValueError, match=r"`input` is torch.float16.* call `.float\(\)`"):
        xnets.optimize(conv().eval(), x.half())
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module, got builtin_function"):
        xnets.optimize(torch.relu_, x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean 'torch'"):
        xnets.optimize(conv().eval(), x, engines="toch")
    fast = xnets.optimize(conv().eval(), x)
    assert fast.float() is fast
    with pytest.raises(RuntimeError, match="move the model that it was made from"):
        fast.double()


def test_decisions_by_values_are_refused() -> None:
    model = Lambda(lambda m, x: x * 2 if x.sum() > 0 else x).eval()
    with pytest.raises(ValueError, match="decides by values of tensors"):
        xnets.optimize(model, torch.ones(1, 2, 3, 3))


def test_randomness_is_noticed() -> None:
    model = Lambda(lambda m, x: nn.functional.dropout(x, 0.5, training=True)).eval()
    x = torch.ones(1, 8, 5, 5)
    with pytest.raises(ValueError, match="pass check=False"):
        xnets.optimize(model, x)
    fast = xnets.optimize(model, x, check=False)
    assert not torch.equal(fast(x), fast(x))


def test_it_is_not_saved_or_copied() -> None:
    fast = xnets.optimize(small(), torch.randn(1, 8, 5, 5))
    with pytest.raises(TypeError, match=r"and call xnets\.optimize where it runs"):
        pickle.dumps(fast)
    with pytest.raises(TypeError, match=r"and call xnets\.optimize where it runs"):
        copy.deepcopy(fast)
    assert not fast.state_dict()


def test_the_model_is_not_changed() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(1, 8, 5, 5)
    fast = xnets.optimize(model, x)
    y = fast(x)
    with torch.no_grad():
        model[0][0].weight.zero_()
    assert torch.equal(fast(x), y)
    model.load_state_dict(before)
    assert model(x).requires_grad
