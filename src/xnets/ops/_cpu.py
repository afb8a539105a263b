"""Our C++ kernels: fp32 on the CPU, forward and both gradients, any graph and block.

See csrc/README.md for how they work and csrc/include/xnets.h for their contract.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xnets.ops import _cpu_ops, _operator
from xnets.ops._call import Call
from xnets.ops._cpu_library import ISA, LIBRARY, WHY_NO_LIBRARY
from xnets.ops._eager import in_function_transform

# What one edge at one position costs, in multiplications of a dense kernel (one scattered into the
# dense weight: in positions). From the figures in csrc/README.md, over shapes and processors.
_EDGE_COST = 2.3
_EDGE_COST_OF_BLOCKS = 1.5
_EDGE_COST_POINTWISE = 1.9  # of single edges in 1x1 and linear layers
_EDGE_COST_WINOGRAD = 1.3  # of single edges where 3x3 layers go by Winograd's algorithm
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
    if _is_depthwise(call):
        channels_last = not call.input.is_contiguous()
        return ["in channels_last torch's own kernels are as fast"] if channels_last else []
    density = pattern.num_edges * call.groups / (pattern.num_in * pattern.num_out)
    sparse = density * _edge_cost(call)
    dense = 1.0
    if not torch.compiler.is_compiling():  # compiled code must serve every batch size
        positions = call.input.numel() // pattern.num_in
        dense += _SCATTER_COST * density / max(1, positions)
    if sparse <= dense:
        return []
    return [f"at {density:.0%} of all edges, dense kernels cost {dense / sparse:.2f} of these"]


def _is_depthwise(call: Call) -> bool:
    """Whether the kernels for graphs of one input an output run this call."""
    pattern = call.pattern
    one_input = pattern.block == (1, 1) and pattern.max_degree == 1 and pattern.is_regular
    kernel = tuple(call.weight.shape[1:])
    return one_input and has_windows(kernel, call.stride, call.padding, call.dilation)


def has_windows(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> bool:
    """Whether the kernels for graphs of one input an output know such windows."""
    return (
        kernel in ((3, 3), (5, 5))
        and stride in ((1, 1), (2, 2))
        and dilation == (1, 1)
        and padding[0] == padding[1] <= kernel[0]
    )


def _edge_cost(call: Call) -> float:
    kernel = tuple(call.weight.shape[1:])
    if call.pattern.block[0] >= 4:
        return _EDGE_COST_OF_BLOCKS
    if math.prod(kernel) == 1:
        return _EDGE_COST_POINTWISE
    ones = {*call.stride, *call.dilation} == {1}
    if not ISA and kernel == (3, 3) and ones and max(call.padding) <= 2:
        return _EDGE_COST_WINOGRAD
    return _EDGE_COST


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
