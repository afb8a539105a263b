"""The picture of speed-ups against compression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xnets.bench.summary import geometric_mean

if TYPE_CHECKING:
    from xnets.bench.layers import LayerRow

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_PEER_STYLES = {"grouped": "--", "csr": "-.", "sparselab": ":"}


def draw_speedups(rows: Sequence[LayerRow], path: Path) -> Path:
    """Draw the speed-up over dense against C: a panel a kind, a line a graph, the ideal dotted.

    Lines are geometric means over shapes and batches, bands reach from the least to the most. Of
    our backends "auto" is drawn, or the first there is.

    Args:
        rows: The rows; those without a time are passed over.
        path: Where to.

    Returns:
        The path.
    """
    from matplotlib.figure import Figure

    timed = [row for row in rows if row.speedup and row.family]
    names = list(dict.fromkeys(r.competitor for r in timed if r.competitor not in _PEER_STYLES))
    lead = "auto" if "auto" in names else next(iter(names), "")
    kinds = list(dict.fromkeys(row.kind for row in timed))
    lines = list(dict.fromkeys((row.step, row.threads) for row in timed))
    size = (3.6 * len(kinds) + 2.2, 3.2 * len(lines) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(lines), len(kinds), squeeze=False, sharex=True, sharey=True)
    labels: dict[str, Any] = {}
    for i, (step, threads) in enumerate(lines):
        for j, kind in enumerate(kinds):
            axes = panels[i][j]
            here = [r for r in timed if (r.step, r.threads, r.kind) == (step, threads, kind)]
            _draw_panel(axes, here, lead)
            many = f"{threads} thread{'s' if threads > 1 else ''}"
            axes.set_title(f"{kind}, {step}, {many}", fontsize=9)
            handles, shown = axes.get_legend_handles_labels()
            labels.update(zip(shown, handles, strict=True))
    for axes in panels[-1]:
        axes.set_xlabel("compression C")
    for line_of_panels in panels:
        line_of_panels[0].set_ylabel("times faster than dense")
    figure.legend(
        list(labels.values()), list(labels), loc="outside right center", frameon=False, fontsize=8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _draw_panel(axes: Any, rows: Sequence[LayerRow], lead: str) -> None:
    ours = [row for row in rows if row.competitor == lead]
    graphs = list(dict.fromkeys((row.family, row.block) for row in ours))
    for k, graph in enumerate(graphs):
        own = [row for row in ours if (row.family, row.block) == graph]
        b_out, b_in = graph[1] or (1, 1)
        colour = _COLOURS[k % len(_COLOURS)]
        _draw_line(axes, own, f"{lead}: {graph[0]}, {b_out}x{b_in}", colour, "-", band=True)
    for name, style in _PEER_STYLES.items():
        own = [row for row in rows if row.competitor == name]
        if own:
            _draw_line(axes, own, name, "0.45", style, band=False)
    compressions = sorted({row.compression for row in rows})
    axes.plot(
        compressions, compressions, color="black", linewidth=1, linestyle=":", label="C times"
    )
    axes.axhline(1, color="0.8", linewidth=1, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(compressions, [f"{c:g}" for c in compressions])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color="0.92")


def _draw_line(
    axes: Any, rows: Sequence[LayerRow], label: str, colour: str, style: str, *, band: bool
) -> None:
    values: dict[float, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.compression):
        if row.speedup:
            values.setdefault(row.compression, []).append(row.speedup)
    means = [geometric_mean(found) for found in values.values()]
    axes.plot(
        list(values), means,
        color=colour, linestyle=style, marker="o", markersize=4, linewidth=1.4, label=label,
    )  # fmt: skip
    if band:
        least, most = ([f(found) for found in values.values()] for f in (min, max))
        axes.fill_between(list(values), least, most, color=colour, alpha=0.12, linewidth=0)
