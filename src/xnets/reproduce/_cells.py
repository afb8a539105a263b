"""The cells that the terminal, Markdown and HTML show alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xnets.reproduce._rows import Table, settings
from xnets.reproduce.report import TOLERANCE, Line


class Cells(NamedTuple):
    """One line as text; an empty string where there is nothing."""

    label: str
    model: str
    dataset: str
    params: str
    counted_params: str
    flops: str
    counted_flops: str
    accuracy: str
    logged: str
    ours: str


class Column(NamedTuple):
    """A column that is shown."""

    title: str
    texts: tuple[str, ...]
    is_number: bool


def columns(table: Table, lines: Sequence[Line]) -> list[Column]:
    """The columns of a table that are not empty.

    Args:
        table: The table.
        lines: Its lines.

    Returns:
        The columns, with one text a line.
    """
    rows = [cells(line) for line in lines]
    numbers = ("params", "counted_params", "flops", "counted_flops", "accuracy", "logged")
    return [
        Column(title, texts, name in numbers)
        for name, title, *texts_ in zip(Cells._fields, _header(table), *rows, strict=True)
        if any(texts := tuple(texts_))
    ]


def _header(table: Table) -> Cells:
    """The titles of the columns."""
    unit = "MACs" if table.flops_per_mac == 1 else "FLOPs"
    return Cells(
        label="row",
        model="network",
        dataset="data",
        params="params printed",
        counted_params="params counted",
        flops=f"{unit} printed",
        counted_flops=f"{unit} counted",
        accuracy="accuracy printed",
        logged="log",
        ours="ours",
    )


def cells(line: Line) -> Cells:
    """A line as text: * marks what is counted more than 2 % off the printed."""
    row = line.row
    variants = f" ({settings(row.model_args)})" if row.model_args else ""
    label = f"{row.curve}: {row.label}" if row.curve and row.curve not in row.label else row.label
    return Cells(
        label=label,
        model=row.model + variants if row.model else "another method",
        dataset=row.dataset,
        params=_printed(row.params),
        counted_params=_counted(line.params) + _mark(line.params_off),
        flops=_printed(row.flops),
        counted_flops=_counted(line.flops) + _mark(line.flops_off),
        accuracy=_percent(row.accuracy) + (f" ({row.spread})" if row.spread else ""),
        logged=_percent(row.logged[0]) if row.logged else "",
        ours=_ours(line),
    )


def _ours(line: Line) -> str:
    if line.accuracy is None:
        return ""
    spread = f" ±{line.deviation:.2f}" if line.deviation is not None else ""
    epochs = sorted({run.epochs for run in line.runs})
    trained = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    number = len(line.runs)
    runs = "1 run" if number == 1 else f"{number} runs"
    return f"{line.accuracy:.2f}{spread} ({runs}, {trained} epochs)"


def _mark(off: float | None) -> str:
    return "*" if off is not None and abs(off) > TOLERANCE else ""


def _percent(value: float | None) -> str:
    """At least one decimal, as is printed, and all that there are.

    Examples:
        >>> _percent(93.0), _percent(71.66), _percent(69.228)
        ('93.0', '71.66', '69.228')
    """
    if value is None:
        return ""
    text = f"{value:g}"
    return text if "." in text else f"{text}.0"


def _printed(value: float | None) -> str:
    """As many digits as were printed, with M or G.

    Examples:
        >>> _printed(85.8e6), _printed(19.9e9), _printed(400_000), _printed(None)
        ('85.8M', '19.9G', '0.4M', '')
    """
    if value is None:
        return ""
    return f"{value / 1e9:g}G" if value >= 1e9 else f"{value / 1e6:g}M"


def _counted(value: int | None) -> str:
    """Three or four digits, with M or G.

    Examples:
        >>> _counted(14_990_922), _counted(1_149_867_168), _counted(352_234), _counted(None)
        ('15.0M', '1.15G', '0.352M', '')
    """
    if value is None:
        return ""
    scaled, unit = (value / 1e9, "G") if value >= 1e9 else (value / 1e6, "M")
    return f"{scaled:.{3 if scaled < 1 else 2 if scaled < 10 else 1}f}{unit}"
