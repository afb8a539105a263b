"""Rows to CSV files whose names hold their conditions."""

from __future__ import annotations

import csv
import math
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xnets._errors import UserError
from xnets._suggest import unknown_name


def write_rows(rows: Sequence[Any], path: Path) -> Path:
    """Write dataclass rows as CSV, numbers to six digits, None as an empty cell.

    Args:
        rows: At least one, all of one dataclass.
        path: The file; its folder is made.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(rows[0])])
        writer.writerows([_cell(value) for value in asdict(row).values()] for row in rows)
    return path


def span(values: Sequence[float]) -> str:
    """Sorted values as part of a file name: all of up to three, else the first and last.

    Examples:
        >>> span([4, 8, 16]), span([16, 32, 64, 128])
        ('4-8-16', '16-to-128')
    """
    shown = [f"{value:g}" for value in sorted(set(values))]
    return "-".join(shown) if len(shown) <= 3 else f"{shown[0]}-to-{shown[-1]}"


def machine(library: str = "numpy") -> str:
    """The processor and a library's version, as part of the name of a file that holds times."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2]
                break
    except OSError:  # not Linux
        pass
    words = re.sub(r"\([^)]*\)|\bCPU\b|@.*", " ", name)
    return f"{re.sub('[^A-Za-z0-9.]+', '-', words).strip('-')}_{library}-{_version(library)}"


def check_counts(least: int, **arguments: Sequence[int]) -> None:
    """Raise a UserError unless every argument holds numbers, none of them below `least`."""
    for name, values in arguments.items():
        if not values or min(values) < least:
            shown = values[0] if len(values) == 1 else list(values)
            raise UserError(f"`{name}` (={shown}) must be at least {least}")


def check_choices(kind: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    """Raise a UserError unless all chosen names are known."""
    for name in chosen:
        if name not in known:
            raise UserError(unknown_name(kind, name, known))


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """The same with None for NaN, which is no JSON.

    Examples:
        >>> finite({"slope": float("nan"), "stacks": 3})
        {'slope': None, 'stacks': 3}
    """
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values.items()
    }


def _version(library: str) -> str:
    return version(library).partition("+")[0]  # without the build, as in 2.9.0+cpu


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
