"""Parameters, multiply-accumulates and bytes of a model, dense or sparse."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from xnets._run_once import run_once
from xnets._table import format_table
from xnets.nn import ExpanderLayer


@dataclass(frozen=True)
class LayerCount:
    """What one module costs by itself, its children left out.

    Args:
        name: Qualified name in the model; "" for the model itself.
        kind: Class name.
        params: Own parameters, counted once where shared.
        macs: Multiply-accumulates of its own operations, over the whole batch.
        bytes: Bytes of own parameters and buffers, index tables included.
        edges: Edges of its graph; 0 if it is no expander layer.
    """

    name: str
    kind: str
    params: int
    macs: int
    bytes: int
    edges: int


@dataclass(frozen=True)
class Count:
    """The costs of a model, module by module; its totals are attributes.

    Args:
        layers: One entry for each module that costs anything, in order of registration.
    """

    layers: tuple[LayerCount, ...]

    @property
    def params(self) -> int:
        """Number of parameters: kept weights, dense weights, biases, norms."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass over the example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes of parameters and buffers, the index tables of graphs included."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def edges(self) -> int:
        """Edges of all expander layers."""
        return sum(layer.edges for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Totals and layers as plain values, for JSON."""
        totals = {name: getattr(self, name) for name in ("params", "macs", "bytes", "edges")}
        return {**totals, "layers": [asdict(layer) for layer in self.layers]}

    def __str__(self) -> str:
        rows = [
            [row.name or "(model)", row.kind, *_numbers(row.params, row.macs, row.bytes, row.edges)]
            for row in self.layers
        ]
        rows.append(["total", "", *_numbers(self.params, self.macs, self.bytes, self.edges)])
        header = ["layer", "kind", "params", "MACs", "bytes", "edges"]
        return format_table(header, rows, right="llrrrr")


def count(model: nn.Module, example_input: Any) -> Count:
    """Count a model's parameters, multiply-accumulates (MACs) and bytes by running it once.

    MACs are half of what torch.utils.flop_counter counts: convolutions, matrix products, attention;
    not norms, activations, pooling or biases. An expander layer counts num_edges * kernel elements
    an output position, whichever backend runs it.

    Args:
        model: Any module; it is run once in eval mode without gradients, and left as it was.
        example_input: What the model takes: a tensor, or a tuple of arguments, or a dict of keyword
            arguments. MACs are for this whole batch.

    Returns:
        The counts of each module and in all.

    Raises:
        TypeError: If `model` is no module.

    Examples:
        >>> import torch, xnets
        >>> layer = xnets.nn.ExpanderConv2d(64, 32, 3, padding=1, compression=4, bias=False)
        >>> counted = count(layer, torch.zeros(1, 64, 8, 8))
        >>> counted.params, counted.macs, counted.edges
        (4608, 294912, 512)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    macs = _count_macs(model, example_input)
    seen: set[int] = set()
    layers = []
    for name, module in model.named_modules():
        params = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        buffers = [b for b in module.buffers(recurse=False) if id(b) not in seen]
        seen.update(map(id, [*params, *buffers]))
        layer = LayerCount(
            name=name,
            kind=type(module).__name__,
            params=sum(p.numel() for p in params),
            macs=macs.get(id(module), 0),
            bytes=sum(t.numel() * t.element_size() for t in [*params, *buffers]),
            edges=module.num_edges if isinstance(module, ExpanderLayer) else 0,
        )
        if layer.params or layer.macs or layer.bytes:
            layers.append(layer)
    return Count(tuple(layers))


def _count_macs(model: nn.Module, example_input: Any) -> dict[int, int]:
    """MACs of each module's own operations, by id(module)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode  # loads triton where it is installed

    own: dict[int, int] = {}
    # A frame for each running module: [measured before it, measured inside its children].
    stack: list[list[int]] = []
    counter = FlopCounterMode(display=False)

    def enter(module: nn.Module, args: Any) -> None:
        stack.append([counter.get_total_flops(), 0])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        before, in_children = stack.pop()
        measured = counter.get_total_flops() - before
        macs = (measured - in_children) // 2
        if isinstance(module, ExpanderLayer):
            macs = _expander_macs(module, output)
        own[id(module)] = own.get(id(module), 0) + macs
        if stack:
            stack[-1][1] += measured

    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(enter, prepend=True))
        hooks.append(module.register_forward_hook(leave))
    try:
        # The counter of torch 2.9 does not know the CPU's fused attention: use the plain one.
        with counter, sdpa_kernel(SDPBackend.MATH):
            run_once(model, example_input)
    finally:
        for hook in hooks:
            hook.remove()
    return own


def _expander_macs(layer: ExpanderLayer, output: Tensor) -> int:
    return layer.weight.numel() * (output.numel() // layer.num_out)


def _numbers(*values: int) -> list[str]:
    return [f"{value:,}" if value else "-" for value in values]
