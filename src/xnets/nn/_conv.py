"""The expander convolutions."""

from __future__ import annotations

import operator
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xnets import ops
from xnets.graphs import BipartiteGraph, Seed
from xnets.nn._base import ExpanderLayer
from xnets.nn._graph import layer_graph

Ints = int | tuple[int, ...]
_Self = TypeVar("_Self", bound="_ExpanderConv")

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ExpanderConv(ExpanderLayer):
    """What the three convolutions share; see ExpanderConv2d for the arguments."""

    spatial: ClassVar[int]
    dense_type: ClassVar[type[nn.Conv1d | nn.Conv2d | nn.Conv3d]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints | str = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
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
        kernel = self._ints("kernel_size", kernel_size, at_least=1)
        strides = self._ints("stride", stride, at_least=1)
        dilations = self._ints("dilation", dilation, at_least=1)
        _check_groups(groups, in_channels, out_channels)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"`padding_mode` (={padding_mode!r}) must be one of {', '.join(_PADDING_MODES)}"
            )
        padding = self._check_padding(padding, strides)
        graph = layer_graph(
            in_channels,
            out_channels,
            groups,
            compression=compression,
            degree=degree,
            graph=graph,
            family=family,
            block=block,
            seed=seed,
            names=("in_channels", "out_channels"),
        )
        super().__init__(
            graph, kernel, groups=groups, bias=bias, backend=backend, device=device, dtype=dtype
        )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel
        self.stride = strides
        self.padding = padding
        self.dilation = dilations
        self.groups = groups
        self.padding_mode = padding_mode
        self._plan_padding()

    def _ints(self, name: str, value: Any, *, at_least: int) -> tuple[int, ...]:
        try:
            values = tuple(operator.index(v) for v in _repeat(value, self.spatial))
        except TypeError:
            values = ()
        if len(values) != self.spatial:
            raise ValueError(f"`{name}` (={value!r}) must be an int or {self.spatial} ints")
        if min(values) < at_least:
            raise ValueError(f"`{name}` (={value!r}) must be at least {at_least}")
        return values

    def _check_padding(self, padding: Any, stride: tuple[int, ...]) -> tuple[int, ...] | str:
        if not isinstance(padding, str):
            return self._ints("padding", padding, at_least=0)
        if padding not in ("same", "valid"):
            raise ValueError(
                f"`padding` (={padding!r}) must be an int, {self.spatial} ints, 'same' or 'valid'"
            )
        if padding == "same" and any(s != 1 for s in stride):
            raise ValueError(f"`padding`='same' needs `stride` 1, got {stride}")
        return padding

    def _plan_padding(self) -> None:
        """Split the padding into what F.pad must do first and the symmetric zeros of the op."""
        if self.padding == "valid":
            sides = [(0, 0)] * self.spatial
        elif self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            sides = [(total // 2, total - total // 2) for total in totals]
        else:
            sides = [(p, p) for p in self.padding]  # type: ignore[misc]
        symmetric = all(low == high for low, high in sides)
        if self.padding_mode == "zeros" and symmetric:
            self._op_padding = tuple(low for low, _ in sides)
            self._pad_first: tuple[int, ...] = ()
        else:
            self._op_padding = (0,) * self.spatial
            # F.pad counts from the last dimension.
            self._pad_first = tuple(p for side in reversed(sides) for p in side)

    def call(self, input: Tensor) -> ops.Call:
        """The call of the op that `forward` makes for `input`."""
        if self._pad_first and isinstance(input, Tensor):  # what is no tensor, the op refuses
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            input = F.pad(input, self._pad_first, mode)
        return ops.Call(
            input,
            self.weight,
            self.bias,
            self.pattern,
            spatial=self.spatial,
            stride=self.stride,
            padding=self._op_padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    @classmethod
    def from_dense(
        cls: type[_Self],
        layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        *,
        compression: float | None = None,
        degree: int | None = None,
        graph: BipartiteGraph | None = None,
        family: str = "random",
        block: tuple[int, int] = (1, 1),
        seed: Seed = 0,
        backend: str = "auto",
    ) -> _Self:
        """Take over the kernels of a dense layer that lie on the edges of a graph.

        Args:
            layer: torch's convolution of as many dimensions.
            compression: As in the constructor.
            degree: As in the constructor.
            graph: As in the constructor. Without any of the three: the non-zero kernels of `layer`.
            family: As in the constructor.
            block: As in the constructor.
            seed: As in the constructor.
            backend: As in the constructor.

        Returns:
            A new layer of the same device and dtype, which copies weights and bias.

        Raises:
            ValueError: As the constructor.
            TypeError: If `layer` is no convolution of as many dimensions.

        Examples:
            >>> layer = ExpanderConv2d(8, 4, 3, degree=2)
            >>> torch.equal(ExpanderConv2d.from_dense(layer.to_dense()).weight, layer.weight)
            True
        """
        if not isinstance(layer, cls.dense_type):
            raise TypeError(
                f"`layer` must be a torch.nn.{cls.dense_type.__name__}, got {type(layer).__name__}"
            )
        if compression is None and degree is None and graph is None:
            graph = _graph_of_kernels(layer, block)
        new = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
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

    def to_dense(self) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
        """The torch convolution that computes the same, with zeros off the graph.

        Returns:
            A new layer of the same device, dtype and mode.
        """
        dense: nn.Conv1d | nn.Conv2d | nn.Conv3d = nn.utils.skip_init(
            self.dense_type,
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.bias is not None,
            self.padding_mode,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        with torch.no_grad():
            dense.weight.copy_(self.dense_weight())
            if self.bias is not None and dense.bias is not None:
                dense.bias.copy_(self.bias)
        return dense.train(self.training)

    def extra_repr(self) -> str:
        """The layer's arguments, as torch prints them."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        if self.padding != (0,) * self.spatial:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.spatial:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return f"{text}, {self._graph_repr()}"


class ExpanderConv2d(_ExpanderConv):
    """A 2d convolution whose kernels lie on the edges of a bipartite graph (X-Conv).

    Source: sections 3.1 and 3.2 of the paper. Give exactly one of `compression`, `degree`, `graph`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: As in torch: an int, or one a spatial dimension.
        stride: As in torch.
        padding: As in torch: an int, one a spatial dimension, 'same' or 'valid'.
        dilation: As in torch.
        groups: As in torch: so many independent layers side by side. Compression and degree are
            meant within each.
        bias: Whether to add a learned bias.
        padding_mode: As in torch: 'zeros', 'reflect', 'replicate' or 'circular'.
        device: As in torch.
        dtype: As in torch.
        compression: How many times fewer kernels than dense; D = max(1, in_channels // groups //
            compression).
        degree: Input channels per output channel D.
        graph: A graph from in_channels inputs to out_channels outputs.
        family: What to draw the graph from; see xnets.graphs.list_families.
        block: (b_out, b_in): outputs that share their inputs, and inputs taken together.
        seed: Seed of the graph (not of the weights: torch.manual_seed is).
        backend: "auto", or the one backend that must run this layer.

    Shape:
        - Input: (N, in_channels, H, W) or (in_channels, H, W).
        - Output: (N, out_channels, H', W') or (out_channels, H', W'), as in torch.

    Attributes:
        weight: Shape (num_edges, *kernel_size), in the graph's canonical edge order.
        bias: Shape (out_channels,), or None.

    Raises:
        ValueError: If an argument is out of range, or the graph cannot be drawn or does not fit.

    Examples:
        >>> layer = ExpanderConv2d(64, 32, 3, padding=1, compression=4, block=(4, 1))
        >>> layer(torch.zeros(2, 64, 8, 8)).shape, layer.weight.shape
        (torch.Size([2, 32, 8, 8]), torch.Size([512, 3, 3]))
    """

    spatial = 2
    dense_type = nn.Conv2d


class ExpanderConv1d(_ExpanderConv):
    """A 1d convolution whose kernels lie on the edges of a bipartite graph.

    Takes the arguments of ExpanderConv2d, with one spatial dimension.

    Shape:
        - Input: (N, in_channels, L) or (in_channels, L).
        - Output: (N, out_channels, L') or (out_channels, L'), as in torch.

    Examples:
        >>> ExpanderConv1d(64, 32, 3, padding="same", degree=16)(torch.zeros(2, 64, 9)).shape
        torch.Size([2, 32, 9])
    """

    spatial = 1
    dense_type = nn.Conv1d


class ExpanderConv3d(_ExpanderConv):
    """A 3d convolution whose kernels lie on the edges of a bipartite graph.

    Takes the arguments of ExpanderConv2d, with three spatial dimensions.

    Shape:
        - Input: (N, in_channels, D, H, W) or (in_channels, D, H, W).
        - Output: (N, out_channels, D', H', W') or (out_channels, D', H', W'), as in torch.

    Examples:
        >>> ExpanderConv3d(8, 4, 3, degree=2)(torch.zeros(2, 8, 5, 5, 5)).shape
        torch.Size([2, 4, 3, 3, 3])
    """

    spatial = 3
    dense_type = nn.Conv3d


def _repeat(value: Any, times: int) -> Any:
    return value if isinstance(value, (tuple, list)) else (value,) * times


def _check_groups(groups: Any, in_channels: int, out_channels: int) -> None:
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"`groups` (={groups!r}) must be an int of at least 1")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if not isinstance(channels, int):
            raise TypeError(f"`{name}` (={channels!r}) must be an int")
        if channels % groups:
            raise ValueError(f"`{name}` (={channels}) must be divisible by `groups` (={groups})")


def _graph_of_kernels(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, block: tuple[int, int]
) -> BipartiteGraph:
    """The graph of the kernels that are not all zero."""
    outputs, inputs = (layer.weight.flatten(2) != 0).any(-1).nonzero(as_tuple=True)
    group = outputs // (layer.out_channels // layer.groups)
    inputs = inputs + group * (layer.in_channels // layer.groups)
    edges = torch.stack([inputs, outputs], dim=1).cpu().numpy()
    return BipartiteGraph.from_edges(edges, layer.in_channels, layer.out_channels, block=block)
