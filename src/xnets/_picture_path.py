"""Where a picture can be written."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES = (".png", ".svg", ".pdf")


def check_picture(name: str, path: Path) -> None:
    """Find out before the work whether its picture can be written.

    Args:
        name: What the path is called, as "--plot".
        path: The path.

    Raises:
        ValueError: If the suffix names no format, or the folder does not exist.

    Examples:
        >>> check_picture("--plot", Path("graph.gif"))
        Traceback (most recent call last):
        ValueError: --plot (=graph.gif) must end in one of .png, .svg, .pdf
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{name} (={path}) must end in one of {', '.join(_SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{name} (={path}): there is no folder {path.parent}; make it first")
