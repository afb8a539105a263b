"""A run's folder over its life: new, begun, finished; and by whom it is being used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from xnets._errors import UserError
from xnets.train._files import (
    check_name,
    default_folder,
    make_run_folder,
    remove_leftovers,
    replacing,
)
from xnets.train._recipe import Recipe
from xnets.train._result import RESULT

RECIPE = "recipe.json"
STATE = "resume.ckpt"
RESUME = (None, "auto")
_FREE = {"threads"}  # fields that may change from one part of a run to the next


@dataclass(frozen=True)
class Run:
    """A folder to train in.

    Args:
        folder: Where.
        finished: Whether it holds a result already.
        state: The training state to go on from, if there is one.
    """

    folder: Path
    finished: bool = False
    state: Path | None = None


def open_run(recipe: Recipe, out: str | os.PathLike[str] | None, resume: str | None) -> Run:
    """Make the folder of a run, or find the one to go on with.

    Args:
        recipe: What is trained.
        out: The folder; by default runs/NAME/N.
        resume: "auto" goes on in `out`, or else in the newest unfinished run of this very recipe;
            where there is none, a new run begins. None always begins one.

    Returns:
        The folder and how far it is.

    Raises:
        ValueError: If the folder holds other things, or the run of another recipe.
    """
    if resume not in RESUME:
        raise UserError(
            f"`resume` (={resume!r}) must be 'auto'; name the run's folder by `out` (--out)"
        )
    if resume == "auto":
        if out is not None and (Path(out) / RECIPE).is_file():
            return _continue(Path(out), recipe)
        if out is None:
            for folder in _numbered(default_folder(recipe.name)):
                unfinished = (folder / RECIPE).is_file() and not (folder / RESULT).exists()
                if unfinished and not differences(folder, recipe) and not _in_use(folder):
                    return _continue(folder, recipe)
    folder = make_run_folder(recipe.name, out)
    try:
        with replacing(folder / RECIPE) as temporary:
            text = json.dumps(recipe.to_dict(), indent=2) + "\n"
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write to the output folder {folder}: {reason}") from error
    return Run(folder)


def differences(folder: Path, recipe: Recipe) -> list[str]:
    """Say in what the recipe of a run differs from another.

    Args:
        folder: The run folder.
        recipe: The other recipe.

    Returns:
        One phrase a field; none if the run can be gone on with by `recipe`.

    Raises:
        ValueError: If the folder's recipe is damaged.
    """
    path = folder / RECIPE
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        names = [*recipe.to_dict(), *(begun.keys() - recipe.to_dict().keys())]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    ours = json.loads(json.dumps(recipe.to_dict()))
    return [
        f"`{name}` (={begun.get(name)!r}, now {ours.get(name)!r})"
        for name in names
        if name not in _FREE and begun.get(name) != ours.get(name)
    ]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from using a run folder; a kill gives it free again.

    Args:
        folder: The run folder.

    Raises:
        ValueError: If another process uses it.
    """
    with (folder / RECIPE).open("rb") as file:
        if not _lock(file):
            raise UserError(f"the run in {folder} is being trained by another process")
        yield


def _continue(folder: Path, recipe: Recipe) -> Run:
    check_name(folder)
    changed = differences(folder, recipe)
    if changed:
        raise UserError(
            f"the run in {folder} was begun with another {', '.join(changed)}; a run goes on with "
            "the recipe that it began with: name a new folder"
        )
    if (folder / RESULT).is_file():
        return Run(folder, finished=True)
    with locked(folder):
        remove_leftovers(folder)
    state = folder / STATE
    return Run(folder, state=state if state.is_file() else None)


def _numbered(parent: Path) -> list[Path]:
    """The numbered folders, the newest first."""
    if not parent.is_dir():
        return []
    numbers = [int(p.name) for p in parent.iterdir() if p.name.isascii() and p.name.isdigit()]
    return [parent / str(number) for number in sorted(numbers, reverse=True)]


def _in_use(folder: Path) -> bool:
    with (folder / RECIPE).open("rb") as file:
        return not _lock(file)


def _lock(file: IO[Any]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: nothing keeps two processes apart
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
