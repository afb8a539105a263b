"""The run folder: made before anything is computed, never over the user's files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from xnets._atomic import PARTIAL
from xnets._atomic import replacing as replacing
from xnets._errors import UserError


def make_run_folder(name: str, out: str | os.PathLike[str] | None = None) -> Path:
    """Make the folder of a run and prove that it can be written.

    Args:
        name: The recipe's name; the default folder is runs/NAME/N with the next free number.
        out: The folder to use instead; new, or empty.

    Returns:
        The folder.

    Raises:
        ValueError: If it holds files already, is a file, or cannot be written.
    """
    folder = default_folder(name) if out is None else Path(out)
    check_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if out is None:
            folder = _next_number(folder)
        elif any(folder.iterdir()):
            raise UserError(f"the output folder {folder} is not empty; name a new one")
        # Claims the folder: of two runs that both found it empty, one gets to create this file.
        (folder / "metrics.csv").open("x").close()
    except FileExistsError as error:
        if not folder.is_dir():
            reason = error.strerror or str(error)
            raise UserError(f"cannot write to the output folder {folder}: {reason}") from error
        raise UserError(f"the output folder {folder} is not empty; name a new one") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write to the output folder {folder}: {reason}") from error
    return folder


def default_folder(name: str) -> Path:
    """The folder of the numbered runs of a recipe."""
    return Path("runs") / name


def check_name(folder: Path) -> None:
    """Refuse a path that TensorBoard could not write to.

    Raises:
        ValueError: If it is not UTF-8.
    """
    try:
        str(folder.absolute()).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsencode(folder.absolute()).decode("utf-8", "backslashreplace")
        raise UserError(
            f"the output folder {shown} must have a name in UTF-8, which TensorBoard needs; name "
            "another"
        ) from error


def _next_number(parent: Path) -> Path:
    taken = [int(p.name) for p in parent.iterdir() if p.name.isascii() and p.name.isdigit()]
    number = max(taken, default=0) + 1
    while True:
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:  # another run took it between the look and the mkdir
            number += 1
        else:
            return parent / str(number)


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written files of a process that was killed."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def save_tensors(path: Path, values: Any) -> None:
    """Write a file for `torch.load`, whole or not at all.

    Raises:
        OSError: If it cannot be written; torch itself would raise a RuntimeError.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(values, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
