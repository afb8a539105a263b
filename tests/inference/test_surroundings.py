"""Optimised models where torch's defaults, modes or inputs are not the usual ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import xnets
from xnets.inference import OptimizedModel, _native, _optimize, _plans
from xnets.nn import ExpanderConv2d

ENGINES = "ours" if _native.has_library() else "torch"


class Mixed(nn.Module):
    """Steps of the library, and one that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ExpanderConv2d(8, 8, 3, compression=2, padding=1, seed=0)
        self.second = ExpanderConv2d(8, 8, 1, compression=2, seed=1)
        self.mix = nn.Parameter(torch.randn(36, 36) / 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second(torch.matmul(y.flatten(2), self.mix).view(y.shape))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 8, 6, 6)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().eval()


@pytest.fixture(scope="module")
def fast(model: nn.Module, images: Tensor) -> OptimizedModel:
    return xnets.optimize(model, images, engines=ENGINES)


@pytest.fixture(params=[torch.float64, torch.bfloat16], ids=str)
def default_dtype(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("default_dtype")
def test_other_default_dtypes(fast: OptimizedModel, model: nn.Module, images: Tensor) -> None:
    """Memory is of float32, whatever torch makes by default."""
    for one in (fast, xnets.optimize(model, images, engines=ENGINES)):
        y = one(images)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, model(images))


def test_other_default_devices(fast: OptimizedModel, model: nn.Module, images: Tensor) -> None:
    expected = model(images)
    with torch.device("meta"):
        torch.testing.assert_close(fast(images), expected)
        torch.testing.assert_close(model(images), expected)


def test_autocast_changes_nothing(fast: OptimizedModel, model: nn.Module, images: Tensor) -> None:
    """What torch runs writes into memory of float32, too."""
    expected = fast(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(images), expected)
        made = xnets.optimize(model, images, engines=ENGINES)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(made(images), expected)


def test_autocast_is_off_in_profiles_and_reports(
    model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            seen.append(torch.is_autocast_enabled("cpu"))
            return function(*arguments)

        return run

    fast = xnets.optimize(model, images, engines=ENGINES)
    monkeypatch.setattr(_optimize, "make_planned", noting(_optimize.make_planned))
    monkeypatch.setattr(_plans.Planned, "time", noting(_plans.Planned.time))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast.profile(images, rounds=1)
        fast.report_for(images[:1])
    assert seen == [False, False]


def test_negated_views(fast: OptimizedModel, images: Tensor) -> None:
    """The bit says that the numbers are to be read with the other sign."""
    torch.testing.assert_close(fast(torch._neg_view(images)), fast(-images))


OTHERS = {
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "bfloat16": lambda x: x.bfloat16(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_refuses_other_tensors_of_a_known_size(
    fast: OptimizedModel, images: Tensor, name: str
) -> None:
    fast(images)
    with pytest.raises(ValueError, match=r"`x` is .*, must be .*: call `\."):
        fast(OTHERS[name](images))


def under_fake_tensors(fast: Any, x: Tensor) -> object:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return fast(mode.from_tensor(x))


WATCHED: dict[str, Callable[[Any, Tensor], object]] = {
    "jit": torch.jit.trace,
    "make_fx": lambda fast, x: make_fx(fast)(x),
    "export": lambda fast, x: torch.export.export(fast, (x,), strict=False),
    "vmap": lambda fast, x: torch.func.vmap(fast)(x[None]),
    "jvp": lambda fast, x: torch.func.jvp(fast, (x,), (x,)),
    "fake": under_fake_tensors,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", WATCHED)
def test_refuses_to_be_recorded(fast: OptimizedModel, images: Tensor, name: str) -> None:
    """What is recorded would be numbers of one run, or none at all."""
    with pytest.raises(RuntimeError, match="the model that it was made from"):
        WATCHED[name](fast, images)


def test_sizes_without_end_keep_few_plans(
    model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_optimize, "_MOST_PLANS", 3)
    fast = xnets.optimize(model, images, engines=ENGINES)
    for batch in (3, 4, 5, 6, 2, 3):
        x = torch.randn(batch, 8, 6, 6)
        torch.testing.assert_close(fast(x), model(x))
        assert len(fast._plans) <= 3


def test_what_was_not_used_for_longest_is_let_go(
    model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_optimize, "_MOST_PLANS", 2)
    fast = xnets.optimize(model, images, engines=ENGINES)
    first = next(iter(fast._plans.values()))
    for batch in (3, 4, 5):  # the first stays, as it is used in between
        fast(torch.randn(batch, 8, 6, 6))
        fast(images)
        assert first in fast._plans.values()
    assert len(fast._plans) == 2


def test_a_trace_stays_as_long_as_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optimize, "_MOST_PLANS", 1)
    model = nn.Sequential(ExpanderConv2d(8, 8, 3, compression=2), nn.ReLU()).eval()
    fast = xnets.optimize(model, torch.randn(2, 8, 6, 6), engines=ENGINES)
    fast(torch.randn(2, 8, 7, 7))
    (planned,) = fast._plans.values()
    assert planned.trace in fast._traces


def test_image_sizes_without_end_keep_few_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has weights of its own; the first, which serves any batch, stays."""
    monkeypatch.setattr(_optimize, "_MOST_PLANS", 2)
    model = nn.Sequential(ExpanderConv2d(8, 8, 3, compression=2), nn.ReLU()).eval()
    fast = xnets.optimize(model, torch.randn(2, 8, 6, 6), engines=ENGINES)
    for side in (7, 8, 9, 10, 6, 7):
        x = torch.randn(2, 8, side, side)
        torch.testing.assert_close(fast(x), model(x))
        assert len(fast._traces) <= 3
