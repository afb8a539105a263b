"""The report on the terminal."""

from __future__ import annotations

from typing import Literal

from xnets.reproduce._cells import columns
from xnets.reproduce._markdown import LEGEND, reasons
from xnets.reproduce.report import Report

_WIDTH = 132  # where the output is no terminal


def print_report(report: Report) -> None:
    """Print a report: tables, reasons and commands.

    Args:
        report: The report.

    Examples:
        >>> from xnets.reproduce import make_report
        >>> print_report(make_report(["table-1"]))
        <BLANKLINE>
        ...
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    console.print(LEGEND.format(report.runs_folder))
    for table, lines in report.sections:
        console.print(f"\n{table.title}", style="bold")
        rich_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        shown = columns(table, lines)
        for column in shown:
            side: Literal["left", "right"] = "right" if column.is_number else "left"
            rich_table.add_column(column.title, justify=side, overflow="fold")
        for row in zip(*(column.texts for column in shown), strict=True):
            rich_table.add_row(*row)
        console.print(rich_table)
        if table.note:
            console.print(table.note)
        for labels, reason in reasons(lines):
            console.print(f"- {', '.join(labels)}: {reason}.")
        for command in dict.fromkeys(line.row.command for line in lines if line.row.command):
            console.print(f"  {command}", soft_wrap=True)
