"""Every kind of step in plain torch: what it means, and how torch runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xnets.inference._act import apply_act
from xnets.inference._ir import (
    Aten,
    Concat,
    Conv,
    Copy,
    Linear,
    Pointwise,
    Pool,
    ScaleBy,
    Slice,
    Step,
    Value,
    View,
    map_leaves,
)
from xnets.inference._program import Program

Runner = Callable[..., Any]  # takes the tensors of `step.reads`, in order


def interpret(program: Program, inputs: Sequence[Tensor]) -> list[Any]:
    """Run a program step by step.

    Args:
        program: With numbers for sizes.
        inputs: Its inputs.

    Returns:
        Its outputs.
    """
    known: dict[Value, Any] = dict(zip(program.inputs, inputs, strict=True))
    for step in program:
        result = torch_runner(step)(*(known[value] for value in step.reads))
        results = result if isinstance(step, Aten) and len(step.ys) > 1 else [result]
        known.update(zip(step.makes, results, strict=True))
    return list(map_leaves(lambda value: known[value], program.outputs, Value))


def torch_runner(step: Step) -> Runner:
    """A function that computes one step, with all that can be prepared done.

    Args:
        step: With numbers for sizes.

    Returns:
        Takes the tensors that the step reads and returns a new tensor, or, of views and some other
        operations of torch, one that shares memory with its arguments.
    """
    make: Callable[[Any], Runner] = _RUNNERS[type(step)]
    return make(step)


def _conv(step: Conv) -> Runner:
    if step.before is not None:
        first, second = _conv(step.before), _conv(replace(step, before=None))
        return lambda x, *residual: second(first(x), *residual)
    weights = step.weights
    conv = (F.conv1d, F.conv2d, F.conv3d)[len(step.stride) - 1]
    call = partial(
        conv,
        weight=weights.dense(),
        bias=step.bias,
        stride=step.stride,
        padding=step.padding,
        dilation=step.dilation,
        groups=weights.torch_groups,
    )
    if step.prologue is None:
        return _finish(step, call)
    scale, shift = (
        _broadcast(t, len(step.x.shape)) for t in (step.prologue.scale, step.prologue.shift)
    )
    act = step.prologue.act
    return _finish(step, lambda x: call(apply_act(act, torch.addcmul(shift, x, scale))))


def _linear(step: Linear) -> Runner:
    weight = step.weights.dense().reshape(step.weights.num_out, step.weights.num_in)
    return _finish(step, partial(F.linear, weight=weight, bias=step.bias))


def _finish(step: Conv | Linear, call: Callable[[Tensor], Tensor]) -> Runner:
    act = step.act
    if step.residual is None:
        return lambda x: apply_act(act, call(x))
    return lambda x, residual: apply_act(act, call(x).add_(residual))


def _pool(step: Pool) -> Runner:
    spatial = len(step.kernel) - 1
    if step.mode == "max":
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[spatial]
        return partial(
            pool, kernel_size=step.kernel, stride=step.stride, padding=step.padding,
            dilation=step.dilation, ceil_mode=step.ceil,
        )  # fmt: skip
    if step.kernel == step.x.shape[2:] and not any(step.padding):
        return partial(torch.mean, dim=tuple(range(2, spatial + 3)), keepdim=True)
    average: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[spatial]
    return partial(
        average, kernel_size=step.kernel, stride=step.stride, padding=step.padding,
        ceil_mode=step.ceil, count_include_pad=not step.exclude_padding,
    )  # fmt: skip


def _pointwise(step: Pointwise) -> Runner:
    rank = len(step.x.shape)
    scale = None if step.scale is None else _broadcast(step.scale, rank)
    shift = None if step.shift is None else _broadcast(step.shift, rank)
    act = step.act

    def run(x: Tensor, residual: Tensor | None = None) -> Tensor:
        if scale is not None:
            y = x * scale if shift is None else torch.addcmul(shift, x, scale)
            y = y if residual is None else y.add_(residual)
        elif shift is not None:
            y = x + shift
            y = y if residual is None else y.add_(residual)
        else:
            y = x.clone() if residual is None else x + residual
        return apply_act(act, y)

    return run


def _copy(step: Copy) -> Runner:
    index = step.index
    return Tensor.clone if index is None else lambda x: x.index_select(1, index)


def _aten(step: Aten) -> Runner:
    places: list[Value] = step.reads

    def run(*tensors: Tensor) -> Any:
        following = iter(tensors)
        args, kwargs = map_leaves(lambda _: next(following), (step.args, step.kwargs), Value)
        return step.func(*args, **kwargs)

    if list(step.args[: len(places)]) == places and not step.kwargs:  # nothing nested: no search
        rest = step.args[len(places) :]
        func = step.func
        return lambda *tensors: func(*tensors, *rest)
    return run


def _broadcast(per_channel: Tensor, rank: int) -> Tensor:
    return per_channel.view(-1, *[1] * (rank - 2))


_RUNNERS: dict[type[Step], Callable[[Any], Runner]] = {
    Conv: _conv,
    Linear: _linear,
    Pool: _pool,
    Pointwise: _pointwise,
    ScaleBy: lambda step: torch.mul,
    Copy: _copy,
    Concat: lambda step: lambda *xs: torch.cat(xs, 1),
    View: lambda step: lambda x: x.reshape(step.y.shape),
    Slice: lambda step: lambda x: x.narrow(1, step.start, step.y.shape[1]),
    Aten: _aten,
}
