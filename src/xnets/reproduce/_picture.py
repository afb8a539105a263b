"""The curves of a figure, drawn anew: accuracy against cost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from xnets.reproduce.report import Line

_MAX_NAMED = 3  # curves, beyond which the names of points would cover each other
_COLORS = ("#0b5cad", "#c1440e", "#2e7d32", "#7b3fa0", "#8a6d00")


def curves_svg(lines: Sequence[Line]) -> str:
    """Draw the accuracy of each curve's networks against their counted MACs.

    Args:
        lines: The lines of one table.

    Returns:
        An <svg> element, or "" if no line belongs to a curve.
    """
    if not any(line.row.curve for line in lines):
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(line.row.dataset for line in lines))
    width = 8 if len(datasets) == 1 else 5.8 * len(datasets)
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    all_axes = figure.subplots(1, len(datasets), squeeze=False)[0]
    for axes, dataset in zip(all_axes, datasets, strict=True):
        here = [line for line in lines if line.row.dataset == dataset and line.counted]
        _draw(axes, here)
        axes.set_title(dataset, fontsize=10)
    picture = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": lines[0].table.key}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    text = picture.getvalue()
    return text[text.index("<svg") :]


def _draw(axes: Any, lines: Sequence[Line]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    curves = dict.fromkeys(line.row.curve for line in lines)
    for curve, color in zip(curves, _COLORS, strict=False):
        mine = sorted((line for line in lines if line.row.curve == curve), key=_macs)
        published = [(line, value) for line in mine if (value := _published(line)) is not None]
        axes.plot(
            [_macs(line) / 1e6 for line, _ in published],
            [value for _, value in published],
            color=color,
            marker="o",
            markersize=4,
            linewidth=1.6,
            label=curve,
        )
        for line, value in published if len(curves) <= _MAX_NAMED else ():
            axes.annotate(
                line.row.label,
                (_macs(line) / 1e6, value),
                textcoords="offset points",
                xytext=(4, -10),
                fontsize=7,
                color=color,
            )
        ours = [line for line in mine if line.accuracy is not None]
        axes.plot(
            [_macs(line) / 1e6 for line in ours],
            [line.accuracy for line in ours],
            linestyle="none",
            marker="D",
            markersize=6,
            markerfacecolor="none",
            color=color,
            label=f"{curve}, ours" if ours else None,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.1)
    axes.set_xlabel("million MACs an image, counted")
    axes.set_ylabel("accuracy, per cent")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")


def _macs(line: Line) -> int:
    return line.counted[1] if line.counted else 0


def _published(line: Line) -> float | None:
    """The printed accuracy, or that of the log's best epoch."""
    if line.row.accuracy is not None:
        return line.row.accuracy
    return line.row.logged[0] if line.row.logged else None
