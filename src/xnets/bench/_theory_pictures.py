"""Pictures of the experiments on the theorems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xnets.bench.theory import BlockRow, DepthRow, MixingRow

# Okabe and Ito's colours: told apart by everyone. (label, families, colour, marker)
_KINDS = (
    ("butterfly, radix, shuffled", ("butterfly", "radix", "shuffled"), "#999999", "s"),
    ("biregular, ramanujan, lift", ("biregular", "ramanujan", "lift"), "#0072B2", "o"),
    ("lps", ("lps",), "#56B4E9", "D"),
    ("random, random_fan_out", ("random", "random_fan_out"), "#E69F00", "^"),
    ("margulis", ("margulis",), "#009E73", "v"),
    ("grouped", ("grouped",), "#D55E00", "X"),
)


def draw_depth(rows: Sequence[DepthRow], path: Path) -> None:
    """Draw depth against width, a panel per degree.

    Args:
        rows: The measurements.
        path: Where to.
    """
    degrees = sorted({row.degree for row in rows})
    figure = _figure(4.1 * len(degrees) + 0.4, 4.6)
    panels = np.atleast_1d(figure.subplots(1, len(degrees), sharex=True, sharey=True))
    top = max((row.depth for row in rows if row.depth is not None), default=1) + 2
    for axes, degree in zip(panels, degrees, strict=True):
        own = [row for row in rows if row.degree == degree]
        widths = np.unique([row.n for row in own])
        fine = np.geomspace(widths[0], widths[-1], 400)
        axes.plot(
            fine, np.log(fine) / math.log(degree),
            color="black", linewidth=1, label=r"no graph is faster than $\log_D n$",
        )  # fmt: skip
        axes.plot(
            fine, np.log(2 * fine * np.log(fine)) / math.log(degree),
            color="black", linewidth=1, linestyle=":", label=r"estimate $\log_D (2n\,\ln n)$",
        )  # fmt: skip
        for label, families, colour, marker in _KINDS:
            _depths(axes, own, families, label, colour, marker, top)
        _powers_of_two(axes, widths, step=2)
        axes.set(title=f"degree {degree}", xlabel="width n of every layer", ylim=(0, top + 0.7))
        axes.set_yticks([*range(0, top - 1, 2), top], [*map(str, range(0, top - 1, 2)), "never"])
        axes.grid(axis="y", color="0.92")
    panels[0].set_ylabel("layers until every output sees every input")
    handles, labels = panels[-1].get_legend_handles_labels()
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles, labels = [*handles, handle], [*labels, label]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def _depths(
    axes: Any,
    rows: list[DepthRow],
    families: Sequence[str],
    label: str,
    colour: str,
    marker: str,
    top: int,
) -> None:
    """One line, the mean over families of a kind and seeds; what never connects is on top."""
    points: dict[int, list[float]] = {}
    for row in rows:
        if row.family in families:
            points.setdefault(row.n, []).append(top if row.depth is None else row.depth)
    if not points:
        return
    widths = sorted(points)
    means = [float(np.mean(points[n])) for n in widths]
    never = min(means) == top
    axes.plot(
        widths, means,
        color=colour, marker=marker, markersize=5, linewidth=0 if never else 1.4, label=label,
    )  # fmt: skip


def draw_mixing(rows: Sequence[MixingRow], path: Path) -> None:
    """Draw the deviation between halves against the degree: proved, found, typical.

    Args:
        rows: The measurements.
        path: Where to.
    """
    figure = _figure(11, 4.8)
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    titles = ("proved: no halves deviate more", "found by a search", "random halves")
    for axes, name, title in zip(panels, ("bound", "found", "sampled"), titles, strict=True):
        degrees = np.geomspace(2, max(row.degree for row in rows), 100)
        axes.plot(
            degrees, 2 * np.sqrt(degrees - 1) / degrees,
            color="black", linewidth=1, linestyle=":", label=r"$2\sqrt{D-1}\,/\,D$",
        )  # fmt: skip
        for label, families, colour, marker in _MIXING_KINDS:
            points: dict[float, list[float]] = {}
            for row in rows:
                if row.family in families:
                    points.setdefault(row.degree, []).append(getattr(row, name))
            if points:
                axes.plot(
                    sorted(points), [max(points[degree]) for degree in sorted(points)],
                    color=colour, marker=marker, markersize=5, label=label, linewidth=1.4,
                )  # fmt: skip
        _powers_of_two(axes, np.array([row.degree for row in rows]), step=1)
        axes.set_yscale("log")
        axes.set_yticks([1, 0.1, 0.01], ["100%", "10%", "1%"])
        axes.set(title=title, xlabel="degree D")
        axes.grid(axis="y", color="0.92")
    panels[0].set_ylabel("deviation of the edges between halves,\nas a share of D|S||T|/n")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


_MIXING_KINDS = (
    ("grouped, shuffled, butterfly, radix", ("grouped", "shuffled", "butterfly", "radix"),
     "#D55E00", "X"),
    *(kind for kind in _KINDS[1:] if kind[0] != "grouped"),
)  # fmt: skip


def draw_blocks(rows: Sequence[BlockRow], path: Path) -> None:
    """Draw the gap of biregular graphs in blocks, and the best that the degree allows.

    Args:
        rows: The measurements.
        path: Where to.
    """
    figure = _figure(8.5, 4.4)
    axes = figure.subplots()
    own = [row for row in rows if row.family == "biregular"] or list(rows)
    blocks = list(dict.fromkeys((row.block_out, row.block_in) for row in own))
    compressions = sorted({row.compression for row in own})
    colours = ("#56B4E9", "#0072B2", "#003A5D")
    width = 0.8 / len(compressions)
    for i, compression in enumerate(compressions):
        gaps = {
            (row.block_out, row.block_in): row.gap for row in own if row.compression == compression
        }
        places = [x + (i - (len(compressions) - 1) / 2) * width for x in range(len(blocks))]
        heights = [gaps.get(block, math.nan) for block in blocks]
        bars = axes.bar(
            places, heights, width * 0.92, color=colours[i % 3], label=f"C = {compression:g}"
        )
        axes.bar_label(
            bars,
            [f"{h:.2f}"[h < 1 :] if h >= 0.005 else "0" for h in heights],
            fontsize=8,
            padding=1,
        )
    axes.set_xticks(range(len(blocks)), [f"({a}, {b})" for a, b in blocks])
    axes.set(
        title=f"Price of blocks: {own[0].family}, {own[0].num_in} to {own[0].num_out}",
        xlabel="block (outputs, inputs)", ylabel="spectral gap", ylim=(0, 1),
    )  # fmt: skip
    axes.legend(frameon=False, ncols=3)
    figure.savefig(path, dpi=150)


def _powers_of_two(axes: Any, values: Any, *, step: int) -> None:
    """A logarithmic axis with plain numbers."""
    low, high = int(np.floor(np.log2(min(values)))), int(np.ceil(np.log2(max(values))))
    ticks = [2**k for k in range(low, high + 1, step)]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])


def _figure(width: float, height: float) -> Any:
    # The object interface: no global figure, no window, whatever backend the user has chosen.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
