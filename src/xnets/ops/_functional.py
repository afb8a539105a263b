"""The ops as functions: the counterparts of torch.nn.functional's linear and convolutions."""

from __future__ import annotations

from torch import Tensor

from xnets.ops._call import Call
from xnets.ops._dispatch import run
from xnets.ops._pattern import Pattern


def expander_linear(
    input: Tensor,  # (..., num_in)
    weight: Tensor,  # (num_edges, 1)
    bias: Tensor | None,  # (num_out,)
    pattern: Pattern,
    *,
    backend: str = "auto",
) -> Tensor:  # (..., num_out)
    """Apply a linear map whose weights lie on the edges of a graph (section 3.1 of the paper).

    Args:
        input: Any leading shape, then num_in features.
        weight: One weight an edge, in canonical order, shape (num_edges, 1).
        bias: One value an output, or None.
        pattern: The graph.
        backend: "auto", or one of `list_backends()`.

    Returns:
        The leading shape of `input`, then num_out features.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit, or the backend cannot run this.

    Examples:
        >>> import torch
        >>> from xnets.ops import make_pattern
        >>> pattern = make_pattern(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), 4, 2)
        >>> weight = torch.tensor([[1.0], [10.0], [100.0]])
        >>> expander_linear(torch.arange(4.0), weight, None, pattern)
        tensor([ 30., 100.])
    """
    return run(Call(input, weight, bias, pattern, spatial=0), backend)


def expander_conv(
    input: Tensor,  # ([batch,] num_in, *size)
    weight: Tensor,  # (num_edges, *kernel_size)
    bias: Tensor | None,  # (num_out,)
    pattern: Pattern,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    backend: str = "auto",
) -> Tensor:  # ([batch,] num_out, *output size)
    """Convolve with kernels that lie on the edges of a graph (section 3.1 of the paper).

    Args:
        input: A batch of signals, images or volumes, or one of them.
        weight: One kernel an edge, in canonical order.
        bias: One value an output channel, or None.
        pattern: The graph between channels; with groups > 1 its edges stay within their group.
        stride: One int a spatial dimension.
        padding: One int a spatial dimension: zeros on both sides.
        dilation: One int a spatial dimension.
        groups: torch's `groups`.
        backend: "auto", or one of `list_backends()`.

    Returns:
        What torch's convolution gives with the weights scattered into a dense kernel.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit, or the backend cannot run this.

    Examples:
        >>> import torch
        >>> from xnets.ops import make_pattern
        >>> pattern = make_pattern(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), 4, 2)
        >>> image, kernels = torch.ones(1, 4, 5, 5), torch.ones(3, 3, 3)
        >>> one = (1, 1)
        >>> y = expander_conv(
        ...     image, kernels, None, pattern, stride=one, padding=(0, 0), dilation=one
        ... )
        >>> y[0, :, 0, 0]
        tensor([18.,  9.])
    """
    call = Call(
        input,
        weight,
        bias,
        pattern,
        spatial=weight.dim() - 1,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return run(call, backend)
