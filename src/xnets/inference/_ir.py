"""The steps that an optimised model consists of: what each computes, on which values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from xnets.inference._weights import Weights

Dim = Any  # an int, or a sympy expression of the symbols that torch.export gave
_S = TypeVar("_S", bound="Step")
# Compositions of operations, any of which might return a view; these do not.
_FRESH = (
    *("layer_norm", "group_norm", "instance_norm", "rms_norm", "batch_norm"),
    *("linear", "matmul", "conv1d", "conv2d", "conv3d", "bilinear"),
    *("scaled_dot_product_attention", "softmax", "log_softmax", "embedding", "cosine_similarity"),
)


@dataclass(eq=False, slots=True)
class Value:
    """A tensor that a step makes, or that comes in.

    Args:
        name: For people.
        shape: One size a dimension.
        dtype: Of its elements.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: torch.dtype = torch.float32

    @property
    def per_image(self) -> int:
        """Elements of one sample; the sizes must be numbers."""
        size = 1
        for dim in self.shape[1:]:
            size *= dim
        return size


@dataclass(frozen=True)
class Act:
    """An activation function.

    Args:
        kind: "none", "clamp" (ReLU is 0 to inf), "silu", "hardswish", "sigmoid", "hardsigmoid",
            "gelu", "tanh" or "leaky".
        low: The lower limit of "clamp"; the slope of "leaky".
        high: The upper limit of "clamp".
    """

    kind: str = "none"
    low: float = 0.0
    high: float = float("inf")

    def __str__(self) -> str:
        """Its name, as in torch.nn."""
        if self.kind == "clamp":
            if self.low == 0:
                return "ReLU" if self.high == float("inf") else f"ReLU{self.high:g}"
            return f"clamp({self.low:g}, {self.high:g})"
        return {"silu": "SiLU", "gelu": "GELU"}.get(self.kind, self.kind)


NO_ACT = Act()


@dataclass(frozen=True, eq=False)
class Affine:
    """What a convolution does to the pixels of its input first: act(x * scale + shift).

    Args:
        scale: One number a channel.
        shift: One number a channel.
        act: Applied last.
    """

    scale: Tensor
    shift: Tensor
    act: Act


@dataclass(eq=False, kw_only=True)
class Step:
    """One operation.

    Args:
        name: The module of the model that it comes from.
        y: What it makes.
        fused: What else it does that was an operation of its own, in words.
    """

    name: str
    y: Value
    fused: tuple[str, ...] = ()

    @property
    def reads(self) -> list[Value]:
        """The values it reads."""
        found = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "y" and isinstance(value, Value):
                found.append(value)
        return found

    @property
    def makes(self) -> list[Value]:
        """The values it makes."""
        return [self.y]

    def map_values(self: _S, change: Callable[[Value], Value]) -> _S:
        """The same step on other values."""
        changed: dict[str, Any] = {
            f.name: change(getattr(self, f.name))
            for f in fields(self)
            if isinstance(getattr(self, f.name), Value)
        }
        return replace(self, **changed)

    def label(self) -> str:
        """What it is, in a word or two."""
        return type(self).__name__


@dataclass(eq=False, kw_only=True)
class Conv(Step):
    """y = act(conv(prologue(x)) + bias + residual), with zeros around the prologue's result.

    `before` is a depthwise convolution of x that comes first, whose result lies nowhere; its own
    values mean nothing.
    """

    x: Value
    weights: Weights
    bias: Tensor | None = None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    act: Act = NO_ACT
    residual: Value | None = None
    prologue: Affine | None = None
    before: Conv | None = None

    def label(self) -> str:
        """What it is, in a word or two."""
        kernel = "x".join(map(str, self.weights.kernel))
        return f"{self.weights.kind} conv {kernel}"


@dataclass(eq=False, kw_only=True)
class Linear(Step):
    """y = act(x @ weight.T + bias + residual) over the last dimension."""

    x: Value
    weights: Weights
    bias: Tensor | None = None
    act: Act = NO_ACT
    residual: Value | None = None

    def label(self) -> str:
        """What it is, in a word or two."""
        return f"{self.weights.kind} linear"


@dataclass(eq=False, kw_only=True)
class Pool(Step):
    """The largest or the mean of every window; the size of y says whether windows may stick out."""

    x: Value
    mode: str  # "max" or "avg"
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    exclude_padding: bool = False
    ceil: bool = False

    def label(self) -> str:
        """What it is, in a word or two."""
        return f"{self.mode} pool"


@dataclass(eq=False, kw_only=True)
class Pointwise(Step):
    """y = act(x * scale + shift + residual), with one scale and shift a channel."""

    x: Value
    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Value | None = None
    act: Act = NO_ACT

    def label(self) -> str:
        """What it is, in a word or two."""
        affine = "" if self.scale is None and self.shift is None else "affine"
        add = "" if self.residual is None else "add"
        act = "" if self.act is NO_ACT else str(self.act)
        return " ".join(word for word in (affine, add, act) if word) or "copy"


@dataclass(eq=False, kw_only=True)
class ScaleBy(Step):
    """y = x * by, where `by` has one number a sample and channel."""

    x: Value
    by: Value


@dataclass(eq=False, kw_only=True)
class Copy(Step):
    """Channel c of y is channel index[c] of x; the identity if there is no index."""

    x: Value
    index: Tensor | None = None

    def label(self) -> str:
        """What it is, in a word or two."""
        return "copy" if self.index is None else "shuffle"


@dataclass(eq=False, kw_only=True)
class Concat(Step):
    """The values one after the other along dimension 1."""

    xs: tuple[Value, ...]

    @property
    def reads(self) -> list[Value]:
        """The values it reads."""
        return list(self.xs)

    def map_values(self, change: Callable[[Value], Value]) -> Concat:
        """The same step on other values."""
        return replace(self, y=change(self.y), xs=tuple(change(x) for x in self.xs))


@dataclass(eq=False, kw_only=True)
class View(Step):
    """The same numbers in the same order in another shape."""

    x: Value


@dataclass(eq=False, kw_only=True)
class Slice(Step):
    """Some neighbouring entries of dimension 1, from `start` on."""

    x: Value
    start: int


@dataclass(eq=False, kw_only=True)
class Aten(Step):
    """Any other operation of torch.

    Args:
        func: The operation.
        args: Its arguments, with values, sizes and constants among them.
        kwargs: Likewise.
        ys: All that it makes; `y` is the first.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    ys: tuple[Value, ...]

    @property
    def reads(self) -> list[Value]:
        """The values it reads."""
        found: list[Value] = []
        map_leaves(found.append, (self.args, self.kwargs), Value)
        return found

    @property
    def makes(self) -> list[Value]:
        """The values it makes."""
        return list(self.ys)

    @property
    def may_alias(self) -> bool:
        """Whether what it makes may share memory with what it reads."""
        func = self.func
        if any(result.alias_info is not None for result in func._schema.returns):
            return True
        name = str(func._schema.name).removeprefix("aten::")
        composite = torch._C.DispatchKey.CompositeImplicitAutograd
        return name not in _FRESH and bool(func.has_kernel_for_dispatch_key(composite))

    def map_values(self, change: Callable[[Value], Value]) -> Aten:
        """The same step on other values."""
        args, kwargs = map_leaves(change, (self.args, self.kwargs), Value)
        ys = tuple(change(y) for y in self.ys)
        return replace(self, y=ys[0], ys=ys, args=args, kwargs=kwargs)

    def label(self) -> str:
        """What it is, in a word or two."""
        return str(self.func._schema.name).removeprefix("aten::")


def weights_of(step: Step) -> list[Weights]:
    """The weights of a step; of a convolution with another before it, of both."""
    if not isinstance(step, (Conv, Linear)):
        return []
    before = step.before if isinstance(step, Conv) else None
    return [step.weights, *([] if before is None else weights_of(before))]


def map_leaves(change: Callable[[Any], Any], tree: Any, kind: type | tuple[type, ...]) -> Any:
    """Put `change(leaf)` in the place of every leaf of `kind` in nested lists, tuples and dicts."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_leaves(change, item, kind) for item in tree)
    if isinstance(tree, dict):
        return {key: map_leaves(change, item, kind) for key, item in tree.items()}
    return tree
