"""The report of a comparison: two CSV files, Markdown and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xnets._table import format_table
from xnets.bench._output import write_rows
from xnets.bench.timer import Timing
from xnets.compare._picture import draw_tradeoff
from xnets.compare._rows import TrialRow
from xnets.compare._summary import Point, summarize
from xnets.train import Recipe
from xnets.train._files import replacing

PICTURE = "tradeoff.png"
_HEADER = (
    "network", "accuracy in %", "seeds", "MACs", "parameters", "thinned layers", "forward in ms",
    "trained in s", "difference in points [95 %]",
)  # fmt: skip
_NOTES = """\
Accuracy: mean and standard deviation over the seeds, on the test set after the last epoch.
Difference: of the means, with Welch's 95 % interval; one that holds 0 shows no difference, and one
in twenty leaves 0 out by chance. Forward: median time of a pass of 16 images, all networks in turns
on one machine, quartiles in points.csv; `xnets bench models` measures more closely. Trained: on
whatever machine, and whatever else it was doing.
"""


def write_report(
    recipe: Recipe,
    rows: Sequence[TrialRow],
    times: Mapping[str, Timing],
    failures: Mapping[str, str],
    folder: Path,
) -> None:
    """Write points.csv, trials.csv, report.md and tradeoff.png, each whole or not at all.

    Args:
        recipe: What was compared.
        rows: The finished trials; if there are none, nothing is written.
        times: Of a forward pass of each network, by its label, where they were measured.
        failures: What went wrong with others.
        folder: Where to.
    """
    if not rows:
        return
    points = summarize(rows, times)
    tables: dict[str, Sequence[Any]] = {"points.csv": points, "trials.csv": rows}
    for name, table in tables.items():
        with replacing(folder / name) as temporary:
            write_rows(table, temporary)
    with replacing(folder / PICTURE) as temporary:
        draw_tradeoff(points, temporary, title=_title(recipe).replace(": ", "\n", 1))
    with replacing(folder / "report.md") as temporary:
        temporary.write_text(_markdown(recipe, points, failures), encoding="utf-8")


def format_points(points: Sequence[Point]) -> str:
    """Return the table as plain text."""
    return format_table(_HEADER, [_cells(point) for point in points], right="lrrrrrrrl")


def _markdown(recipe: Recipe, points: Sequence[Point], failures: Mapping[str, str]) -> str:
    lines = [f"# {_title(recipe)}", ""]
    lines += [_row(_HEADER), _row(["---"] * len(_HEADER))]
    lines += [_row(_cells(point)) for point in points]
    lines += ["", f"![accuracy against MACs]({PICTURE})", "", _NOTES]
    if failures:
        lines += ["Failed:", "", *(f"- `{name}`: {reason}" for name, reason in failures.items())]
    return "\n".join(lines).rstrip() + "\n"


def _title(recipe: Recipe) -> str:
    size = ", ".join(f"{name} {value}" for name, value in recipe.model_args.items())
    model = f"{recipe.model} ({size})" if size else recipe.model
    epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
    return f"{recipe.name}: {model} on {recipe.dataset}, {epochs}"


def _cells(point: Point) -> list[str]:
    spread = "" if point.accuracy_std is None else f" ± {100 * point.accuracy_std:.2f}"
    return [
        point.label,
        f"{100 * point.accuracy:.2f}{spread}",
        str(point.seeds),
        f"{point.macs:,}",
        f"{point.params:,}",
        f"{point.expander_layers} of {point.layers}",
        "" if point.forward_ms is None else f"{point.forward_ms:.3g}",
        f"{point.seconds:.0f}",
        _difference(point),
    ]


def _difference(point: Point) -> str:
    if point.difference is None:
        return ""
    text = f"{100 * point.difference:+.2f}"
    if point.difference_low is not None and point.difference_high is not None:
        text += f" [{100 * point.difference_low:+.2f}, {100 * point.difference_high:+.2f}]"
    return f"{text} from {point.against}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
