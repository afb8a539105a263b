"""The Triton kernels as an operator of torch: xnets::triton and its gradient.

Importing this loads no Triton: the kernels come with the first call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xnets.ops import _masked
from xnets.ops._operator import output_shape, pattern_of, register


def padded_inputs_are_dense(sizes: list[int], base_edges: int) -> bool:
    """Whether the input gradient is cheaper through a dense weight.

    Its tiles hold the inputs of one block, at least 16; narrower blocks pad them. A list that b
    outputs share is not shared by inputs.

    Args:
        sizes: [num_in, num_out, b_out, b_in].
        base_edges: Edges of the base graph.

    Returns:
        Whether the padded tiles hold as many weights as the dense weight.

    Examples:
        >>> padded_inputs_are_dense([256, 256, 32, 32], base_edges=16)
        False
        >>> padded_inputs_are_dense([256, 256, 32, 1], base_edges=512)
        True
    """
    num_in, num_out, b_out, b_in = sizes
    return base_edges * b_out * max(16, b_in) >= num_in * num_out and b_in < 16


def _new_empty(like: Tensor, shape: list[int]) -> Tensor:
    """Channels last, whatever the number of dimensions."""
    return like.new_empty([shape[0], *shape[2:], shape[1]]).movedim(-1, 1)


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

    out = _new_empty(x, output_shape(x, weight, sizes, *steps))
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
    *steps_and_needed: Any,
) -> tuple[Tensor, Tensor]:
    from xnets.ops._triton import launch

    *steps, (wants_input, wants_weight) = steps_and_needed
    graph = launch.Graph(indptr, indices, (sizes[2], sizes[3]))
    kernels = _kernels(weight, steps)
    axes = launch.forward_axes(tuple(kernels.shape[1:]), *steps)
    grad_x, grad_weight = x.new_empty(0), weight.new_empty(0)
    with _device(x):
        if wants_input:
            grad_x = _new_empty(x, list(x.shape))
            if not grad.numel():
                grad_x.zero_()
            elif padded_inputs_are_dense(sizes, indices.shape[0]):
                _dense_grad_input(grad, weight, indptr, indices, sizes, *steps, out=grad_x)
            else:
                launch.grad_input(grad, kernels, graph, axes, grad_x)
        if wants_weight and not (grad.numel() and weight.numel()):
            grad_weight = weight.new_zeros(weight.shape)
        elif wants_weight:
            processors = _processors(x.device)
            grads = launch.grad_weight(grad, x, kernels, graph, axes, processors=processors)
            grad_weight = grads.view(weight.shape)
    return grad_x, grad_weight


def _kernels(weight: Tensor, steps: Any) -> Tensor:
    """(num_edges, *kernel_size), where a linear layer has no kernel."""
    return weight if steps[0] else weight.reshape(-1)


def _device(x: Tensor) -> Any:
    """Triton launches on the current device, which may be another one than the tensors'."""
    return torch.cuda.device(x.device if x.is_cuda else -1)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _dense_grad_input(
    grad: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    *,
    out: Tensor,
) -> None:
    dense = _masked.dense_weight(weight, pattern_of(indptr, indices, sizes))
    if not stride:
        torch.mm(grad, dense.squeeze(-1), out=out)
        return
    zeros, wanted = [0] * len(stride), [True, False, False]
    arguments = (None, stride, padding, dilation, False, zeros, 1, wanted)
    out.copy_(torch.ops.aten.convolution_backward(grad, out, dense, *arguments)[0])


# On the CPU: Triton's interpreter.
apply = register("triton", ("CUDA", "CPU"), _forward, _backward, _new_empty)
