"""The training curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xnets.train._files import replacing

SPLITS = ("train", "test")


def plot_curve(path: Path, rows: Sequence[dict[str, float]], title: str) -> None:
    """Draw loss and error over the epochs.

    Args:
        path: The picture to write; its suffix chooses the format.
        rows: The rows of metrics.csv.
        title: Stands above.
    """
    # Without pyplot there is no global figure, and no window system is asked for.
    from matplotlib.figure import Figure
    from matplotlib.ticker import (
        LogLocator,
        MaxNLocator,
        NullFormatter,
        NullLocator,
        StrMethodFormatter,
    )

    epochs = [row["epoch"] for row in rows]
    # Margins that fit any curve: a layout engine would draw all of it twice to find them out.
    figure = Figure(figsize=(9, 3.6))
    left, right = figure.subplots(
        1, 2, gridspec_kw={"left": 0.08, "right": 0.98, "bottom": 0.14, "top": 0.89, "wspace": 0.2}
    )
    for split, style in zip(SPLITS, ("--", "-"), strict=True):
        loss = [row[f"{split}_loss"] for row in rows]
        error = [100 * (1 - row[f"{split}_accuracy"]) for row in rows]
        left.plot(epochs, loss, style, label=split, marker=".")
        right.plot(epochs, error, style, label=split, marker=".")
    left.set_ylabel("cross-entropy")
    right.set_ylabel("error in %")
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_minor_formatter(NullFormatter())
    right.set_yscale("symlog", linthresh=1)  # an error of 0 has a place too
    right.set_yticks([0, 1, 2, 5, 10, 20, 50, 100])
    right.yaxis.set_minor_locator(NullLocator())
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.3)
        axes.legend()
    highest = max(100 * (1 - row[f"{split}_accuracy"]) for row in rows for split in SPLITS)
    right.set_ylim(0, 1.2 * max(1, highest))
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
