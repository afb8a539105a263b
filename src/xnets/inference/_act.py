"""The activation functions of steps, in torch."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from xnets.inference._ir import Act


def apply_act(act: Act, x: Tensor) -> Tensor:
    """The activation of x, which is overwritten where torch can."""
    match act.kind:
        case "none":
            return x
        case "clamp":
            if act.high == math.inf:
                return x.relu_() if act.low == 0 else x.clamp_(min=act.low)
            return x.clamp_(act.low, act.high)
        case "silu":
            return F.silu(x, inplace=True)
        case "hardswish":
            return F.hardswish(x, inplace=True)
        case "sigmoid":
            return x.sigmoid_()
        case "hardsigmoid":
            return F.hardsigmoid(x, inplace=True)
        case "gelu":
            return F.gelu(x)
        case "tanh":
            return x.tanh_()
        case "leaky":
            return F.leaky_relu(x, act.low, inplace=True)
        case _:
            raise AssertionError(f"no such activation: {act.kind}")
