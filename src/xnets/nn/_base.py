"""What all expander layers share: the graph's buffers, the compact weight, saving and loading."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xnets import ops
from xnets.graphs import BipartiteGraph
from xnets.nn._loading import read_pattern

_COUNTER = itertools.count()


class ExpanderLayer(nn.Module):
    """A layer whose weights lie on the edges of a bipartite graph.

    Not used directly: see ExpanderLinear and ExpanderConv1d/2d/3d.

    Attributes:
        weight: One kernel an edge, shape (num_edges, *kernel_size); (num_edges, 1) for linear.
        bias: Shape (num_out,), or None.
        indptr: Row pointers of the base graph, int32; a buffer.
        indices: Base inputs of each base output, int32; a buffer.
        num_in: Number of inputs of the graph.
        num_out: Number of outputs of the graph.
        block: (b_out, b_in) of the graph.
        backend: "auto" or the name of the backend that must run this layer; may be set at any time.
        drawn_from: (family, seed) of the graph that the layer was made with, where it was drawn by
            name; loading another pattern does not change it, so compare before trusting it.

    Examples:
        >>> import xnets
        >>> model = xnets.create_model("mlp", compression=4)
        >>> [layer.num_edges for layer in model.modules() if isinstance(layer, ExpanderLayer)]
        [16384, 16384]
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    indptr: Tensor
    indices: Tensor

    def __init__(
        self,
        graph: BipartiteGraph,
        kernel_size: tuple[int, ...],
        *,
        groups: int,
        bias: bool,
        backend: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_in, self.num_out = graph.num_in, graph.num_out
        self._kernel_shape = kernel_size
        self._groups = groups
        self.block = graph.block
        self.backend = backend
        self.drawn_from = graph.drawn_from
        shape = (graph.num_edges, *kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(graph.num_out, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        # On the meta device the graph waits here until the layer gets storage (see _apply).
        self._graph_for_meta = graph if self.weight.is_meta else None
        self.register_buffer("indptr", _index(graph.indptr, self.weight.device))
        self.register_buffer("indices", _index(graph.indices, self.weight.device))
        self._derive(graph)
        self.reset_parameters()

    @property
    def backend(self) -> str:
        """The backend that must run this layer, or "auto"; may be set at any time."""
        return self._backend

    @backend.setter
    def backend(self, name: str) -> None:
        self._backend = ops.check_backend(name)

    # --- the graph -------------------------------------------------------------------------------

    @property
    def num_edges(self) -> int:
        """Number of edges, which is the number of kernels."""
        return self.indices.shape[0] * self.block[0] * self.block[1]

    @property
    def compression(self) -> float:
        """How many times fewer weights than torch's layer of the same arguments."""
        dense = self.num_in // self._groups * self.num_out
        return dense / self.num_edges if self.num_edges else math.inf

    @property
    def graph(self) -> BipartiteGraph:
        """The graph, rebuilt from the buffers."""
        if self._graph_for_meta is not None:
            return self._graph_for_meta
        indptr, indices = self.indptr.cpu().numpy(), self.indices.cpu().numpy()
        return BipartiteGraph(self.num_in, self.num_out, indptr, indices, self.block)

    @property
    def pattern(self) -> ops.Pattern:
        """The graph as the ops see it."""
        indptr, indices = self._index_buffers()
        derived = self._derived
        same = derived.indices is indices and derived.indptr is indptr
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        if torch.compiler.is_compiling() or wrapped(indices):
            # No values to read here: the degrees are those of the last eager call.
            return replace(derived, indptr=indptr, indices=indices)
        if same and self._stamp == self._buffer_stamp():
            return derived
        if indices.is_meta:
            return replace(derived, indptr=indptr, indices=indices)
        if same:  # somebody wrote into the buffers, as DDP does at its start
            return self._derive()
        # Other buffers: functional_call lends them for one call, an assignment leaves them here.
        return ops.make_pattern(indptr, indices, self.num_in, self.num_out, self.block)

    def _derive(self, graph: BipartiteGraph | None = None) -> ops.Pattern:
        """Compute what follows from the buffers' values."""
        graph = graph or self.graph
        degrees = np.diff(graph.indptr)
        self._stamp = self._buffer_stamp()
        self._derived = ops.Pattern(
            self.indptr,
            self.indices,
            self.num_in,
            self.num_out,
            self.block,
            max_degree=int(degrees.max()),
            is_regular=bool(degrees.min() == degrees.max()),
            components=ops.find_components(
                graph.indptr, graph.indices, self.num_in // self.block[1]
            ),
        )
        return self._derived

    def _index_buffers(self) -> tuple[Tensor, Tensor]:
        # Not self.indptr: nn.Module's __getattr__ would cost more than all of `pattern`.
        return self._buffers["indptr"], self._buffers["indices"]  # type: ignore[return-value]

    def _buffer_stamp(self) -> tuple[int, int]:
        indptr, indices = self._index_buffers()
        if indices.is_inference():  # such tensors count no versions: never the same twice
            return -1, next(_COUNTER)
        return indptr._version, indices._version

    # --- weights ---------------------------------------------------------------------------------

    def edge_fan(self, mode: str = "fan_in") -> Tensor:
        """The true fan of every edge's kernel: how many weights meet at its output (or input).

        Args:
            mode: "fan_in": weights summed by the edge's output, D * kernel elements. "fan_out":
                weights that read the edge's input.

        Returns:
            float64 on the CPU, of a shape that broadcasts with `weight`: one value an edge, or a
            single one if all are equal.

        Raises:
            ValueError: If the mode is unknown.

        Examples:
            >>> import xnets
            >>> xnets.nn.ExpanderConv2d(8, 4, 3, degree=2).edge_fan()
            tensor([[[18.]]], dtype=torch.float64)
        """
        if mode not in ("fan_in", "fan_out"):
            raise ValueError(f"`mode` (={mode!r}) must be 'fan_in' or 'fan_out'")
        pattern = self.pattern
        if mode == "fan_in" and pattern.is_regular:
            fan = torch.tensor([pattern.max_degree * self.block[1]])
        else:
            graph = self.graph
            inputs, outputs = graph.edges().T
            end, degrees = (outputs, graph.fan_in) if mode == "fan_in" else (inputs, graph.fan_out)
            fan = torch.from_numpy(degrees[end])
        fan = fan.to(torch.float64) * math.prod(self._kernel_shape)
        return fan.view(-1, *[1] * len(self._kernel_shape))

    def reset_parameters(self) -> None:
        """Draw weights and bias by torch's default rule, with the true fan-in D instead of dense.

        Uniform in +-1/sqrt(fan): with the complete graph the very values that torch's layer draws.
        """
        if self.weight.is_meta:
            return
        with torch.no_grad():
            if self.pattern.is_regular and self.num_edges:
                bound = float(self.edge_fan().rsqrt())
                self.weight.uniform_(-bound, bound)
                if self.bias is not None:
                    self.bias.uniform_(-bound, bound)
                return
            self.weight.uniform_(-1, 1).mul_(self.edge_fan().rsqrt().to(self.weight))
            if self.bias is not None:
                fan = torch.tensor(self.graph.fan_in) * math.prod(self._kernel_shape)
                # An output without inputs has no fan: its bias starts at 0, as torch's would.
                bounds = torch.where(fan > 0, fan.to(torch.float64).rsqrt(), 0)
                self.bias.uniform_(-1, 1).mul_(bounds.to(self.bias))

    def dense_weight(self) -> Tensor:
        """The weight of torch's layer, zero off the graph.

        Returns:
            Shape (num_out, num_in / groups, *kernel_size), differentiable in `weight`.

        Examples:
            >>> import xnets
            >>> xnets.nn.ExpanderConv2d(8, 4, 3, degree=2).dense_weight().shape
            torch.Size([4, 8, 3, 3])
        """
        return ops.dense_weight(self.weight, self.pattern, self._groups)

    def _copy_from_dense(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take the kernels that lie on edges out of a dense weight."""
        if self.weight.is_meta and weight.is_meta:  # no values, and looking for them takes longest
            return
        positions = ops.edge_positions(self.pattern, self._groups)
        with torch.no_grad():
            flat = weight.reshape(-1, *self._kernel_shape)
            self.weight.copy_(flat.index_select(0, positions.to(flat.device)).view_as(self.weight))
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    # --- running ---------------------------------------------------------------------------------

    def call(self, input: Tensor) -> ops.Call:
        """The call of the op that `forward` makes for `input`."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to `input`."""
        if isinstance(input, torch.fx.Proxy):
            return leaf_of_fx(self, input)
        return ops.run(self.call(input), self._backend)

    def explain(self, input: Tensor) -> str:
        """Say which backends can run this layer on `input`, and which one does.

        Args:
            input: What `forward` would take.

        Returns:
            A table, one line a backend.
        """
        return ops.explain(self.call(input), self._backend)

    # --- moving, saving, loading -----------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExpanderLayer:
        derived = self._stamp == self._buffer_stamp()
        indptr, indices = self._index_buffers()
        super()._apply(fn, recurse)
        if self.indices.is_meta and not indices.is_meta:
            self._graph_for_meta = BipartiteGraph(
                self.num_in,
                self.num_out,
                indptr.cpu().numpy(),
                indices.cpu().numpy(),
                self.block,
            )
        graph = self._graph_for_meta
        if graph is not None and not self.indices.is_meta:
            # to_empty gives storage without values: weights are the user's to draw, the graph ours.
            with torch.no_grad():
                self.indptr.copy_(_index(graph.indptr))
                self.indices.copy_(_index(graph.indices))
            self._graph_for_meta = None
        if derived:  # moved tensors count their versions anew
            self._stamp = self._buffer_stamp()
            self._derived = replace(self._derived, indptr=self.indptr, indices=self.indices)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load weights and pattern together, or, if they are impossible, change nothing."""
        names = ("weight", "bias", "indptr", "indices")
        found = {name: state_dict.get(prefix + name) for name in names}
        if found["indptr"] is not None or found["indices"] is not None:
            free = "weight" in self._parameters
            if not free:  # reparametrised: the file has what the weight is computed from
                found["weight"] = self.weight
            try:
                graph = read_pattern(
                    found,
                    prefix,
                    (self.num_in, self.num_out),
                    self._kernel_shape,
                    self._groups,
                )
                if not free and graph.num_edges != self.num_edges:
                    raise ValueError(f"{prefix}weight is reparametrised and cannot change its size")
            except ValueError as error:
                error_msgs.append(str(error))
                return
            self._make_room(graph, assign=local_metadata.get("assign_to_params_buffers", False))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not self.indices.is_meta:
            self._graph_for_meta = None
            for name in ("indptr", "indices"):  # with assign=True they come as they were saved
                self._buffers[name] = self._buffers[name].to(torch.int32)  # type: ignore[union-attr]
            self._derive()

    def _make_room(self, graph: BipartiteGraph, *, assign: bool) -> None:
        """Take another graph's block and sizes; the values are loaded after this."""
        self.block = graph.block
        if self._graph_for_meta is not None:
            self._graph_for_meta = graph
        for name, size in (("indptr", len(graph.indptr)), ("indices", len(graph.indices))):
            if self._buffers[name].shape[0] != size:  # type: ignore[union-attr]
                self._buffers[name] = self._buffers[name].new_empty(size)  # type: ignore[union-attr]
        if self.weight.shape[0] == graph.num_edges:
            return
        room = self.weight.data.new_empty(graph.num_edges, *self._kernel_shape)
        if assign:  # which puts another Parameter here and leaves the old one alone
            self.weight = nn.Parameter(room, requires_grad=self.weight.requires_grad)
        else:  # the same Parameter object, so that what refers to it (hooks, ties) still does
            self.weight.grad = None
            self.weight.data = room

    def _graph_repr(self) -> str:
        text = f"compression={self.compression:.4g}, edges={self.num_edges}"
        if self.block != (1, 1):
            text += f", block={self.block}"
        return text if self.backend == "auto" else f"{text}, backend={self.backend!r}"


def leaf_of_fx(layer: nn.Module, input: torch.fx.Proxy) -> Any:
    """The call of a layer that torch.fx is to keep whole, as it does torch's own layers."""
    path = input.tracer.path_of_module(layer)  # type: ignore[attr-defined]
    return input.tracer.create_proxy("call_module", path, (input,), {})


def _index(values: np.ndarray[Any, Any], device: torch.device | None = None) -> Tensor:
    return torch.from_numpy(values.astype(np.int32)).to(device or "cpu")
