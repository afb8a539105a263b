"""The report of connectivity()."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xnets._table import format_table
from xnets.connectivity._trace import Assumption as Assumption


@dataclass(frozen=True)
class LayerConnectivity:
    """What reaches the units of one layer.

    Args:
        name: Qualified name of its module; "name#2" for a second product in the same module.
        kind: Class of the module.
        depth: Mixing layers (those in which some unit reads several) on the longest way from the
            sources to here, this one included; -1 if no source comes here.
        inputs: Number of units that it reads.
        units: Number of its own units: output channels or features.
        fan_in: How many of its inputs a unit reads, (fewest, most).
        connected_before: Share of the (source, input unit) pairs that are connected.
        connected: Share of the (source, unit) pairs that are connected; exact.
        log10_paths_min: Fewest paths between a source and a unit, log10; None if there are none.
        log10_paths_mean: Their mean over all pairs, log10.
        log10_paths_max: Most paths, log10.
        unevenness: Standard deviation of the number of paths over all pairs, divided by the mean. 0
            is the even spread D|S||T|/n of Theorem 2, and g separate groups give sqrt(g - 1).
        dead: Units that no channel of the network's input reaches.
        unused: Units that reach no output of the network.
        log10_paths: The number of paths, log10, float32 of shape (units, sources); -inf for none.
    """

    name: str
    kind: str
    depth: int
    inputs: int
    units: int
    fan_in: tuple[int, int]
    connected_before: float
    connected: float
    log10_paths_min: float | None
    log10_paths_mean: float | None
    log10_paths_max: float | None
    unevenness: float | None
    dead: tuple[int, ...]
    unused: tuple[int, ...]
    log10_paths: NDArray[np.float32] = field(repr=False, compare=False)

    @property
    def reach(self) -> NDArray[np.bool_]:
        """Which sources reach which units, shape (units, sources)."""
        return np.isfinite(self.log10_paths)

    @property
    def mixes(self) -> bool:
        """Whether some unit reads several inputs."""
        return self.fan_in[1] > 1

    @property
    def gain(self) -> float | None:
        """Share of the pairs still missing that this layer connects; None if none were missing."""
        missing = 1 - self.connected_before
        return (self.connected - self.connected_before) / missing if missing > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain values, without the matrix of paths."""
        shown = asdict(self)
        del shown["log10_paths"]
        return {**shown, "gain": self.gain}


@dataclass(frozen=True)
class Connectivity:
    """What reaches what through a whole network, layer by layer.

    Args:
        source: What the sources are, in words.
        num_sources: How many there are.
        layers: The layers after the sources, in order of execution.
        num_inputs: Channels of the network's input.
        unused_inputs: Those of them that reach no output of the network.
        assumed_mixing: Operations that were not followed exactly, and what was assumed.
    """

    source: str
    num_sources: int
    layers: tuple[LayerConnectivity, ...]
    num_inputs: int
    unused_inputs: tuple[int, ...]
    assumed_mixing: tuple[Assumption, ...]

    @property
    def full_at(self) -> LayerConnectivity | None:
        """The first layer whose every unit is reached by every source (Theorem 1), or None."""
        return next((layer for layer in self.layers if layer.connected == 1), None)

    @property
    def depth(self) -> int | None:
        """Mixing layers until full sensitivity (Theorem 1), or None if it is never reached."""
        return None if self.full_at is None else self.full_at.depth

    @property
    def bottleneck(self) -> LayerConnectivity | None:
        """The mixing layer that connects the smallest share of the pairs still missing before it.

        None if nothing is missing before any.
        """
        mixing = [layer for layer in self.layers if layer.mixes and layer.gain is not None]
        return min(mixing, key=lambda layer: layer.gain or 0.0, default=None)

    @property
    def num_dead(self) -> int:
        """Units that no channel of the network's input reaches."""
        return sum(len(layer.dead) for layer in self.layers)

    @property
    def num_unused(self) -> int:
        """Units that reach no output of the network, its input channels left out."""
        return sum(len(layer.unused) for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        full, narrow = self.full_at, self.bottleneck
        return {
            "source": self.source,
            "num_sources": self.num_sources,
            "full_at": full.name if full else None,
            "depth": self.depth,
            "bottleneck": narrow.name if narrow else None,
            "num_inputs": self.num_inputs,
            "unused_inputs": list(self.unused_inputs),
            "num_dead": self.num_dead,
            "num_unused": self.num_unused,
            "assumed_mixing": [asdict(a) for a in self.assumed_mixing],
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the report: connected pairs over the layers, and who reaches whom at some of them.

        Args:
            path: The picture to write; its suffix chooses the format.

        Raises:
            ValueError: If there is no layer to draw.
        """
        from xnets.connectivity._plot import plot_connectivity

        plot_connectivity({"": self}, path)

    def __str__(self) -> str:
        header = ["layer", "kind", "depth", "size", "fan-in", "connected"]
        header += ["log10 paths: min mean max", "uneven", "dead", "unused"]
        rows = [_row(layer) for layer in self.layers]
        return "\n".join([format_table(header, rows, right="llrrrrrrrr"), *self.summary()])

    def summary(self) -> list[str]:
        """The report in a few lines."""
        full, narrow = self.full_at, self.bottleneck
        lines = [f"sources: {self.source} ({self.num_sources})"]
        if full:
            lines.append(f"every source reaches every unit of {full.name!r}, at depth {full.depth}")
        else:
            lines.append("no layer is reached by all sources in all its units")
        if narrow:
            lines.append(
                f"bottleneck: {narrow.name!r} connects {narrow.gain or 0:.1%} of the pairs missing "
                f"before it ({narrow.connected_before:.1%} -> {narrow.connected:.1%})"
            )
        lines.append(
            f"dead units: {self.num_dead}; unused units: {self.num_unused}; unused inputs: "
            f"{len(self.unused_inputs)} of {self.num_inputs}"
        )
        lines += [
            f"assumed: {a.op} in {a.where or 'the model'!r} {a.why}" for a in self.assumed_mixing
        ]
        return lines


def compare_connectivity(reports: Mapping[str, Connectivity]) -> str:
    """A table of several networks' reports: the mixing layers of one, side by side.

    Args:
        reports: Reports by label.

    Returns:
        For each label the share of connected pairs and the unevenness of paths, layer by layer;
        then where each reaches full sensitivity.

    Examples:
        >>> import torch, xnets
        >>> reports = {
        ...     family: xnets.connectivity(
        ...         xnets.create_model("mlp", compression=8, family=family), torch.zeros(1, 1, 8, 8)
        ...     )
        ...     for family in ("grouped", "random")
        ... }
        >>> print(compare_connectivity(reports).splitlines()[0])
        connected, uneven:  grouped  random
    """
    found = {
        label: {layer.name: layer for layer in report.layers if layer.mixes}
        for label, report in reports.items()
    }
    rows = []
    for name in dict.fromkeys(name for layers in found.values() for name in layers):
        row = [name or "(model)"]
        for layers in found.values():
            cells = _row(layers[name]) if name in layers else [""] * 8
            row += [cells[5], cells[7]]
        rows.append(row)
    header = ["connected, uneven:"]
    for label in reports:
        header += [label, ""]
    lines = [format_table(header, rows, right="l" + "r" * 2 * len(reports))]
    for label, report in reports.items():
        lines += [f"{label}:", *(f"  {line}" for line in report.summary())]
    return "\n".join(lines)


def _row(layer: LayerConnectivity) -> list[str]:
    low, high = layer.fan_in
    logs = (layer.log10_paths_min, layer.log10_paths_mean, layer.log10_paths_max)
    return [
        layer.name or "(model)",
        layer.kind,
        str(layer.depth) if layer.depth >= 0 else "-",
        f"{layer.inputs} -> {layer.units}",
        str(low) if low == high else f"{low}..{high}",
        _percent(layer.connected),
        " ".join("none" if v is None else f"{v + 0.0:.1f}" for v in logs),
        "-" if layer.unevenness is None else f"{layer.unevenness:.2f}",
        str(len(layer.dead) or "-"),
        str(len(layer.unused) or "-"),
    ]


def _percent(share: float) -> str:
    """One decimal, but "100%" only for all and "0%" only for none."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(share, 0.001), 0.999):.1%}"
