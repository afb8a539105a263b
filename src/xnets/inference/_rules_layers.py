"""Rules for what computes: products with weights, norms, pooling, activations, arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from xnets.inference._ir import Act, Conv, Linear, Pointwise, Pool, ScaleBy, Value
from xnets.inference._rules import Lowering, is_fp32, per_channel, rule
from xnets.inference._weights import Weights


def _constant(value: Any) -> bool:
    return value is None or (isinstance(value, Tensor) and value.dtype == torch.float32)


# --- products with weights -----------------------------------------------------------------------


@rule("traced")
def _expander(at: Lowering, x: Any, name: str, num_out: int, kernel: Any, *geometry: Any) -> Any:
    layer = at.layers[name]
    weights = Weights(
        layer.weight.detach(), layer.num_in, layer.num_out, layer.pattern, is_linear=not kernel
    )
    bias = None if layer.bias is None else layer.bias.detach()
    at.where = name
    if not kernel:
        return at.add(Linear(name=name, x=x, weights=weights, bias=bias, y=at.out))
    unbatched = len(at.out.shape) == len(kernel) + 1
    if unbatched:
        shape = (1, *x.shape)
        x = at.view(x, Value(f"{x.name}+batch", shape))
    y = Value(at.out.name, (1, *at.out.shape)) if unbatched else at.out
    stride, padding, dilation = map(tuple, geometry)
    conv = Conv(
        name=name, x=x, weights=weights, bias=bias, y=y,
        stride=stride, padding=padding, dilation=dilation,
    )  # fmt: skip
    made = at.add(conv)
    return at.view(made) if unbatched else made


@rule("conv1d", "conv2d", "conv3d")
def _conv(
    at: Lowering,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    if not (is_fp32(x) and _constant(bias) and isinstance(weight, Tensor) and _constant(weight)):
        return NotImplemented
    if len(x.shape) != weight.dim():  # without a batch
        return NotImplemented
    spatial = weight.dim() - 2
    stride, dilation = _repeat(stride, spatial), _repeat(dilation, spatial)
    if isinstance(padding, str):
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "valid":
            totals = [0] * spatial
        if any(total % 2 for total in totals):
            return NotImplemented
        padding = tuple(total // 2 for total in totals)
    weights = Weights(
        weight.reshape(-1, *weight.shape[2:]), x.shape[1], weight.shape[0], groups=groups
    )
    conv = Conv(
        name=at.where, x=x, weights=weights, bias=bias, y=at.out,
        stride=stride, padding=_repeat(padding, spatial), dilation=dilation,
    )  # fmt: skip
    return at.add(conv)


@rule("convolution")
def _convolution(
    at: Lowering,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Any:
    if transposed:
        return NotImplemented
    return _conv(at, x, weight, bias, stride, padding, dilation, groups)


@rule("linear")
def _linear(at: Lowering, x: Any, weight: Any, bias: Any = None) -> Any:
    if not (is_fp32(x) and _constant(bias) and isinstance(weight, Tensor) and weight.dim() == 2):
        return NotImplemented
    weights = Weights(weight.reshape(-1, 1), weight.shape[1], weight.shape[0], is_linear=True)
    return at.add(Linear(name=at.where, x=x, weights=weights, bias=bias, y=at.out))


@rule("addmm")
def _addmm(at: Lowering, bias: Any, x: Any, weight: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    plain = beta == 1 and alpha == 1 and isinstance(weight, Tensor) and isinstance(bias, Tensor)
    if not plain or bias.dim() != 1:
        return NotImplemented
    return _linear(at, x, weight.t().contiguous(), bias)


# --- norms ---------------------------------------------------------------------------------------


@rule("batch_norm")
def _batch_norm(
    at: Lowering,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Any:
    constants = all(map(_constant, (weight, bias, mean, var)))
    if training or not is_fp32(x) or not constants or mean is None or var is None:
        return NotImplemented
    scale = (var.double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    if bias is not None:
        shift = shift + bias.double()
    y = at.pointwise(x, scale=scale.float(), shift=shift.float())
    at.steps[-1].fused = ("BatchNorm",)
    return y


@rule("traced_norm")
def _traced_norm(
    at: Lowering, x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float
) -> Any:
    return _batch_norm(at, x, weight, bias, mean, var, False, 0.0, eps)


@rule("_native_batch_norm_legit_no_training")
def _native_batch_norm(
    at: Lowering, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Any:
    y = _batch_norm(at, x, weight, bias, mean, var, False, momentum, eps)
    return NotImplemented if y is NotImplemented else (y, None, None)


# --- pooling -------------------------------------------------------------------------------------


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(
    at: Lowering,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    spatial = len(at.out.shape) - 2
    if not is_fp32(x) or spatial < 1:
        return NotImplemented
    kernel = _repeat(kernel, spatial)
    pool = Pool(
        name=at.where, x=x, y=at.out, mode="max", kernel=kernel,
        stride=_repeat(stride, spatial) or kernel, padding=_repeat(padding, spatial),
        dilation=_repeat(dilation, spatial), ceil=ceil_mode,
    )  # fmt: skip
    return at.add(pool)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool_with_indices(at: Lowering, x: Any, *arguments: Any) -> Any:
    y = _max_pool(at, x, *arguments)
    return NotImplemented if y is NotImplemented else (y, None)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    at: Lowering,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    spatial = len(at.out.shape) - 2
    if not is_fp32(x) or spatial < 1 or divisor_override is not None:
        return NotImplemented
    kernel, padding = _repeat(kernel, spatial), _repeat(padding, spatial)
    if ceil_mode and count_include_pad and any(padding):
        return (
            NotImplemented  # which pixels beyond the border count differs from library to library
        )
    pool = Pool(
        name=at.where, x=x, y=at.out, mode="avg", kernel=kernel,
        stride=_repeat(stride, spatial) or kernel, padding=padding, dilation=(1,) * spatial,
        exclude_padding=not count_include_pad or ceil_mode, ceil=ceil_mode,
    )  # fmt: skip
    return at.add(pool)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_avg_pool(at: Lowering, x: Any, size: Any) -> Any:
    if not is_fp32(x) or len(x.shape) < 3:
        return NotImplemented
    have, want = x.shape[2:], at.out.shape[2:]
    if not all(isinstance(d, int) for d in (*have, *want)):
        return NotImplemented
    if have == want:
        return x
    if any(h % w for h, w in zip(have, want, strict=True)):
        return NotImplemented
    return _average(at, x, tuple(h // w for h, w in zip(have, want, strict=True)), at.out)


@rule("mean")
def _mean(
    at: Lowering, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if not is_fp32(x) or dtype is not None or dim is None or len(x.shape) < 3:
        return NotImplemented
    rank = len(x.shape)
    over = sorted(d % rank for d in dim)
    if over != list(range(2, rank)) or not all(isinstance(d, int) for d in x.shape[2:]):
        return NotImplemented
    if keepdim:
        return _average(at, x, x.shape[2:], at.out)
    kept = Value(at.out.name, (*x.shape[:2], *[1] * (rank - 2)))
    return at.view(_average(at, x, x.shape[2:], kept))


def _average(at: Lowering, x: Value, kernel: Any, y: Value) -> Value:
    none, ones = (0,) * len(kernel), (1,) * len(kernel)
    pool = Pool(
        name=at.where, x=x, y=y, mode="avg", kernel=tuple(kernel), stride=tuple(kernel),
        padding=none, dilation=ones,
    )  # fmt: skip
    return at.add(pool)


# --- activations ---------------------------------------------------------------------------------

_ACTS = {
    "relu": Act("clamp"),
    "relu6": Act("clamp", 0, 6),
    "silu": Act("silu"),
    "hardswish": Act("hardswish"),
    "sigmoid": Act("sigmoid"),
    "hardsigmoid": Act("hardsigmoid"),
    "tanh": Act("tanh"),
}


def _activation(at: Lowering, x: Any, act: Act) -> Any:
    return at.pointwise(x, act=act) if is_fp32(x) else NotImplemented


for _name, _act in _ACTS.items():
    rule(_name)(lambda at, x, act=_act: _activation(at, x, act))


@rule("gelu")
def _gelu(at: Lowering, x: Any, *, approximate: str = "none") -> Any:
    return NotImplemented if approximate != "none" else _activation(at, x, Act("gelu"))


@rule("leaky_relu")
def _leaky_relu(at: Lowering, x: Any, slope: float = 0.01) -> Any:
    return _activation(at, x, Act("leaky", float(slope)))


@rule("hardtanh")
def _hardtanh(at: Lowering, x: Any, low: float = -1, high: float = 1) -> Any:
    return _activation(at, x, Act("clamp", float(low), float(high)))


@rule("clamp")
def _clamp(at: Lowering, x: Any, low: Any = None, high: Any = None) -> Any:
    limits = (-math.inf if low is None else low, math.inf if high is None else high)
    if not all(isinstance(limit, (int, float)) for limit in limits):
        return NotImplemented
    return _activation(at, x, Act("clamp", float(limits[0]), float(limits[1])))


@rule("clamp_min")
def _clamp_min(at: Lowering, x: Any, low: Any) -> Any:
    return _clamp(at, x, low)


# --- arithmetic ----------------------------------------------------------------------------------


@rule("add")
def _add(at: Lowering, a: Any, b: Any, *, alpha: Any = 1) -> Any:
    if not isinstance(a, Value):
        a, b = b, a
        if alpha != 1:
            return NotImplemented
    if not is_fp32(a) or a.shape != at.out.shape:
        return NotImplemented
    if isinstance(b, Value):
        if alpha != 1 or not is_fp32(b) or b.shape != a.shape:
            return NotImplemented
        return at.pointwise(a, residual=b)
    shift = per_channel(b, a)
    return NotImplemented if shift is None else at.pointwise(a, shift=shift * alpha)


@rule("sub")
def _sub(at: Lowering, a: Any, b: Any, *, alpha: Any = 1) -> Any:
    if not is_fp32(a) or isinstance(b, Value):
        return NotImplemented
    return _add(at, a, b, alpha=-alpha)


@rule("mul")
def _mul(at: Lowering, a: Any, b: Any) -> Any:
    if not isinstance(a, Value):
        a, b = b, a
    if isinstance(a, Value) and isinstance(b, Value):
        if a.shape != at.out.shape:
            a, b = b, a
        if not is_fp32(a) or not is_fp32(b) or a.shape != at.out.shape:
            return NotImplemented
        for x, gate in ((a, b), (b, a)):  # x * sigmoid(x)
            maker = at.maker(gate)
            if isinstance(maker, Pointwise) and maker.x is x and _is_plain(maker, "sigmoid"):
                return at.pointwise(x, act=Act("silu"))
        if b.shape == (*a.shape[:2], *[1] * (len(a.shape) - 2)) and len(a.shape) > 2:
            return at.add(ScaleBy(name=at.where, x=a, by=b, y=at.out))
        return NotImplemented
    if not is_fp32(a) or a.shape != at.out.shape:
        return NotImplemented
    scale = per_channel(b, a)
    return NotImplemented if scale is None else at.pointwise(a, scale=scale)


@rule("div")
def _div(at: Lowering, a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    number = isinstance(b, (int, float)) and b != 0
    if rounding_mode is not None or not is_fp32(a) or not number:
        return NotImplemented
    return _mul(at, a, 1 / b)


def _is_plain(step: Pointwise, act: str) -> bool:
    parts = (step.scale, step.shift, step.residual)
    return step.act.kind == act and all(part is None for part in parts)


def _repeat(value: Any, times: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * times if len(values) == 1 else values
