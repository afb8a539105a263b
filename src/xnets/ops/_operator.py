"""What backends with kernels of their own share: one operator of torch each, and its gradient.

`xnets::NAME` takes (samples, channels, *size) and the graph's tensors; a linear layer is the
operator without strides. Registered with torch.library, so that autograd, torch.compile and
torch.export know it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from xnets.ops import _masked
from xnets.ops._call import Call
from xnets.ops._eager import runs_eagerly
from xnets.ops._pattern import Pattern

Apply = Callable[..., Tensor]

_GRAPH = "Tensor indptr, Tensor indices, int[] sizes"
_STEPS = "int[] stride, int[] padding, int[] dilation"
# A fragment, as each backend adds its own; operators go when their library object does.
_LIBRARY = torch.library.Library("xnets", "FRAGMENT")


def register(
    name: str,
    devices: Sequence[str],
    forward: Callable[..., Tensor],
    backward: Callable[..., tuple[Tensor, Tensor]],
    new_empty: Callable[[Tensor, list[int]], Tensor] = Tensor.new_empty,
) -> Apply:
    """Register the operator `xnets::name` and its gradient.

    Args:
        name: Of the operator.
        devices: Dispatch keys, such as "CPU", that the functions serve.
        forward: (x, weight, bias or None, indptr, indices, [num_in, num_out, b_out, b_in], stride,
            padding, dilation) -> output.
        backward: (gradient of the output, x, weight, indptr, ..., dilation, [input wanted, weight
            wanted]) -> both gradients, empty where not wanted.
        new_empty: Allocates output and input gradient, in the memory layout that the functions give
            them.

    Returns:
        The operator, to be called as `forward` is: past torch's dispatcher, whose detour by Python
        costs some 25 microseconds, where nothing would notice.
    """
    _LIBRARY.define(f"{name}(Tensor x, Tensor weight, Tensor? bias, {_GRAPH}, {_STEPS}) -> Tensor")
    _LIBRARY.define(
        f"{name}_backward(Tensor grad, Tensor x, Tensor weight, {_GRAPH}, {_STEPS}, bool[] needed)"
        " -> (Tensor, Tensor)"
    )
    for device in devices:
        _LIBRARY.impl(name, forward, device)
        _LIBRARY.impl(f"{name}_backward", backward, device)

    def fake(
        x: Tensor, weight: Tensor, bias: Any, indptr: Any, indices: Any, sizes: Any, *steps: Any
    ) -> Tensor:
        return new_empty(x, output_shape(x, weight, sizes, *steps))

    def fake_backward(
        grad: Tensor, x: Tensor, weight: Tensor, *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        wants_input, wants_weight = arguments[-1]
        grad_x = new_empty(x, list(x.shape)) if wants_input else x.new_empty(0)
        return grad_x, weight.new_empty(weight.shape if wants_weight else (0,))

    def backward_of(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[:3]
        direct = runs_eagerly(grad, *saved[:2])
        operator = backward if direct else getattr(torch.ops.xnets, f"{name}_backward")
        return *differentiate(operator, grad, *saved, *ctx.rest, needed=needed), *[None] * 6

    qualified = f"xnets::{name}"
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    torch.library.register_fake(f"{qualified}_backward", fake_backward, lib=_LIBRARY)
    torch.library.register_autograd(qualified, backward_of, setup_context=_save, lib=_LIBRARY)

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensor:  # type: ignore[override]
            # Not by setup_context, for whose sake torch would inspect the signature at every call.
            output = forward(*arguments)
            _save(ctx, arguments, output)
            return output

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
            return backward_of(ctx, grad)

    def apply(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        if not runs_eagerly(x, weight, bias):
            operator: Apply = getattr(torch.ops.xnets, name)
            return operator(x, weight, bias, *rest)
        wants_gradient = torch.is_grad_enabled() and any(
            tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)
        )
        run: Apply = Direct.apply if wants_gradient else forward
        return run(x, weight, bias, *rest)

    return apply


def run(apply: Apply, call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply the operator to a call's graph and the given tensors, brought into its shape."""
    pattern = call.pattern
    shape, dims = x.shape, call.spatial + 2
    if call.spatial == 0 and x.dim() != dims:
        x = x.reshape(-1, pattern.num_in)
    elif x.dim() != dims:
        x = x.unsqueeze(0)
    y = apply(
        x,
        weight,
        bias,
        pattern.indptr,
        pattern.indices,
        [pattern.num_in, pattern.num_out, *pattern.block],
        call.stride,
        call.padding,
        call.dilation,
    )
    if len(shape) == dims:
        return y
    return y.squeeze(0) if call.spatial else y.view(*shape[:-1], pattern.num_out)


def output_shape(
    x: Tensor, weight: Tensor, sizes: Sequence[int], *steps: Sequence[int]
) -> list[int]:
    """The shape of the operator's output.

    Args:
        x: (samples, num_in, *size).
        weight: (num_edges, *kernel_size).
        sizes: [num_in, num_out, b_out, b_in].
        steps: Stride, padding and dilation.

    Returns:
        [samples, num_out, *output size].

    Raises:
        ValueError: If the kernel is larger than the padded input.
    """
    stride, padding, dilation = steps
    if not stride:
        return [x.shape[0], sizes[1]]
    spatial = []
    for i, k, s, p, d in zip(x.shape[2:], weight.shape[1:], stride, padding, dilation, strict=True):
        if i + 2 * p < d * (k - 1) + 1:
            raise ValueError(
                f"the kernel (size {tuple(weight.shape[1:])}, dilation {tuple(dilation)}) is larger"
                f" than the padded input (size {tuple(x.shape[2:])}, padding {tuple(padding)})"
            )
        spatial.append((i + 2 * p - d * (k - 1) - 1) // s + 1)
    return [x.shape[0], sizes[1], *spatial]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, indptr, indices, *rest = inputs
    ctx.save_for_backward(x, weight, indptr, indices)
    ctx.rest = rest


def differentiate(
    backward: Callable[..., tuple[Tensor, Tensor]],
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    *rest: Any,
    needed: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients to input, weight and bias.

    Args:
        backward: As `register` takes it.
        grad: Gradient of the output.
        x: The input.
        weight: The weight.
        rest: The graph and the steps, as `forward` takes them.
        needed: Which of the three are wanted.

    Returns:
        The gradients, None where not wanted.
    """
    # A gradient of this gradient, or gradients side by side: by what torch can derive.
    if torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(grad):
        grads = _differentiable(x, weight, grad, *rest)
    else:
        grads = backward(grad, x, weight, *rest, list(needed[:2]))
    grad_x, grad_weight = (g if n else None for g, n in zip(grads, needed, strict=False))
    grad_bias = grad.sum([d for d in range(grad.dim()) if d != 1]) if needed[2] else None
    return grad_x, grad_weight, grad_bias


def _differentiable(
    x: Tensor,
    weight: Tensor,
    grad: Tensor,
    indptr: Tensor,
    indices: Tensor,
    sizes: list[int],
    *steps: list[int],
) -> tuple[Tensor, ...]:
    again = torch.is_grad_enabled()
    x, weight = (t if t.requires_grad else t.detach().requires_grad_() for t in (x, weight))
    stride, padding, dilation = map(tuple, steps)
    pattern = pattern_of(indptr, indices, sizes)
    with torch.enable_grad():
        y = _masked.run(Call(x, weight, None, pattern, len(stride), stride, padding, dilation))
    return torch.autograd.grad(y, (x, weight), grad, create_graph=again)


def pattern_of(indptr: Tensor, indices: Tensor, sizes: list[int]) -> Pattern:
    """The graph without its degrees: dense weights need none, and a GPU would be waited for."""
    num_in, num_out, b_out, b_in = sizes
    return Pattern(indptr, indices, num_in, num_out, (b_out, b_in), 0, False)
