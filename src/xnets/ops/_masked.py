"""Scatter the edges into a dense weight and let torch's own kernels run it.

The right answer at compression 1 and for tiny layers: full dense cost, but no index in the inner
loop. The gradient of the scatter is a gather, so the weight's gradient has num_edges entries.
"""

from __future__ import annotations

from torch import Tensor

from xnets.ops._call import Call
from xnets.ops._pattern import Pattern, edge_positions


def run(call: Call) -> Tensor:
    """Run the call densely."""
    return call.run_dense(dense_weight(call.weight, call.pattern, call.groups))


def dense_weight(weight: Tensor, pattern: Pattern, groups: int = 1) -> Tensor:
    """The weight of torch's layer, zero off the graph; differentiable in `weight`.

    Args:
        weight: (num_edges, *kernel_size).
        pattern: The graph.
        groups: torch's `groups`.

    Returns:
        (num_out, num_in / groups, *kernel_size).
    """
    width = pattern.num_in // groups
    flat = weight.new_zeros(pattern.num_out * width, *weight.shape[1:])
    flat = flat.index_copy(0, edge_positions(pattern, groups), weight)
    return flat.view(pattern.num_out, width, *weight.shape[1:])
