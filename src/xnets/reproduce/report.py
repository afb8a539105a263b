"""The report: every row with what was printed, what is counted and what was trained here."""

from __future__ import annotations

import csv
import io
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xnets.reproduce._recount import recount
from xnets.reproduce._rows import Row, Table
from xnets.reproduce._runs import Run, find_runs, runs_of
from xnets.reproduce.tables import get_table, list_tables

# What is printed to two or three digits may be off by this much and still agree.
TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table beside what is known here.

    Args:
        table: The table it is in.
        row: What was published.
        counted: (parameters, MACs of one image); None for another method's row.
        runs: Finished runs of this network on this data set.
    """

    table: Table
    row: Row
    counted: tuple[int, int] | None
    runs: tuple[Run, ...]

    @property
    def params(self) -> int | None:
        """Counted parameters."""
        return self.counted[0] if self.counted else None

    @property
    def flops(self) -> int | None:
        """Counted cost of one image in the unit of the table."""
        return self.counted[1] * self.table.flops_per_mac if self.counted else None

    @property
    def params_off(self) -> float | None:
        """Counted over printed parameters, minus 1."""
        return _off(self.params, self.row.params)

    @property
    def flops_off(self) -> float | None:
        """Counted over printed FLOPs, minus 1."""
        return _off(self.flops, self.row.flops)

    @property
    def accuracy(self) -> float | None:
        """Mean test accuracy of the runs found, in per cent."""
        return statistics.fmean(run.accuracy for run in self.runs) if self.runs else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the runs found, if there are several."""
        several = len(self.runs) > 1
        return statistics.stdev(run.accuracy for run in self.runs) if several else None

    def to_dict(self) -> dict[str, Any]:
        """The line as plain values; FLOPs in the unit of the table."""
        row, best_last = self.row, self.row.logged or (None, None)
        return {
            "table": self.table.key,
            "label": row.label,
            "curve": row.curve,
            "model": row.model,
            "model_args": dict(row.model_args),
            "dataset": row.dataset,
            "printed_params": row.params,
            "counted_params": self.params,
            "params_off": self.params_off,
            "flops_per_mac": self.table.flops_per_mac,
            "printed_flops": row.flops,
            "counted_flops": self.flops,
            "counted_macs": self.counted[1] if self.counted else None,
            "flops_off": self.flops_off,
            "printed_accuracy": row.accuracy,
            "printed_spread": row.spread,
            "logged_best": best_last[0],
            "logged_last": best_last[1],
            "our_accuracy": self.accuracy,
            "our_deviation": self.deviation,
            "our_runs": [run.folder for run in self.runs],
            "our_epochs": sorted({run.epochs for run in self.runs}),
            "reason": row.reason,
            "command": row.command,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables and their lines.

    Args:
        sections: Each table with its lines.
        runs_folder: Where runs were looked for.
    """

    sections: tuple[tuple[Table, tuple[Line, ...]], ...]
    runs_folder: str

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "runs_folder": self.runs_folder,
            "tables": [
                {
                    "table": table.key,
                    "title": table.title,
                    "note": table.note,
                    "rows": [line.to_dict() for line in lines],
                }
                for table, lines in self.sections
            ],
        }

    def to_csv(self) -> str:
        """One line a row; lists and settings with blanks between."""
        lines = [line.to_dict() for _, section in self.sections for line in section]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(lines[0])
        writer.writerows([_cell(value) for value in line.values()] for line in lines)
        return text.getvalue()


def make_report(
    tables: Sequence[str] = (),
    *,
    runs: str | os.PathLike[str] = "runs",
    recounted: bool = False,
) -> Report:
    """Put what is printed, counted and trained side by side.

    Args:
        tables: Keys of tables; all by default. See `list_tables`.
        runs: Folder in which finished runs are looked for, at any depth.
        recounted: Whether each network is built and counted anew, which takes a minute or two.

    Returns:
        The report.

    Raises:
        ValueError: If there is no such table.

    Examples:
        >>> report = make_report(["table-1"])
        >>> line = report.sections[0][1][0]
        >>> line.row.label, line.row.flops, line.flops
        ('X-ResNet-2-34', 3500000000.0, 3801554944)
    """
    found = find_runs(runs)
    chosen = [get_table(key) for key in dict.fromkeys(tables or list_tables())]
    return Report(
        sections=tuple(
            (
                table,
                tuple(
                    Line(
                        table=table,
                        row=row,
                        counted=recount(row) if recounted else row.counted,
                        runs=tuple(runs_of(row, found)),
                    )
                    for row in table.rows
                ),
            )
            for table in chosen
        ),
        runs_folder=str(runs),
    )


def _off(counted: float | None, printed: float | None) -> float | None:
    return counted / printed - 1 if counted and printed else None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={setting}" for name, setting in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) and value % 1 else str(value)
