"""The check that every model makes of its sizes."""

from __future__ import annotations


def check_sizes(**sizes: int) -> None:
    """Demand positive integers.

    Args:
        sizes: The arguments by name.

    Raises:
        ValueError: Naming the first that is none.

    Examples:
        >>> check_sizes(width=0)
        Traceback (most recent call last):
        ValueError: `width` (=0) must be an integer of at least 1
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"`{name}` (={size!r}) must be an integer of at least 1")
