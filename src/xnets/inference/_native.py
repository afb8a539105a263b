"""Steps as the compiled library takes them: `xn_step` of xnets.h."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xnets.inference._ir import (
    NO_ACT,
    Act,
    Aten,
    Conv,
    Copy,
    Linear,
    Pointwise,
    Pool,
    ScaleBy,
    Step,
    Value,
)
from xnets.inference._weights import FLOATS, Weights
from xnets.ops._cpu_library import (
    FEWEST_TO_SHARE,
    FORWARD,
    ISA,
    LIBRARY,
    CConv,
    CGraph,
    triple,
    turns,
)
from xnets.ops._cpu_program import Act as CAct
from xnets.ops._cpu_program import CStep, CTensor, Kind

_LARGEST = float(torch.finfo(torch.float32).max)


def has_library() -> bool:
    """Whether there is a compiled library that runs steps."""
    return LIBRARY is not None


def library() -> Any:
    """The compiled library."""
    assert LIBRARY is not None
    return LIBRARY


def why_not_native(step: Step) -> str:
    """Why the library cannot run a step; "" if it can."""
    if isinstance(step, Aten):
        return "the library has no such step"
    values = [*step.reads, *step.makes]
    if any(value.dtype != torch.float32 for value in values):
        return "it computes in float32"
    if any(0 in value.shape for value in values):
        return "there is nothing to compute"
    if isinstance(step, (Conv, Pool)) and len(step.x.shape) > 5:
        return "it has at most three spatial dimensions"
    return ""


@dataclass
class NativeStep:
    """A step as the library takes it, and the memory that it points to.

    Args:
        c: The structure.
        keep: What must outlive it.
    """

    c: CStep
    keep: list[Any] = field(default_factory=list)

    def tensor(self, tensor: Tensor | None) -> int | None:
        """The address of a contiguous fp32 copy, or of the tensor itself if it is that."""
        if tensor is None:
            return None
        tensor = tensor.detach().to(torch.float32).contiguous()
        self.keep.append(tensor)
        return tensor.data_ptr()

    def form(self, weights: Weights, name: str, make: Callable[[], Tensor | None]) -> int | None:
        """The address of a form of the weights, made once for all plans."""
        form = weights.form(name, make)
        if form is None:
            return None
        weights.kept.append(form)
        self.keep.append(form)
        return form.data_ptr()

    def structure(self, structure: ctypes.Structure) -> int:
        """The address of a structure."""
        self.keep.append(structure)
        return ctypes.addressof(structure)


def native_step(step: Step, place: Callable[[Value], CTensor], rows: int = 0) -> NativeStep:
    """Build the structure of a step.

    Args:
        step: With numbers for sizes; `why_not_native` has nothing against it.
        place: Where each value lies.
        rows: Of torch's layers, how many outputs share their list of inputs.

    Returns:
        The structure and what it points to.
    """
    built = NativeStep(CStep())
    c = built.c
    c.x, c.y = place(_first(step)), place(step.y)
    residual = step.by if isinstance(step, ScaleBy) else getattr(step, "residual", None)
    c.residual = CTensor(-1, 0, 0, 0) if residual is None else place(residual)
    c.act, c.low, c.high = _act(getattr(step, "act", NO_ACT))
    _BUILDERS[type(step)](built, step, rows)
    return built


def _first(step: Any) -> Value:
    x: Value = step.x
    return x


def _conv(built: NativeStep, step: Conv, rows: int) -> None:
    c = built.c
    c.kind = Kind.CONV
    _product(built, step, rows)
    first = step.before
    x = step.x if first is None else step.y  # of a 1x1 convolution, which is as large as its input
    c.conv = built.structure(
        _geometry(x, step.weights.kernel, step.stride, step.padding, step.dilation)
    )
    c.winograd = _winograd(built, step.weights)
    if first is not None:
        c.before = built.structure(
            _geometry(step.x, first.weights.kernel, first.stride, first.padding, first.dilation)
        )
        c.before_weight, c.shift = built.tensor(first.weights.edges), built.tensor(first.bias)
        c.in_act, c.in_low, c.in_high = _act(first.act)
    if step.prologue is not None:
        c.scale = built.tensor(step.prologue.scale)
        c.shift = built.tensor(step.prologue.shift)
        c.in_act, c.in_low, c.in_high = _act(step.prologue.act)


def _winograd(built: NativeStep, weights: Weights) -> int | None:
    """The weights transformed once, where the kernels go by Winograd's algorithm."""
    c = built.c
    size = library().xn_winograd_size(c.graph, c.conv, ISA)
    if size <= 0:
        return None

    def make() -> Tensor:
        to = torch.empty(size, **FLOATS)
        status = library().xn_winograd_weight(
            c.graph, c.weight, to.data_ptr(), torch.get_num_threads(), ISA
        )
        assert status == 0, status
        return to

    return built.form(weights, "winograd", make)


def _linear(built: NativeStep, step: Linear, rows: int) -> None:
    c = built.c
    c.kind = Kind.LINEAR
    _product(built, step, rows)
    c.rows = step.x.shape[0] if len(step.x.shape) == 2 else math.prod(step.x.shape[:-1])
    if len(step.x.shape) > 2:  # rows side by side
        c.x.image, c.y.image = step.weights.num_in, step.weights.num_out
        c.residual.image = step.weights.num_out


def _product(built: NativeStep, step: Conv | Linear, rows: int) -> None:
    c, weights = built.c, step.weights
    pattern = weights.graph(rows or 1)
    tables = (pattern.indptr.contiguous(), pattern.indices.contiguous())
    built.keep += tables
    graph = CGraph(weights.num_in, weights.num_out, *pattern.block, *(t.data_ptr() for t in tables))
    positions = math.prod(step.y.shape) // weights.num_out
    if math.prod(weights.kernel) == 1 and positions >= FEWEST_TO_SHARE:
        graph.turns = built.form(weights, f"turns {rows}", lambda: turns(graph, FORWARD))
    c.graph = built.structure(graph)
    c.channels_in, c.channels_out = weights.num_in, weights.num_out
    c.weight, c.bias = built.tensor(weights.edges), built.tensor(step.bias)


def _pool(built: NativeStep, step: Pool, rows: int) -> None:
    c = built.c
    c.kind = Kind.MAX_POOL if step.mode == "max" else Kind.AVG_POOL
    c.exclude_padding = int(step.exclude_padding)
    _pixels(built, step)
    c.conv = built.structure(
        _geometry(step.x, step.kernel, step.stride, step.padding, step.dilation)
    )
    c.output = triple(step.y.shape[2:], 1)


def _pointwise(built: NativeStep, step: Pointwise, rows: int) -> None:
    built.c.kind = Kind.POINTWISE
    built.c.scale, built.c.shift = built.tensor(step.scale), built.tensor(step.shift)
    _pixels(built, step)


def _copy(built: NativeStep, step: Copy, rows: int) -> None:
    built.c.kind = Kind.COPY
    _pixels(built, step)
    if step.index is not None:
        index = step.index.to(torch.int32).contiguous()
        built.keep.append(index)
        built.c.index = index.data_ptr()


def _scale_by(built: NativeStep, step: ScaleBy, rows: int) -> None:
    built.c.kind = Kind.SCALE_BY
    _pixels(built, step)


def _pixels(built: NativeStep, step: Any) -> None:
    c, shape = built.c, step.x.shape
    c.channels_in, c.channels_out = shape[1], step.y.shape[1]
    spatial = shape[2:] if len(shape) <= 5 else (math.prod(shape[2:]),)
    conv = CConv(shape[0], triple(spatial, 1))
    for field_name, fill in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        setattr(conv, field_name, triple((), fill))
    c.conv = built.structure(conv)


def _geometry(x: Value, *steps: tuple[int, ...]) -> CConv:
    fields = zip((x.shape[2:], *steps), (1, 1, 1, 0, 1), strict=True)
    return CConv(x.shape[0], *(triple(values, fill) for values, fill in fields))


def _act(act: Act) -> tuple[int, float, float]:
    low, high = (max(-_LARGEST, min(_LARGEST, limit)) for limit in (act.low, act.high))
    if act.high == float("inf"):
        high = act.high
    if act.low == -float("inf"):
        low = act.low
    return CAct[act.kind.upper()], low, high


_BUILDERS: dict[type[Step], Callable[[NativeStep, Any, int], None]] = {
    Conv: _conv,
    Linear: _linear,
    Pool: _pool,
    Pointwise: _pointwise,
    Copy: _copy,
    ScaleBy: _scale_by,
}
