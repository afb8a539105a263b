"""Progress bars on standard error, gone when done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T] | Iterable[T], label: str, *, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar on standard error; without a terminal nothing is shown.

    Args:
        items: What to iterate over.
        label: What is being done, shown before the bar.
        total: The number of items, if they do not know it.

    Yields:
        The items.

    Examples:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    yield from rich_track(
        items,
        label,
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
