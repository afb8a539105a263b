"""The expander linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xnets import ops
from xnets.graphs import BipartiteGraph, Seed
from xnets.nn._base import ExpanderLayer
from xnets.nn._graph import layer_graph


class ExpanderLinear(ExpanderLayer):
    """A linear layer whose weights lie on the edges of a bipartite graph (X-Linear).

    Source: sections 3.1 and 3.2 of the paper. Give exactly one of `compression`, `degree`, `graph`.

    Args:
        in_features: Size of each input sample.
        out_features: Size of each output sample.
        bias: Whether to add a learned bias.
        device: As in torch.
        dtype: As in torch.
        compression: How many times fewer weights than dense: D = max(1, in_features //
            compression).
        degree: Inputs per output D.
        graph: A graph from in_features inputs to out_features outputs.
        family: What to draw the graph from; see xnets.graphs.list_families.
        block: (b_out, b_in): outputs that share their inputs, and inputs taken together.
        seed: Seed of the graph (not of the weights: torch.manual_seed is).
        backend: "auto", or the one backend that must run this layer.

    Shape:
        - Input: (*, in_features).
        - Output: (*, out_features).

    Attributes:
        weight: Shape (num_edges, 1), in the graph's canonical edge order.
        bias: Shape (out_features,), or None.

    Raises:
        ValueError: If the graph cannot be drawn, or does not fit.

    Examples:
        >>> layer = ExpanderLinear(64, 32, compression=4)
        >>> layer
        ExpanderLinear(in_features=64, out_features=32, bias=True, compression=4, edges=512)
        >>> layer(torch.zeros(2, 64)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        compression: float | None = None,
        degree: int | None = None,
        graph: BipartiteGraph | None = None,
        family: str = "random",
        block: tuple[int, int] = (1, 1),
        seed: Seed = 0,
        backend: str = "auto",
    ) -> None:
        graph = layer_graph(
            in_features,
            out_features,
            1,
            compression=compression,
            degree=degree,
            graph=graph,
            family=family,
            block=block,
            seed=seed,
            names=("in_features", "out_features"),
        )
        super().__init__(
            graph, (1,), groups=1, bias=bias, backend=backend, device=device, dtype=dtype
        )
        self.in_features = in_features
        self.out_features = out_features

    def call(self, input: Tensor) -> ops.Call:
        """The call of the op that `forward` makes for `input`."""
        return ops.Call(input, self.weight, self.bias, self.pattern, spatial=0)

    def dense_weight(self) -> Tensor:
        """The weight of torch's layer, (out_features, in_features), zero off the graph."""
        return super().dense_weight().squeeze(-1)

    @classmethod
    def from_dense(
        cls,
        layer: nn.Linear,
        *,
        compression: float | None = None,
        degree: int | None = None,
        graph: BipartiteGraph | None = None,
        family: str = "random",
        block: tuple[int, int] = (1, 1),
        seed: Seed = 0,
        backend: str = "auto",
    ) -> ExpanderLinear:
        """Take over the weights of a dense layer that lie on the edges of a graph.

        Args:
            layer: A torch.nn.Linear.
            compression: As in the constructor.
            degree: As in the constructor.
            graph: As in the constructor. Without any of the three: the non-zero weights of `layer`.
            family: As in the constructor.
            block: As in the constructor.
            seed: As in the constructor.
            backend: As in the constructor.

        Returns:
            A new layer of the same device and dtype, which copies weights and bias.

        Raises:
            ValueError: As the constructor.
            TypeError: If `layer` is no torch.nn.Linear.

        Examples:
            >>> layer = ExpanderLinear(8, 4, degree=2)
            >>> torch.equal(ExpanderLinear.from_dense(layer.to_dense()).weight, layer.weight)
            True
        """
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"`layer` must be a torch.nn.Linear, got {type(layer).__name__}")
        if compression is None and degree is None and graph is None:
            graph = BipartiteGraph.from_mask((layer.weight != 0).cpu().numpy(), block=block)
        new = cls(
            layer.in_features,
            layer.out_features,
            layer.bias is not None,
            layer.weight.device,
            layer.weight.dtype,
            compression=compression,
            degree=degree,
            graph=graph,
            family=family,
            block=block,
            seed=seed,
            backend=backend,
        )
        new._copy_from_dense(layer.weight, layer.bias)
        return new.train(layer.training)

    def to_dense(self) -> nn.Linear:
        """The torch.nn.Linear that computes the same, with zeros off the graph.

        Returns:
            A new layer of the same device, dtype and mode.

        Examples:
            >>> ExpanderLinear(8, 4, degree=2).to_dense()
            Linear(in_features=8, out_features=4, bias=True)
        """
        dense: nn.Linear = nn.utils.skip_init(
            nn.Linear,
            self.in_features,
            self.out_features,
            self.bias is not None,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        with torch.no_grad():
            dense.weight.copy_(self.dense_weight())
            if self.bias is not None:
                dense.bias.copy_(self.bias)
        return dense.train(self.training)

    def extra_repr(self) -> str:
        """The layer's arguments, as torch prints them."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, {self._graph_repr()}"
        )
