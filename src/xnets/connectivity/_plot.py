"""Pictures of connectivity reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xnets.connectivity._report import Connectivity, LayerConnectivity

_PANELS = 5  # matrices a report
_CELLS = 128  # rows and columns of a matrix; larger ones are averaged over neighbours
_MAX_NAMES = 30  # layers whose names fit under the axis


def plot_connectivity(reports: Mapping[str, Connectivity], path: str | os.PathLike[str]) -> None:
    """Draw reports beside each other: connected pairs over the layers, and who reaches whom.

    Args:
        reports: By what the legend calls them; "" if there is only one.
        path: The picture to write; its suffix chooses the format.

    Raises:
        ValueError: If no report has a layer.

    Examples:
        >>> import tempfile, torch, xnets
        >>> model = xnets.create_model("mlp", compression=8)
        >>> report = xnets.connectivity(model, torch.zeros(1, 1, 8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_connectivity({"": report}, f"{folder}/reach.svg")
    """
    # Without pyplot there is no global figure, and no window system is asked for.
    from matplotlib.figure import Figure

    mixing = {label: [r for r in report.layers if r.mixes] for label, report in reports.items()}
    if not any(mixing.values()):
        raise ValueError("there is nothing to draw: no layer in which a unit reads several others")
    rows = len(reports)
    figure = Figure(figsize=(12, 4.1 + 2.5 * rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[4.1, 2.5 * rows], squeeze=False)[:, 0]
    left, right = top.subplots(1, 2)
    _draw_curve(left, mixing, "connected")
    _draw_curve(right, mixing, "unevenness")
    first = next(iter(reports.values()))
    top.suptitle(f"{first.num_sources} sources: {first.source}", fontsize=11)
    bottom.suptitle(
        "Who reaches whom: each cell is one source (across) and one unit of the layer (down)",
        fontsize=11,
    )
    axes = bottom.subplots(rows, _PANELS, squeeze=False)
    image = None
    for number, (row, (label, layers)) in enumerate(zip(axes, mixing.items(), strict=True)):
        for axis in row:
            axis.set_axis_off()
        for axis, layer in zip(row, _choose(layers), strict=False):
            image = _draw_matrix(axis, layer)
        color = _color(number, rows)
        row[0].set_ylabel(label or "units", fontsize=13, weight="bold", color=color)
    bar = bottom.colorbar(image, ax=axes, ticks=[0, 1, 2], shrink=0.8, aspect=30)
    bar.ax.set_yticklabels(["no path", "even\nspread", "twice\nor more"])
    figure.savefig(Path(path), dpi=110)


def _draw_curve(axes: Any, mixing: Mapping[str, list[LayerConnectivity]], what: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    longest = max(mixing.values(), key=len)
    for number, (label, layers) in enumerate(mixing.items()):
        values = [getattr(layer, what) for layer in layers]
        heights = [np.nan if v is None else v for v in values]
        style = {"color": _color(number, len(mixing)), "marker": "o", "markersize": 4}
        axes.plot(range(1, len(layers) + 1), heights, label=label or None, linewidth=2, **style)
    if what == "connected":
        axes.set_title("pairs (source, unit) that are connected", fontsize=10)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(-0.03, 1.05)
    else:
        axes.set_title("unevenness of the paths (0: each pair has as many)", fontsize=10)
        axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
    if len(longest) <= _MAX_NAMES:
        names = [_short(layer.name) + " (dense)" * _is_dense(layer) for layer in longest]
        axes.set_xticks(range(1, len(names) + 1), names, rotation=40, ha="right", fontsize=7)
    else:
        axes.set_xlabel("mixing layers, in order of execution")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if any(mixing):
        axes.legend()


def _color(number: int, count: int) -> str:
    return "C0" if count == 1 else ("C1", "C0", "C2", "C3", "C4", "C5", "C6")[number % 7]


def _choose(layers: list[LayerConnectivity]) -> list[LayerConnectivity]:
    """The first sparse layer of each of the first depths, where connections grow, and the last."""
    sparse = [layer for layer in layers if not _is_dense(layer)] or layers
    first: dict[int, LayerConnectivity] = {}
    for layer in sparse:
        first.setdefault(layer.depth, layer)
    chosen = [first[depth] for depth in sorted(first)]
    return chosen if len(chosen) <= _PANELS else [*chosen[: _PANELS - 1], sparse[-1]]


def _draw_matrix(axis: Any, layer: LayerConnectivity) -> Any:
    relative = np.zeros(layer.log10_paths.shape)
    if layer.log10_paths_mean is not None:
        relative = 10.0 ** np.minimum(layer.log10_paths - layer.log10_paths_mean, 1)
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"depth {layer.depth}: {_share(layer)} connected", fontsize=10)
    axis.set_xlabel(_short(layer.name), fontsize=8)
    return axis.imshow(
        _shrink(relative), cmap="Blues", vmin=0, vmax=2, aspect="auto", interpolation="nearest"
    )


def _share(layer: LayerConnectivity) -> str:
    return f"{layer.connected:.0%}" if layer.connected in (0, 1) else f"{layer.connected:.1%}"


def _is_dense(layer: LayerConnectivity) -> bool:
    return layer.fan_in[0] == layer.inputs


def _short(name: str) -> str:
    return (name or "(model)") if len(name) <= 32 else f"...{name[-29:]}"


def _shrink(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over neighbours until there are no more cells than pixels."""
    for axis in (0, 1):
        step = -(-matrix.shape[axis] // _CELLS)
        starts = np.arange(0, matrix.shape[axis], max(1, step))
        sizes = np.diff([*starts, matrix.shape[axis]])
        sums = np.add.reduceat(matrix, starts, axis=axis)
        matrix = sums / (sizes[:, None] if axis == 0 else sizes)
    return matrix
