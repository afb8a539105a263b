"""Scatter the edges into a dense weight and let torch's own kernels run it.

The right answer at compression 1 and for tiny layers: full dense cost, but no index in the inner
loop. The gradient of the scatter is a gather, so the weight's gradient has num_edges entries.
"""

from __future__ import annotations

from torch import Tensor

from xnets.ops._call import Call
from xnets.ops._eager import in_function_transform, runs_eagerly
from xnets.ops._on_device import PerGraphOnDevice
from xnets.ops._pattern import Pattern, edge_positions_of


def run(call: Call) -> Tensor:
    """Run the call densely."""
    return call.run_dense(dense_weight(call.weight, call.pattern, call.groups))


# 8 bytes an edge, where the graph is nearly dense or small: less than its activations.
_positions = PerGraphOnDevice(edge_positions_of)


def dense_weight(weight: Tensor, pattern: Pattern, groups: int = 1) -> Tensor:
    """The weight of torch's layer, zero off the graph; differentiable in `weight`.

    Args:
        weight: (num_edges, *kernel_size).
        pattern: The graph.
        groups: torch's `groups`.

    Returns:
        (num_out, num_in / groups, *kernel_size).

    Examples:
        >>> import torch
        >>> from xnets.ops import make_pattern
        >>> pattern = make_pattern(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), 4, 2)
        >>> dense_weight(torch.tensor([[5], [6], [7]]), pattern).squeeze(-1)
        tensor([[5, 0, 0, 6],
                [0, 7, 0, 0]])
    """
    width, kernel = pattern.num_in // groups, weight.shape[1:]
    shape = (pattern.num_out * width, *kernel)
    arguments = (pattern.indptr, pattern.indices)
    find = _positions if runs_eagerly(weight, *arguments) else edge_positions_of
    positions = find(*arguments, pattern.num_in, pattern.num_out, *pattern.block, groups)
    if in_function_transform():  # vmap may not write many weights into one tensor of zeros
        flat = weight.new_zeros(shape).index_copy(0, positions, weight)
    elif kernel.numel() == 1:  # scatter_ knows one dimension best: 3 times as fast
        flat = weight.new_zeros(shape[0]).scatter_(0, positions, weight.reshape(-1))
    else:
        flat = weight.new_zeros(shape).index_copy_(0, positions, weight)
    return flat.view(pattern.num_out, width, *kernel)
