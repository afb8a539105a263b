"""Our Triton kernels: expander layers on the tensor cores of a GPU, forward and both gradients.

Meant for blocks of at least 16 outputs; other graphs run too, slower than dense kernels would be.
Importing this loads no Triton.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from xnets.ops import _operator
from xnets.ops._call import Call
from xnets.ops._eager import in_function_transform
from xnets.ops._triton import operator
from xnets.ops._triton.config import INTERPRETED, MIN_SIDE, allows_tf32

_INSTALLED = importlib.util.find_spec("triton") is not None
_INTERPRETED = INTERPRETED
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# cuBLAS and cuDNN compute tiles of about so many outputs from one reading of their inputs; we, the
# b_out outputs that share them. By arithmetic, not by measurement.
_DENSE_TILE = 128
# Python takes tens of microseconds to launch our kernels, in which an H100 multiplies so many pairs
# in half precision. By arithmetic, too.
_LEAST_MACS = 2**33


def why_not(call: Call) -> list[str]:
    """Why the Triton kernels cannot run this call."""
    reasons = []
    device = call.input.device
    if not _INSTALLED:
        reasons.append("Triton is not installed")
    elif device.type != "cuda" and not (device.type == "cpu" and _INTERPRETED):
        reasons.append(f"it needs a CUDA device, and the input is on {device}")
    elif device.type == "cuda" and not torch.compiler.is_compiling():
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            reasons.append(f"it needs compute capability 8.0, and the device has {major}.{minor}")
    dtype = _dtype(call)
    if dtype not in _DTYPES:
        reasons.append(f"it computes in float32, float16 or bfloat16, not {_name(dtype)}")
    if not torch.compiler.is_compiling() and in_function_transform():
        reasons.append("torch.func and forward-mode derivatives need torch's own ops")
    return reasons


def why_slow(call: Call) -> list[str]:
    """Why dense kernels would be faster."""
    pattern = call.pattern
    b_out, b_in = pattern.block
    reasons = []
    if call.input.device.type == "cpu":
        reasons.append("Triton's interpreter is for tests")
    if b_out < MIN_SIDE:
        reasons.append(
            f"tensor cores need at least {MIN_SIDE} outputs that share their inputs, and the "
            f"block is {pattern.block}"
        )
        return reasons
    width = pattern.num_in // call.groups
    compression = width * pattern.num_out / max(1, pattern.num_edges)
    reads = pattern.num_edges // min(b_out, _DENSE_TILE)
    dense_reads = width * -(-pattern.num_out // _DENSE_TILE)
    if compression < 2:
        reasons.append(f"the graph is nearly dense (compression {compression:.3g})")
    elif reads >= dense_reads:
        reasons.append(
            f"it would read {reads:,} inputs at each position, dense kernels {dense_reads:,}: "
            "wider blocks read fewer"
        )
    if not torch.compiler.is_compiling():  # compiled code must serve every batch size
        macs = call.dense_macs()
        if macs < _LEAST_MACS:
            reasons.append(
                f"launching it takes longer than {macs:,} multiplications of a dense kernel"
            )
    if b_in == 1:
        reasons.append("with blocks one input wide it loads the inputs one by one")
    if _dtype(call) == torch.float32 and not allows_tf32(call.spatial > 0):
        reasons.append("float32 without TF32 does not run on tensor cores")
    return reasons


def run(call: Call) -> Tensor:
    """Run the call on the Triton kernels."""
    x, weight, bias = call.input, call.weight, call.bias
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        with torch.autocast(device, enabled=False):
            return _operator.run(operator.apply, call, x, weight, bias)
    return _operator.run(operator.apply, call, x, weight, bias)


def _dtype(call: Call) -> torch.dtype:
    """The dtype that the kernels would compute in."""
    device = call.input.device.type
    autocasts = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)
    if autocasts and call.weight.dtype != torch.float64:  # which autocast leaves alone
        return torch.get_autocast_dtype(device)
    return call.weight.dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
