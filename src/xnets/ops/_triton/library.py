"""The operators of the Triton backend, registered with torch.library.

Importing this loads no Triton: the kernels come with the first call. The tensor cores' precision for
float32 is read then, from torch's own settings.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from xnets.ops import _masked
from xnets.ops._call import Call
from xnets.ops._pattern import Pattern, make_pattern

_ARGUMENTS = (
    "Tensor indptr, Tensor indices, int[] sizes, int[] stride, int[] padding, int[] dilation"
)
# A fragment: other backends define operators of the same namespace.
_OPS = torch.library.Library("xnets", "FRAGMENT")
_OPS.define(f"triton(Tensor x, Tensor weight, Tensor? bias, {_ARGUMENTS}) -> Tensor")
_OPS.define(
    f"triton_backward(Tensor grad, Tensor x, Tensor weight, {_ARGUMENTS}, bool[] needed)"
    " -> (Tensor, Tensor)"
)


def padded_inputs_are_dense(sizes: list[int], base_edges: int) -> bool:
    """Whether the input gradient is cheaper through a dense weight.

    Its tiles hold the inputs of one block, at least 16; narrower blocks pad them. A list that b
    outputs share is not shared by inputs.
    """
    num_in, num_out, b_out, b_in = sizes
    padded_edges = base_edges * b_out * max(16, b_in)
    return padded_edges >= num_in * num_out


def _empty_output(x: Tensor, weight: Tensor, sizes: list[int], *steps: list[int]) -> Tensor:
    stride, padding, dilation = steps
    size = []
    for i, k, s, p, d in zip(
        x.shape[2:], weight.shape[1:], stride, padding, dilation, strict=bool(stride)
    ):
        if i + 2 * p < d * (k - 1) + 1:
            raise ValueError(
                f"the kernel (size {tuple(weight.shape[1:])}, dilation {tuple(dilation)}) is "
                f"larger than the padded input (size {tuple(x.shape[2:])}, padding {tuple(padding)})"
            )
        size.append((i + 2 * p - d * (k - 1) - 1) // s + 1)
    return _empty_channels_last(x, [x.shape[0], sizes[1], *size])


def _empty_channels_last(like: Tensor, shape: list[int]) -> Tensor:
    return like.new_empty(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    *steps: list[int],
) -> Tensor:
    from xnets.ops._triton import launch

    out = _empty_output(x, weight, sizes, *steps)
    if out.numel():
        graph = launch.Graph(indptr, indices, (sizes[2], sizes[3]))
        kernels = _kernels(weight, steps)
        axes = launch.forward_axes(tuple(kernels.shape[1:]), *steps)
        with _device(x):
            launch.forward(x, kernels, bias, graph, axes, out)
    return out


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    from xnets.ops._triton import launch

    steps = (stride, padding, dilation)
    graph = launch.Graph(indptr, indices, (sizes[2], sizes[3]))
    kernels = _kernels(weight, steps)
    axes = launch.forward_axes(tuple(kernels.shape[1:]), *steps)
    grad_x, grad_weight = x.new_empty(0), weight.new_empty(0)
    with _device(x):
        if needed[0]:
            grad_x = _empty_channels_last(x, list(x.shape))
            if not grad.numel():
                grad_x.zero_()
            elif padded_inputs_are_dense(sizes, indices.shape[0]):
                _dense_grad_input(grad, weight, indptr, indices, sizes, steps, grad_x)
            else:
                launch.grad_input(grad, kernels, graph, axes, grad_x)
        if needed[1]:
            grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
            if grad.numel() and weight.numel():
                processors = _processors(x.device)
                grads = launch.grad_weight(grad, x, kernels, graph, axes, processors=processors)
                grad_weight = grads.view(weight.shape)
    return grad_x, grad_weight


def _kernels(weight: Tensor, steps: tuple[list[int], ...]) -> Tensor:
    """(num_edges, *kernel_size), where a linear layer has no kernel."""
    return weight if steps[0] else weight.reshape(-1)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _device(x: Tensor) -> Any:
    """Triton launches on the current device, which may be another one."""
    return torch.cuda.device(x.device if x.is_cuda else -1)


def _dense_grad_input(
    grad: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    steps: tuple[list[int], ...],
    out: Tensor,
) -> None:
    stride, padding, dilation = steps
    pattern = _pattern(indptr, indices, sizes)
    dense = _masked.dense_weight(weight, pattern)
    if not stride:
        torch.mm(grad, dense.squeeze(-1), out=out)
        return
    zeros = [0] * len(stride)
    arguments = (None, stride, padding, dilation, False, zeros, 1, [True, False, False])
    out.copy_(torch.ops.aten.convolution_backward(grad, out, dense, *arguments)[0])


def _pattern(indptr: Tensor, indices: Tensor, sizes: list[int]) -> Pattern:
    # The degrees are not needed for positions, and reading them would wait for the device.
    return Pattern(indptr, indices, sizes[0], sizes[1], (sizes[2], sizes[3]), 0, False)


def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    *steps: list[int],
) -> Tensor:
    return _empty_output(x, weight, sizes, *steps)


def _backward_fake(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    needed = rest[-1]
    return (
        _empty_channels_last(x, list(x.shape)) if needed[0] else x.new_empty(0),
        weight.new_empty(weight.shape if needed[1] else (0,)),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, indptr, indices, *rest = inputs
    ctx.save_for_backward(x, weight, indptr, indices)
    ctx.has_bias = bias is not None
    ctx.rest = rest


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, indptr, indices = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    if torch.is_grad_enabled():  # a gradient of this gradient is wanted: use what torch can derive
        grads = _differentiable(x, weight, grad, indptr, indices, ctx.rest)
    else:
        arguments = (indptr, indices, *ctx.rest, needed)
        grads = torch.ops.xnets.triton_backward(grad, x, weight, *arguments)
    grad_x, grad_weight = (g if n else None for g, n in zip(grads, needed, strict=True))
    grad_bias = None
    if ctx.has_bias and ctx.needs_input_grad[2]:
        grad_bias = grad.sum([d for d in range(grad.dim()) if d != 1])
    return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _differentiable(
    x: Tensor, weight: Tensor, grad: Tensor, indptr: Tensor, indices: Tensor, rest: list[Any]
) -> tuple[Tensor, ...]:
    sizes, *steps = rest
    x, weight = (t if t.requires_grad else t.detach().requires_grad_() for t in (x, weight))
    stride, padding, dilation = map(tuple, steps)
    pattern = _pattern(indptr, indices, sizes)
    y = _masked.run(Call(x, weight, None, pattern, len(stride), stride, padding, dilation))
    return torch.autograd.grad(y, (x, weight), grad, create_graph=True)


for _key in ("CUDA", "CPU"):  # on the CPU: Triton's interpreter
    _OPS.impl("triton", _forward, _key)
    _OPS.impl("triton_backward", _backward, _key)
torch.library.register_fake("xnets::triton", _forward_fake, lib=_OPS)
torch.library.register_fake("xnets::triton_backward", _backward_fake, lib=_OPS)
torch.library.register_autograd("xnets::triton", _differentiate, setup_context=_save, lib=_OPS)
