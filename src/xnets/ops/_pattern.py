"""What an op knows of a graph: index tensors, and the sizes that cannot be read off them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Components:
    """What a graph falls into, if that is complete graphs of one size: a grouped convolution's.

    Args:
        count: How many there are.
        inputs_in_order: Whether each has consecutive inputs, and the next one those that follow.
        outputs_in_order: Whether the outputs do, in the order of their components' first inputs.
    """

    count: int
    inputs_in_order: bool
    outputs_in_order: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A bipartite graph as tensors: a base graph in CSR form by output, and its block.

    Args:
        indptr: Row pointers of the base graph, int32, shape (num_out / b_out + 1,).
        indices: Base inputs of each base output, int32, shape (base edges,).
        num_in: Number of inputs of the whole graph.
        num_out: Number of outputs of the whole graph.
        block: (b_out, b_in).
        max_degree: The largest number of base inputs of a base output.
        is_regular: Whether every base output has `max_degree` base inputs.
        components: What the graph falls into, if that is complete graphs of one size. These three
            are derived from values, which may change, so what can do without them should.
    """

    indptr: Tensor
    indices: Tensor
    num_in: int
    num_out: int
    block: tuple[int, int]
    max_degree: int
    is_regular: bool
    components: Components | None = None
    # What calls of each kind need, kept by _cpu_again.py; no copy has it.
    known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what the graph is made of."""
        return Pattern, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    @property
    def num_edges(self) -> int:
        """Edges of the whole graph, which is the first size of the weight."""
        return self.indices.shape[0] * self.block[0] * self.block[1]

    @property
    def base_num_out(self) -> int:
        """Outputs of the base graph: the outputs that have a neighbour list of their own."""
        return self.num_out // self.block[0]


def make_pattern(
    indptr: Tensor, indices: Tensor, num_in: int, num_out: int, block: tuple[int, int] = (1, 1)
) -> Pattern:
    """Build a `Pattern`, reading the degrees off the tensors.

    Args:
        indptr: Row pointers of the base graph, shape (num_out / b_out + 1,), int32 or int64.
        indices: Base inputs, shape (base edges,), increasing within a row.
        num_in: Number of inputs of the whole graph.
        num_out: Number of outputs of the whole graph.
        block: (b_out, b_in).

    Returns:
        The pattern, on the tensors' device.

    Examples:
        >>> make_pattern(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), 4, 2).max_degree
        2
    """
    low, high = torch.aminmax(indptr.diff())
    max_degree = int(high)
    return Pattern(
        indptr.to(torch.int32),
        indices.to(torch.int32),
        num_in,
        num_out,
        block,
        max_degree,
        bool(low == max_degree),
        find_components(indptr.cpu().numpy(), indices.cpu().numpy(), num_in // block[1]),
    )


def find_components(indptr: Indices, indices: Indices, base_num_in: int) -> Components | None:
    """What a graph falls into, if that is complete graphs of one size that have all its inputs.

    The product with a complete graph, the block, changes nothing of that.

    Args:
        indptr: Row pointers of the base graph. Arrays, for tensors may have no values to read.
        indices: Base inputs, increasing within a row.
        base_num_in: Number of base inputs.

    Returns:
        The components, or None if they are others.

    Examples:
        >>> find_components(np.array([0, 2, 4]), np.array([0, 2, 1, 3]), 4)
        Components(count=2, inputs_in_order=False, outputs_in_order=True)
        >>> find_components(np.array([0, 2, 4]), np.array([0, 1, 1, 2]), 3)
    """
    rows = len(indptr) - 1
    degree = len(indices) // rows
    if degree == 0 or base_num_in % degree or rows % (count := base_num_in // degree):
        return None
    if (np.diff(indptr) != degree).any():
        return None
    lists = indices.reshape(rows, degree)
    order = lists[:, 0].argsort(kind="stable")
    firsts = lists[order, 0].reshape(count, rows // count)
    # Most other graphs differ here already, before their edges are copied.
    if (firsts[:, 0] != firsts[:, -1]).any() or (np.diff(firsts[:, 0]) <= 0).any():
        return None
    ordered = lists[order].reshape(count, rows // count, degree)
    inputs = ordered[:, 0].ravel()
    everything = np.arange(base_num_in)
    if (np.sort(inputs) != everything).any() or (ordered != ordered[:, :1]).any():
        return None
    return Components(
        count,
        inputs_in_order=bool((inputs == everything).all()),
        outputs_in_order=bool((order == np.arange(rows)).all()),
    )


def within_blocks(base: Tensor, side: int) -> Tensor:
    """The nodes of base nodes whose blocks have a side of so many.

    Args:
        base: Base inputs, or base outputs.
        side: How many nodes each stands for.

    Returns:
        The nodes, in the same order.

    Examples:
        >>> within_blocks(torch.tensor([2, 0]), 3)
        tensor([6, 7, 8, 0, 1, 2])
    """
    if side == 1:
        return base
    step = torch.arange(side, device=base.device, dtype=base.dtype)
    return (base[:, None] * side + step).reshape(-1)


def edge_positions(pattern: Pattern, groups: int = 1) -> Tensor:
    """Where each edge lies in the flattened dense weight (num_out, num_in / groups).

    Args:
        pattern: The graph; with groups > 1 its edges must stay within their group.
        groups: torch's `groups`: the dense weight has only each output's own group of inputs.

    Returns:
        int64 positions in canonical edge order, shape (num_edges,).

    Examples:
        >>> pattern = make_pattern(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), 4, 2)
        >>> edge_positions(pattern)
        tensor([0, 3, 5])
    """
    sizes = (pattern.num_in, pattern.num_out, *pattern.block, groups)
    return edge_positions_of(pattern.indptr, pattern.indices, *sizes)


def edge_positions_of(
    indptr: Tensor, indices: Tensor, num_in: int, num_out: int, b_out: int, b_in: int, groups: int
) -> Tensor:
    """`edge_positions` of a pattern that is given by its parts."""
    width = num_in // groups
    device = indices.device
    output = torch.arange(num_out, device=device)
    # Output v of group g starts at v * width, and its inputs are counted from g * width.
    row_start = output * width - output // (num_out // groups) * width
    within_block = torch.arange(b_in, device=device)
    base_degree = indptr.diff().repeat_interleave(b_out)  # of every output
    num_rows_edges = indices.shape[0] * b_out
    output_of = output.repeat_interleave(base_degree, output_size=num_rows_edges)
    # Outputs of one block row read the same stretch of `indices`, one after the other.
    row_end = base_degree.cumsum(0)
    step = torch.arange(num_rows_edges, device=device) - (row_end - base_degree)[output_of]
    base_edge = indptr[output_of // b_out] + step
    first_input = indices[base_edge] * b_in
    positions = (row_start[output_of] + first_input)[:, None] + within_block
    return positions.reshape(-1)
