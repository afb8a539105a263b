"""The report of a conversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xnets._convert_rules import INTENDED
from xnets._table import format_table


@dataclass(frozen=True)
class LayerChange:
    """What became of one layer.

    Args:
        name: Qualified name in the model; the first of them if the layer is shared.
        kind: Class name before.
        size: (inputs, outputs) of its weight; None where it has no such two numbers.
        became: Class name after, or None if it was left alone.
        compression: Actual compression; 1.0 if it was left alone.
        seed: Seed of its graph, for `make_graph`; None if it has none.
        reason: Why it was left alone; "" if it was converted.
    """

    name: str
    kind: str
    size: tuple[int, int] | None
    became: str | None
    compression: float
    seed: int | None
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """Every layer of a converted model: what it became, or why it was left.

    Args:
        layers: One entry a layer with a weight matrix, in order of registration.
        params_before: Parameters of the model before.
        params_after: Parameters of the model after.
    """

    layers: tuple[LayerChange, ...]
    params_before: int
    params_after: int

    @property
    def converted(self) -> tuple[LayerChange, ...]:
        """The layers that became expander layers."""
        return tuple(layer for layer in self.layers if layer.became)

    @property
    def left(self) -> tuple[LayerChange, ...]:
        """The layers that were left alone."""
        return tuple(layer for layer in self.layers if not layer.became)

    @property
    def refused(self) -> tuple[LayerChange, ...]:
        """The layers that were to be converted and could not be."""
        return tuple(layer for layer in self.left if layer.reason not in INTENDED)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            [
                layer.name or "(model)",
                layer.kind,
                f"{layer.size[0]} -> {layer.size[1]}" if layer.size else "",
                f"{layer.compression:.4g}" if layer.became else "",
                layer.became or f"left: {layer.reason}",
            ]
            for layer in self.layers
        ]
        table = format_table(["layer", "kind", "size", "C", "became"], rows, right="lllr")
        ratio = self.params_before / max(1, self.params_after)
        return (
            f"{table}\n{len(self.converted)} of {len(self.layers)} layers converted; parameters "
            f"{self.params_before:,} -> {self.params_after:,} ({ratio:.3g} times fewer)"
        )
