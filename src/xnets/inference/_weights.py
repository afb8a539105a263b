"""The weights of one product: on the edges of a graph, whatever the graph is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from xnets.ops import Pattern, edge_positions, make_pattern

T = TypeVar("T", bound=Tensor | None)
# What the compiled library computes in, whatever torch's defaults are at the moment.
FLOATS: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights on the edges of a graph; that of a dense layer is complete, of a grouped in pieces.

    Args:
        edges: One kernel an edge, (num_edges, *kernel); of a linear layer (num_edges, 1).
        num_in: Inputs of the graph.
        num_out: Outputs.
        pattern: The graph of an expander layer; None for torch's layers.
        groups: Of torch's layers.
        is_linear: Whether they are of a linear layer.
    """

    edges: Tensor
    num_in: int
    num_out: int
    pattern: Pattern | None = None
    groups: int = 1
    is_linear: bool = False

    @property
    def kernel(self) -> tuple[int, ...]:
        """The size of a kernel."""
        return tuple(self.edges.shape[1:])

    @property
    def kind(self) -> str:
        """What sort of layer they are of."""
        if self.pattern is not None:
            return "expander"
        if self.groups == 1:
            return "dense"
        return "depthwise" if self.groups == self.num_in == self.num_out else "grouped"

    @property
    def density(self) -> float:
        """Edges over inputs times outputs."""
        return self.edges.shape[0] / (self.num_in * self.num_out)

    def scaled(self, scale: Tensor) -> Weights:
        """The weights of the layer followed by a multiplication of every output.

        Args:
            scale: One number an output.

        Returns:
            New weights.
        """
        fan_in = self.edges.shape[0] // self.num_out
        if self.pattern is not None:
            b_out, b_in = self.pattern.block
            fan: int | Tensor = self.pattern.indptr.diff().repeat_interleave(b_out) * b_in
        else:
            fan = torch.full((self.num_out,), fan_in, device="cpu")
        factor = scale.double().repeat_interleave(fan, output_size=self.edges.shape[0])
        scaled = self.edges.double() * factor.view(-1, *[1] * (self.edges.dim() - 1))
        return replace(self, edges=scaled.to(self.edges.dtype))

    @cached_property
    def torch_groups(self) -> int:
        """The most groups of a torch layer that has all these edges; linear layers have none."""
        if self.pattern is None:
            return self.groups
        return 1 if self.is_linear else _groups_of(self.pattern)

    @cached_property
    def _forms(self) -> dict[str, weakref.ref[Tensor] | None]:
        return {}

    @cached_property
    def kept(self) -> list[Tensor]:
        """Forms that stay while plans are made: what is measured first need not be made again."""
        return []

    def form(self, name: str, make: Callable[[], T]) -> T:
        """The same weights, or tables of their graph, as some kernel wants them.

        Args:
            name: Of the form.
            make: Makes it, or returns None where the kernel is better off without it.

        Returns:
            The same tensor each time as long as somebody holds it: plans of several sizes share it.
        """
        known: Any = None
        if name in self._forms:
            reference = self._forms[name]
            if reference is None or (known := reference()) is not None:
                return cast(T, known)
        made = make()
        self._forms[name] = None if made is None else weakref.ref(made)
        return made

    def dense(self) -> Tensor:
        """The weight of torch's convolution, whose groups are `torch_groups`.

        Returns:
            (num_out, num_in / groups, *kernel); of a linear layer the kernel is (1,).
        """
        groups = self.torch_groups
        width = self.num_in // groups
        if self.pattern is None:
            return self.edges.view(self.num_out, width, *self.kernel)
        # Not ops.dense_weight, which remembers the positions: 8 bytes an edge.
        positions = partial(edge_positions, self.pattern, groups)

        def scatter() -> Tensor:
            flat = self.edges.new_zeros(self.num_out * width, *self.kernel)
            flat.index_copy_(0, positions(), self.edges)
            return flat.view(self.num_out, width, *self.kernel)

        return self.form("dense", scatter)

    def graph(self, rows: int) -> Pattern:
        """The graph in blocks.

        Args:
            rows: Outputs that share their neighbour list, of torch's layers; expander layers have
                their own.

        Returns:
            The graph; its edges are in the order of `edges`.
        """
        if self.pattern is not None:
            return self.pattern
        width, height = self.num_in // self.groups, self.num_out // self.groups
        if height % rows:
            raise ValueError(f"`rows` (={rows}) must divide {height}, the outputs of a group")
        rows_of_group = height // rows
        indptr = torch.arange(self.groups * rows_of_group + 1, device="cpu")
        indices = torch.arange(self.groups, device="cpu").repeat_interleave(rows_of_group)
        return make_pattern(indptr, indices, self.num_in, self.num_out, (rows, width))


def _groups_of(pattern: Pattern) -> int:
    """In how many equal, complete pieces a graph falls, neighbours staying neighbours; else 1."""
    rows, edges = pattern.base_num_out, pattern.indices.shape[0]
    columns = pattern.num_in // pattern.block[1]
    degree = edges // max(1, rows)
    if not pattern.is_regular or degree == 0 or columns % degree:
        return 1
    groups = columns // degree
    if rows % groups:
        return 1
    first = torch.arange(groups, device="cpu").repeat_interleave(rows // groups) * degree
    expected = (first[:, None] + torch.arange(degree, device="cpu")).reshape(-1)
    return groups if torch.equal(expected.to(pattern.indices), pattern.indices) else 1
