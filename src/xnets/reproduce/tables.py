"""The tables and figures of the paper, and the two tables of the original's page, as data."""

from __future__ import annotations

from xnets._suggest import unknown_name
from xnets.reproduce._cifar import PAGE_CIFAR, TABLE_2, TABLE_4
from xnets.reproduce._figures import FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6
from xnets.reproduce._imagenet import PAGE_IMAGENET, TABLE_1, TABLE_3, TABLE_5
from xnets.reproduce._rows import Row as Row
from xnets.reproduce._rows import Table as Table

TABLES = (
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    PAGE_IMAGENET,
    PAGE_CIFAR,
    FIGURE_3,
    FIGURE_4,
    FIGURE_5,
    FIGURE_6,
)


def get_table(key: str) -> Table:
    """Look a table up.

    Args:
        key: One of `list_tables()`.

    Returns:
        The table.

    Raises:
        ValueError: If there is no such table.

    Examples:
        >>> get_table("table-1").rows[0].label
        'X-ResNet-2-34'
    """
    for table in TABLES:
        if table.key == key:
            return table
    raise ValueError(unknown_name("table", key, list_tables()))


def list_tables() -> list[str]:
    """The keys of all tables.

    Returns:
        The keys, in the paper's order, tables before figures.

    Examples:
        >>> list_tables()[:2]
        ['table-1', 'table-2']
    """
    return [table.key for table in TABLES]
