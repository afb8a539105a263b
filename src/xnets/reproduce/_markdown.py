"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xnets.reproduce._cells import cells, columns
from xnets.reproduce.report import Line, Report

LEGEND = (
    "Accuracy is the printed one, in per cent; log is the best epoch in the training log that came "
    "with the original code; ours is the last epoch of finished runs found in {}. An asterisk "
    "marks what is counted more than 2 % off the printed number."
)


def to_markdown(report: Report) -> str:
    """Write a report as Markdown: a table, the reasons and the commands for each published table.

    Args:
        report: The report.

    Returns:
        The text.

    Examples:
        >>> from xnets.reproduce import make_report
        >>> "X-ResNet-2-34" in to_markdown(make_report(["table-1"]))
        True
    """
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield "# The paper's tables and figures\n"
    yield LEGEND.format(f"`{report.runs_folder}`") + "\n"
    for table, lines in report.sections:
        yield f"## {table.title}\n"
        if table.note:
            yield table.note + "\n"
        shown = columns(table, lines)
        yield _row([*(column.title for column in shown), "command"])
        yield _row([*("---:" if column.is_number else "---" for column in shown), "---"])
        for number, line in enumerate(lines):
            command = f"`{line.row.command}`" if line.row.command else ""
            yield _row([*(column.texts[number] for column in shown), command])
        yield ""
        for labels, reason in reasons(lines):
            yield f"- {', '.join(labels)}: {reason}."
        yield ""


def reasons(lines: Sequence[Line]) -> list[tuple[list[str], str]]:
    """Each reason once, with the rows that it explains."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.row.reason:
            labels = found.setdefault(line.row.reason, [])
            if cells(line).label not in labels:
                labels.append(cells(line).label)
    return [(labels, reason) for reason, labels in found.items()]


def _row(texts: Sequence[str]) -> str:
    escaped = (text.replace("|", r"\|").replace("*", r"\*") for text in texts)
    return f"| {' | '.join(escaped)} |"
