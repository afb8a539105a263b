"""The run folder: made before anything is computed, never over the user's files."""

from __future__ import annotations

import os
from pathlib import Path

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
    folder = Path("runs") / name if out is None else Path(out)
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
