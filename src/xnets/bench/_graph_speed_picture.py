"""The picture of how long graphs take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnets.bench.speed_of_graphs import GraphSpeedRow

_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#999999", "#000000",
)  # fmt: skip
_MARKERS = ("o", "^", "s", "D", "v", "X", "P", "<", ">", "*")


def draw_speed(rows: Sequence[GraphSpeedRow], path: Path) -> None:
    """Draw the seconds to draw and to certify against the number of edges.

    Args:
        rows: The times.
        path: Where to.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    families = list(dict.fromkeys(row.family for row in rows))
    for axes, name in zip(panels, ("draw_seconds", "certify_seconds"), strict=True):
        for i, family in enumerate(families):
            own = [row for row in rows if row.family == family]
            axes.plot(
                [row.edges for row in own], [getattr(row, name) for row in own],
                color=_COLOURS[i % len(_COLOURS)], marker=_MARKERS[i % len(_MARKERS)],
                linestyle="-" if i < len(_COLOURS) else "--",
                markersize=5, linewidth=1.2, label=family,
            )  # fmt: skip
        edges = [min(row.edges for row in rows), max(row.edges for row in rows)]
        axes.plot(
            edges, [edge / 1e6 for edge in edges],
            color="black", linewidth=1, linestyle=":", label="a million edges a second",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set(title=name.removesuffix("_seconds"), xlabel="edges")
        axes.grid(color="0.92")
    panels[0].set_ylabel("seconds of one core")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)
