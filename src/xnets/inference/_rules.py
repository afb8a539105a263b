"""The register of rules: which operation of torch becomes which step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from xnets.inference._ir import Pointwise, Slice, Step, Value, View
from xnets.inference._weights import FLOATS
from xnets.nn import ExpanderLayer

Rule = Callable[..., Any]
_R = TypeVar("_R", bound=Rule)
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[_R], _R]:
    """Register a rule: it takes the `Lowering` and the operation's arguments.

    It returns what the operation does, a value or a tuple of values, or NotImplemented: then the
    operation runs in torch as it is. The rule of an operation serves its in-place version.

    Args:
        names: Of operations of ATen.

    Returns:
        A decorator.
    """

    def register(function: _R) -> _R:
        for name in names:
            RULES[name] = function
        return function

    return register


class Lowering:
    """What rules know and make.

    Attributes:
        layers: The expander layers by name.
        steps: Made so far.
        where: The module that runs.
        out: The (first) value that the operation is to make.
        outs: What it returns, as torch.export describes it.
    """

    out: Value
    outs: Any

    def __init__(self, layers: dict[str, ExpanderLayer]) -> None:
        self.layers = layers
        self.steps: list[Step] = []
        self.where = ""
        self._makers: dict[Value, Step] = {}
        self._seen = 0

    def add(self, step: Step) -> Value:
        """Append a step; its value."""
        self.steps.append(step)
        return step.y

    def maker(self, value: Value) -> Step | None:
        """The step that makes a value."""
        for step in self.steps[self._seen :]:
            self._makers.update((made, step) for made in step.makes)
        self._seen = len(self.steps)
        return self._makers.get(value)

    def view(self, x: Value, y: Value | None = None) -> Value:
        """Append a view of x in the shape of y."""
        return self.add(View(name=self.where, x=x, y=y or self.out))

    def slice(self, x: Value, start: int, length: Any) -> Value:
        """Append a selection of neighbouring entries of dimension 1."""
        y = Value(f"{x.name}[{start}]", (x.shape[0], length, *x.shape[2:]), x.dtype)
        return self.add(Slice(name=self.where, x=x, start=start, y=y))

    def pointwise(self, x: Value, **arguments: Any) -> Value:
        """Append a pointwise operation."""
        return self.add(Pointwise(name=self.where, x=x, y=self.out, **arguments))


def is_fp32(value: Any) -> bool:
    """Whether it is a computed tensor that steps of our own can take."""
    return isinstance(value, Value) and value.dtype == torch.float32 and len(value.shape) >= 2


def per_channel(constant: Any, value: Value) -> Tensor | None:
    """A constant as one number a channel (dimension 1) of a value, or None if it is not."""
    channels = value.shape[1]
    if isinstance(constant, (int, float)) and not isinstance(constant, bool):
        return torch.full((channels,), float(constant), **FLOATS)
    if not isinstance(constant, Tensor) or constant.dtype != torch.float32:
        return None
    if constant.numel() == 1 and constant.dim() <= len(value.shape):
        return constant.reshape(1).expand(channels).contiguous()
    rank = len(value.shape)
    if constant.dim() > rank:
        return None
    shape = (1,) * (rank - constant.dim()) + tuple(constant.shape)
    if shape != (1, channels) + (1,) * (rank - 2):
        return None
    return constant.reshape(channels).contiguous()
