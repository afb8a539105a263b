"""Our C++ kernels: fp32 on the CPU, forward and both gradients, any graph and block.

See csrc/README.md for how they work and csrc/include/xnets.h for their contract.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xnets.ops import (
    _cpu_ops,  # registers the operators  # noqa: F401
    _operator,
)
from xnets.ops._call import Call
from xnets.ops._cpu_library import LIBRARY, WHY_NO_LIBRARY


def why_not(call: Call) -> list[str]:
    """Why the compiled kernels cannot run this call."""
    if LIBRARY is None:
        return [WHY_NO_LIBRARY]
    reasons = []
    if call.input.device.type != "cpu":
        reasons.append(f"it runs on the CPU, and the input is on {call.input.device}")
    dtypes = {call.input.dtype, call.weight.dtype}
    if torch.is_autocast_enabled("cpu"):
        dtypes -= {torch.bfloat16, torch.float16}
    if not dtypes <= {torch.float32}:
        odd = next(dtype for dtype in dtypes if dtype != torch.float32)
        reasons.append(f"it computes in float32, not {str(odd).removeprefix('torch.')}")
    if not torch.compiler.is_compiling() and _operator.in_function_transform():
        reasons.append("torch.func and forward-mode derivatives need torch's own ops")
    return reasons


def why_slow(call: Call) -> list[str]:
    """Why dense kernels would be faster."""
    pattern = call.pattern
    density = pattern.num_edges * call.groups / (pattern.num_in * pattern.num_out)
    if density > 0.75:
        return [f"the graph is nearly dense ({density:.0%} of all edges)"]
    return []


def run(call: Call) -> Tensor:
    """Run the call on the compiled kernels."""
    x, weight, bias = call.input, call.weight, call.bias
    if torch.is_autocast_enabled("cpu"):
        # Conversion at the edges: one pass over input and output, and fp32 in between.
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            y = _operator.run(torch.ops.xnets.cpu, call, x.float(), weight.float(), bias)
            return y.to(dtype)
    return _operator.run(torch.ops.xnets.cpu, call, x, weight, bias)
