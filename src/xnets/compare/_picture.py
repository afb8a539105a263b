"""The trade-off picture: accuracy against cost, a line a kind. Figures 3 to 6 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from xnets.compare._summary import Point
from xnets.compare._trials import DENSE, SINGLE

# Okabe and Ito's colours: told apart by everyone.
_STYLES = {
    "grouped": ("#D55E00", "X"),
    "shuffled": ("#999999", "s"),
    "expander": ("#0072B2", "o"),
    "biregular": ("#009E73", "D"),
}
_MORE = ("#E69F00", "#56B4E9", "#CC79A7", "#000000")
_LINES = ("-", "--", ":", "-.")
_APART = 1.012  # neighbouring lines are moved by this factor, so that their bars do not hide


def draw_tradeoff(points: Sequence[Point], path: Path, *, title: str) -> None:
    """Draw mean accuracies and standard deviations against MACs, and against time if measured.

    Args:
        points: Of one comparison.
        path: Where to.
        title: Stands above.
    """
    # Without pyplot there is no global figure, and no window system is asked for.
    from matplotlib.figure import Figure

    timed = all(point.forward_ms for point in points)
    figure = Figure(figsize=(13 if timed else 8.4, 5), layout="constrained")
    first, *more = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    _draw(first, points, "macs")
    _name_compressions(first, [point for point in points if point.kind != DENSE])
    first.set_xlabel("multiply-accumulate operations for one image")
    first.set_ylabel("test accuracy in %")
    for axes in more:
        _draw(axes, points, "forward_ms")
        axes.set_xlabel("a forward pass of 16 images in ms, all networks in turns")
    figure.legend(*first.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.suptitle(title, fontsize="medium")
    seeds = sorted({point.seeds for point in points})
    several = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
    figure.supxlabel(
        f"mean and standard deviation, {several} seed{'s' if seeds[-1] > 1 else ''} a point; "
        "neighbouring lines are moved apart a little",
        fontsize="small",
        color="0.4",
    )
    figure.savefig(path, dpi=150)


def _draw(axes: Any, points: Sequence[Point], cost: str) -> None:
    """Draw the lines of all kinds, against one field of the points."""
    lines: dict[tuple[str, tuple[int, int]], list[Point]] = {}
    for point in points:
        if point.kind != DENSE:
            lines.setdefault((point.kind, (point.block_out, point.block_in)), []).append(point)
    kinds = list(dict.fromkeys(kind for kind, _ in lines))
    blocks = sorted({block for _, block in lines})
    for i, ((kind, block), own) in enumerate(lines.items()):
        colour, marker = _STYLES.get(kind, (_MORE[kinds.index(kind) % len(_MORE)], "^"))
        label = kind if block == SINGLE else f"{kind}, block {block[0]} x {block[1]}"
        shift = _APART ** (i - (len(lines) - 1) / 2)
        style = _LINES[blocks.index(block) % len(_LINES)]
        _line(axes, own, label, cost, color=colour, marker=marker, shift=shift, linestyle=style)
    for point in points:
        if point.kind == DENSE:
            axes.axhline(100 * point.accuracy, color="0.6", linewidth=0.8, linestyle=(0, (6, 4)))
            _line(axes, [point], DENSE, cost, color="black", marker="*", shift=1, markersize=10)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    _ticks(axes, cost)
    axes.grid(color="0.92")


def _line(
    axes: Any, points: Sequence[Point], label: str, cost: str, *, shift: float, **style: Any
) -> None:
    ordered = sorted(points, key=lambda point: point.macs)
    shift = shift if cost == "macs" else 1.0  # measured costs lie apart by themselves
    axes.errorbar(
        [shift * getattr(point, cost) for point in ordered],
        [100 * point.accuracy for point in ordered],
        yerr=[100 * (point.accuracy_std or 0) for point in ordered],
        **{"markersize": 5, "linewidth": 1.4, "elinewidth": 1, "capsize": 2.5, **style},
        label=label,
    )


def _name_compressions(axes: Any, points: Sequence[Point]) -> None:
    """Write each compression above its points."""
    by_compression: dict[float, list[int]] = {}
    for point in points:
        by_compression.setdefault(point.compression, []).append(point.macs)
    for compression, macs in by_compression.items():
        axes.annotate(
            f"C = {compression:g}",
            (fmean(macs), 1.01),
            xycoords=axes.get_xaxis_transform(),
            ha="center",
            fontsize="small",
            color="0.4",
        )


def _ticks(axes: Any, cost: str) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    # Not EngFormatter for milliseconds: "500 m" of them would be read as something else.
    axes.xaxis.set_major_formatter(
        EngFormatter(sep=" ") if cost == "macs" else StrMethodFormatter("{x:g}")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
