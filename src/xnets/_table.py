"""Plain text tables, for reports that print anywhere."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> str:
    """Align columns with two spaces between them and a rule under the header.

    Args:
        header: Column titles.
        rows: Cells, as many a row as titles.
        right: The letters of the columns to align right, "r" for right and "l" for left, as in
            "lrr"; left where it is too short.

    Returns:
        The table, without a final newline.

    Examples:
        >>> print(format_table(["layer", "MACs"], [["conv1", "1,000"], ["fc", "20"]], right="lr"))
        layer   MACs
        ------------
        conv1  1,000
        fc        20
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right[i : i + 1] == "r" else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *map(line, rows)])
