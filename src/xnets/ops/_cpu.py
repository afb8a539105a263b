"""Our C++ kernels: fp32 on the CPU, forward and both gradients, any graph and block.

See csrc/README.md for how they work and csrc/include/xnets.h for their contract.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xnets.ops import _cpu_ops, _operator
from xnets.ops._call import Call
from xnets.ops._cpu_library import LIBRARY, WHY_NO_LIBRARY
from xnets.ops._eager import in_function_transform

# What one edge at one position costs, in multiplications of a dense kernel (one scattered into the
# dense weight: in positions). From the figures in csrc/README.md, over shapes and processors.
_EDGE_COST = 2.3
_EDGE_COST_OF_BLOCKS = 1.5
_EDGE_COST_SHARED = 1.9  # of outputs with single edges that share what they read
_FEWEST_EDGES_TO_SHARE = 48  # of an output
_SCATTER_COST = 25
_MOST = 2**31 - 1


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
    if call.input.layout is not torch.strided:
        reasons.append(f"it needs a strided input, not {call.input.layout}")
    if max((*call.stride, *call.padding, *call.dilation), default=0) > _MOST:
        reasons.append(f"its strides, paddings and dilations are at most {_MOST:,}")
    if not torch.compiler.is_compiling() and in_function_transform():
        reasons.append("torch.func and forward-mode derivatives need torch's own ops")
    return reasons


def why_slow(call: Call) -> list[str]:
    """Why `masked` would be faster: measured costs of both, in multiplications of dense kernels."""
    pattern = call.pattern
    density = pattern.num_edges * call.groups / (pattern.num_in * pattern.num_out)
    edge = _EDGE_COST_OF_BLOCKS if pattern.block[0] >= 4 else _EDGE_COST
    if _shares(call):
        edge = _EDGE_COST_SHARED
    sparse = density * edge
    dense = 1.0
    if not torch.compiler.is_compiling():  # compiled code must serve every batch size
        positions = call.input.numel() // pattern.num_in
        dense += _SCATTER_COST * density / max(1, positions)
    if sparse <= dense:
        return []
    return [f"at {density:.0%} of all edges, dense kernels cost {dense / sparse:.2f} of these"]


def _shares(call: Call) -> bool:
    """Whether single edges share what outputs read, in inference: training gains less by it."""
    pattern = call.pattern
    pointwise = call.weight.shape[1:].numel() == 1
    if pattern.block != (1, 1) or not pointwise or torch.compiler.is_compiling():
        return False
    if pattern.num_edges < _FEWEST_EDGES_TO_SHARE * pattern.num_out:
        return False
    trains = call.weight.requires_grad or call.input.requires_grad
    return not (trains and torch.is_grad_enabled())


def run(call: Call) -> Tensor:
    """Run the call on the compiled kernels."""
    x, weight, bias = call.input, call.weight, call.bias
    if torch.is_autocast_enabled("cpu"):
        # Conversion at the edges: one pass over input and output, and fp32 in between.
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            return _operator.run(_cpu_ops.apply, call, x.float(), weight.float(), bias).to(dtype)
    return _operator.run(_cpu_ops.apply, call, x, weight, bias)
