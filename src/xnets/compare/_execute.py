"""Training one trial into its folder."""

from __future__ import annotations

import os
import shutil
import traceback
from pathlib import Path

from xnets._errors import UserError
from xnets.compare._trials import Trial
from xnets.train import Result, train
from xnets.train._files import replacing
from xnets.train._result import RESULT
from xnets.train._run import RECIPE

FAILURE = "failure.txt"


def find_result(folder: Path) -> Result | None:
    """Return the result of a trial, if it is finished.

    Args:
        folder: The trial's.

    Raises:
        ValueError: If the result is damaged.
    """
    return Result.load(folder) if (folder / RESULT).is_file() else None


def run_trial(
    trial: Trial,
    folder: Path,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    command: str | None = None,
) -> Result:
    """Train a trial, or go on with it where it was cut off.

    Args:
        trial: What to train.
        folder: Where to; it belongs to this trial alone.
        data_dir: Where the data set's files are.
        device: "auto", "cpu" or "cuda".
        workers: Processes that read images.
        command: Recorded in the result.

    Returns:
        The result, which is in the folder too.
    """
    if folder.exists() and not (folder / RECIPE).is_file():
        shutil.rmtree(folder)  # killed before it began
    return train(
        trial.recipe,
        out=folder,
        data_dir=data_dir,
        device=device,
        resume="auto",
        workers=workers,
        quiet=True,
        command=command,
    )


def describe(error: BaseException) -> str:
    """Say what went wrong, in one line.

    Examples:
        >>> describe(RuntimeError("no memory   left"))
        'RuntimeError: no memory left'
    """
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def note_failure(folder: Path, error: BaseException) -> None:
    """Leave the whole story in the trial's folder, if it can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / FAILURE) as temporary:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            temporary.write_text("".join(lines), encoding="utf-8")
    except OSError:  # the disk may be what failed
        pass
