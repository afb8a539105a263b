"""Calls of optimised models that are not as their examples were: what the errors say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xnets
from xnets.inference import OptimizedModel


class Scaled(nn.Module):
    def forward(
        self, x: Tensor, options: dict[str, Tensor], factor: float, mask: Tensor | None = None
    ) -> Tensor:
        y = x * factor + options["bias"]
        return y if mask is None else y * mask


X = torch.ones(2, 3)
OPTIONS = {"bias": X}


@pytest.fixture(scope="module")
def fast() -> OptimizedModel:
    return xnets.optimize(Scaled().eval(), (X, OPTIONS, 2.0, None), engines="torch")


TENSOR = "must be a torch.Tensor as in the example, got"
CALLS: dict[str, tuple[tuple[Any, ...], str]] = {
    "none": ((None, OPTIONS, 2.0, None), rf"`x` {TENSOR} None"),
    "float": ((1.5, OPTIONS, 2.0, None), rf"`x` \(=1.5\) {TENSOR} float: pass torch.as_tensor"),
    "string": (("a", OPTIONS, 2.0, None), rf"`x` \(='a'\) {TENSOR} str$"),
    "numpy": ((X.numpy(), OPTIONS, 2.0, None), rf"`x` {TENSOR} ndarray: pass torch.as_tensor"),
    "nested": ((X, {"bias": 1}, 2.0, None), rf"`options\['bias'\]` \(=1\) {TENSOR} int: pass"),
    "mutable constant": (
        (X, OPTIONS, X.numpy(), None),
        r"`factor` must be a tensor or a constant, got ndarray: pass torch.as_tensor",
    ),
    "few": (
        (X, OPTIONS),
        r"got 2 arguments, must be 4 as in the example, \(x, options, factor, mask\): pass those",
    ),
    "many": ((X, OPTIONS, 2.0, None, X), r"got 5 arguments, must be 4 as in the example"),
    "other keys": (
        (X, {"b": X}, 2.0, None),
        r"`options` is \{'b': Tensor\}, must be \{'bias': Tensor\} as in the example: pass that",
    ),
    "in a list": (([X], OPTIONS, 2.0, None), r"`x` is \[Tensor\], must be Tensor as in"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_unlike_the_example(fast: OptimizedModel, name: str) -> None:
    arguments, message = CALLS[name]
    for call in (fast, fast.profile, fast.report_for):
        with pytest.raises(TypeError, match=message):
            call(*arguments)


def test_arguments_go_by_position(fast: OptimizedModel) -> None:
    with pytest.raises(TypeError, match=r"`mask` must be given by position: call .* \(x, options"):
        fast(X, OPTIONS, 2.0, mask=None)
    with pytest.raises(TypeError, match="`maks` is no argument of the example: call an optimised"):
        fast(X, OPTIONS, 2.0, None, maks=None)


def test_a_tensor_in_the_place_of_a_constant(fast: OptimizedModel) -> None:
    assert torch.equal(fast(X, OPTIONS, 2.0, 2 * X), 6 * X)
    assert torch.equal(fast(X, OPTIONS, 2.0, None), 3 * X)


@pytest.mark.parametrize("example", [None, 1.5, X.numpy(), (None, 2)], ids=str)
def test_examples_without_tensors(example: object) -> None:
    with pytest.raises(TypeError, match=r"`example_input` .*must be a torch.Tensor, or a tuple of"):
        xnets.optimize(nn.ReLU().eval(), example, check=False)


def test_arguments_without_names() -> None:
    """Those that `*arguments` of a model's forward takes."""

    class Sum(nn.Module):
        def forward(self, x: Tensor, *others: Tensor) -> Tensor:
            return x + sum(others)

    fast = xnets.optimize(Sum().eval(), (X, X), engines="torch")
    with pytest.raises(TypeError, match=r"`arguments\[1\]` must be a torch.Tensor"):
        fast(X, None)
