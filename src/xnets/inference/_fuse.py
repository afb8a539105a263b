"""Fewer steps: scales folded into weights, what follows a product done in its epilogue.

Each pass takes a program and returns one that computes the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from xnets.inference._ir import NO_ACT, Affine, Aten, Conv, Linear, Pointwise, Step, Value
from xnets.inference._program import Program

Pass = Callable[[Program], Program]


def simplify(program: Program) -> Program:
    """All passes, in their order."""
    program = program.without_dead_steps()
    for one in PASSES:
        program = one(program)
    return program


def merge_pointwise(program: Program) -> Program:
    """Two pointwise operations in a row are one, where nothing but the second reads the first."""
    return _rewrite(program, _merge)


def fold_epilogues(program: Program) -> Program:
    """Scale and shift go into weights and bias; residual and activation into the epilogue."""
    return _rewrite(program, _into_epilogue)


def fold_prologues(program: Program) -> Program:
    """What is done to each pixel of one convolution's input alone, it does while it reads.

    DenseNet is made of this: norm, activation and convolution, of a concatenation that others read
    too.
    """
    return _rewrite(program, _into_prologue)


def join_depthwise(program: Program) -> Program:
    """A 1x1 convolution computes the depthwise one before it, where nothing else reads that.

    Plans for some sizes take them apart again: see `_choose.settle`.
    """
    return _rewrite(program, _depthwise_before)


PASSES: tuple[Pass, ...] = (
    *(merge_pointwise, fold_epilogues, merge_pointwise, fold_prologues),
    join_depthwise,
)


def apart(step: Conv) -> tuple[Conv, Conv]:
    """A convolution with a depthwise one before it as two steps.

    Args:
        step: The convolution.

    Returns:
        The two, with a new value between them.
    """
    first = step.before
    assert first is not None
    shape = (step.x.shape[0], step.weights.num_in, *step.y.shape[2:])
    between = Value(first.y.name, shape)
    own = step.fused[1 + len(first.fused) :]
    return replace(first, x=step.x, y=between), replace(step, x=between, before=None, fused=own)


def _rewrite(program: Program, fuse: Callable[[Step, Step], Step | None]) -> Program:
    """Fuse each step with the steps that make what it reads, where `fuse` can.

    The fused step stands where the second stood, by when all that either reads is there.
    """
    outputs = set(program.output_values)
    users = program.users()
    makers: dict[Value, Step] = {}
    steps: dict[int, Step] = {}
    for step in program.steps:
        current = step
        for value in _latest_first(step.reads, makers, steps):
            maker = makers.get(value)
            alone = value not in outputs and len(users[value]) == 1
            if maker is None or not alone:
                continue
            fused = fuse(maker, current)
            if fused is not None:
                del steps[id(maker)]
                current = fused
        steps[id(current)] = current
        makers.update((value, current) for value in current.makes)
    return Program(list(steps.values()), program.inputs, program.outputs)


def _latest_first(
    values: list[Value], makers: dict[Value, Step], steps: dict[int, Step]
) -> list[Value]:
    order = {key: position for position, key in enumerate(steps)} if len(values) > 1 else {}
    return sorted(values, key=lambda v: -order.get(id(makers.get(v)), -1))


# --- pairs of steps ------------------------------------------------------------------------------


def _merge(first: Step, second: Step) -> Step | None:
    if not (isinstance(first, Pointwise) and isinstance(second, Pointwise)):
        return None
    if first.act != NO_ACT:
        return None
    affine = second.scale is not None or second.shift is not None
    if first.y is second.residual:  # y = act(x * s + (x' * s' + shift' + r')): x plain, r' none
        if affine or first.residual is not None:
            return None
        return replace(
            second, x=first.x, scale=first.scale, shift=first.shift, residual=second.x,
            fused=_words(first, second),
        )  # fmt: skip
    if first.residual is not None and (affine or second.residual is not None):
        return None
    scale, shift = _compose(first, second)
    return replace(
        second, x=first.x, scale=scale, shift=shift, residual=first.residual or second.residual,
        fused=_words(first, second),
    )  # fmt: skip


def _compose(first: Pointwise, second: Pointwise) -> tuple[Tensor | None, Tensor | None]:
    scale, shift = first.scale, first.shift
    if second.scale is not None:
        scale = second.scale if scale is None else scale * second.scale
        shift = None if shift is None else shift * second.scale
    if second.shift is not None:
        shift = second.shift if shift is None else shift + second.shift
    return scale, shift


def _into_epilogue(first: Step, second: Step) -> Step | None:
    if isinstance(first, Linear) and isinstance(second, Aten):
        return _scaled_features(first, second)
    if not (isinstance(first, (Conv, Linear)) and isinstance(second, Pointwise)):
        return None
    if first.act != NO_ACT or (isinstance(first, Linear) and not _is_flat(first, second)):
        return None
    other: Any = second.residual
    scale, shift = second.scale, second.shift
    if first.y is second.residual:
        if scale is not None or shift is not None:
            return None  # of the other: a step of its own
        other = second.x
    if other is not None and (first.residual is not None or other is first.y):
        return None
    if first.residual is not None and (scale is not None or shift is not None):
        return None
    weights, bias = first.weights, first.bias
    if scale is not None:
        weights = weights.scaled(scale)
        bias = None if bias is None else bias * scale
    if shift is not None:
        bias = shift if bias is None else bias + shift
    return replace(
        first, y=second.y, weights=weights, bias=bias, act=second.act,
        residual=first.residual or other, fused=first.fused + _words(None, second),
    )  # fmt: skip


def _scaled_features(linear: Linear, second: Aten) -> Step | None:
    """A factor for each feature, the last dimension: the layer scale of transformers."""
    if second.func is not torch.ops.aten.mul.Tensor or second.kwargs or len(second.args) != 2:
        return None
    scale = next((a for a in second.args if isinstance(a, Tensor)), None)
    plain = linear.act == NO_ACT and linear.residual is None and linear.y.shape == second.y.shape
    if scale is None or not plain or scale.dtype != torch.float32:
        return None
    if scale.dim() > len(linear.y.shape) or scale.numel() != linear.weights.num_out:
        return None
    if scale.shape[-1] != linear.weights.num_out:
        return None
    scale = scale.reshape(-1)
    return replace(
        linear, y=second.y, weights=linear.weights.scaled(scale),
        bias=None if linear.bias is None else linear.bias * scale, fused=(*linear.fused, "scale"),
    )  # fmt: skip


def _is_flat(linear: Linear, pointwise: Pointwise) -> bool:
    """Whether the channels of a pointwise step, dimension 1, are the features, the last."""
    plain = pointwise.scale is None and pointwise.shift is None
    return plain or len(linear.y.shape) == 2


def _into_prologue(first: Step, second: Step) -> Step | None:
    if not (isinstance(first, Pointwise) and isinstance(second, Conv)):
        return None
    affine = first.scale is not None or first.shift is not None
    taken = second.prologue is not None or first.residual is not None
    if taken or not affine or first.y is second.residual:
        return None
    scale, shift = first.scale, first.shift
    if scale is None:
        assert shift is not None
        scale = shift.new_ones(shift.shape)
    prologue = Affine(scale, scale.new_zeros(scale.shape) if shift is None else shift, first.act)
    words = tuple(f"{word} before" for word in _words(None, first))
    return replace(second, x=first.x, prologue=prologue, fused=words + second.fused)


def _depthwise_before(first: Step, second: Step) -> Step | None:
    if not (isinstance(first, Conv) and isinstance(second, Conv)):
        return None
    weights, sides = first.weights, {*first.weights.kernel}
    if weights.pattern is not None or weights.kind != "depthwise" or len(first.stride) != 2:
        return None
    same = len(sides) == len({*first.stride}) == len({*first.padding}) == 1
    known = same and sides <= {3, 5} and first.stride[0] <= 2 and {*first.dilation} == {1}
    if not known or first.padding[0] > weights.kernel[0]:
        return None
    if first.prologue is not None or first.residual is not None:
        return None
    plain = {*second.weights.kernel, *second.stride} == {1} and not any(second.padding)
    if not plain or second.prologue is not None or second.residual is first.y:
        return None
    words = (first.label(), *first.fused)
    fused = tuple(f"{word} before" for word in words) + second.fused
    return replace(second, x=first.x, before=first, fused=fused)


def _words(first: Pointwise | None, second: Pointwise) -> tuple[str, ...]:
    """What both do, in words."""
    words = () if first is None else _words(None, first)
    own = second.fused
    if not own and (second.scale is not None or second.shift is not None):
        own = ("scale",) if second.shift is None else ("shift",)
    if second.residual is not None and "add" not in own:
        own = (*own, "add")
    if second.act != NO_ACT and str(second.act) not in own:
        own = (*own, str(second.act))
    return words + own
