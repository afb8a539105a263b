"""The whole comparison: what is to be trained, what is done already, and the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from xnets._errors import UserError
from xnets.bench.timer import Timing
from xnets.compare._execute import FAILURE, describe, find_result, note_failure, run_trial
from xnets.compare._ray import run_on_ray
from xnets.compare._report import format_points, write_report
from xnets.compare._rows import TrialRow, check_row, read_rows, trial_row
from xnets.compare._summary import Point, summarize
from xnets.compare._time import first_of_each, time_networks
from xnets.compare._trials import SINGLE, Trial, list_trials
from xnets.train import Interrupted, Recipe, Result, load_dataset
from xnets.train._distributed import find_world
from xnets.train._machine import choose_device

KINDS = ("dense", "grouped", "shuffled", "expander", "biregular")
COMPRESSIONS = (2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Comparison:
    """What a comparison gave.

    Args:
        recipe: What was compared in kind, compression, block and seed.
        folder: Where its report and the runs are.
        results: Every trial finished in this folder.
        failures: What went wrong with others, by their names.
        rows: Every finished trial, also those known from elsewhere.
        times: Of a forward pass of each network, by its label, where they were measured.
    """

    recipe: Recipe
    folder: Path
    results: list[tuple[Trial, Result]]
    failures: dict[str, str]
    rows: list[TrialRow]
    times: dict[str, Timing] = field(default_factory=dict)

    @property
    def points(self) -> list[Point]:
        """Each network over its seeds."""
        return summarize(self.rows, self.times)

    def __str__(self) -> str:
        return format_points(self.points)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "recipe": self.recipe.to_dict(),
            "folder": str(self.folder),
            "points": [asdict(point) for point in self.points],
            "failures": self.failures,
        }


def compare(
    recipe: Recipe,
    *,
    kinds: Sequence[str] = KINDS,
    compressions: Sequence[float] = COMPRESSIONS,
    blocks: Sequence[tuple[int, int]] = (SINGLE,),
    seeds: int = 3,
    out: str | os.PathLike[str] | None = None,
    known: Sequence[str | os.PathLike[str]] = (),
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    ray: str | None = None,
    timed: bool = True,
    quiet: bool = False,
    command: str | None = None,
) -> Comparison:
    """Train a recipe's network in several kinds and compressions, and report accuracy against cost.

    Each trial is one `train` in a folder of its own, named by its configuration. What is finished
    is not trained again, what was cut off goes on from its last epoch, and a trial that fails is
    reported without stopping the others. The report is points.csv, trials.csv, report.md and
    tradeoff.png. Paper: section 5, figures 3 to 6.

    Args:
        recipe: What is changed in kind, compression, block and seed, and in nothing else. Its seed
            is the first.
        kinds: Which of `list_kinds()`.
        compressions: How many times fewer edges, of all kinds but "dense".
        blocks: (b_out, b_in) of the graphs, of all kinds but "dense" and "grouped".
        seeds: How many of each network.
        out: The folder; comparisons/NAME by default. It may hold other trials of earlier calls.
        known: The trials.csv of other comparisons, from another machine or an older folder. What
            they hold is not trained, and is in the report as it stands there.
        data_dir: Where the data set's files are.
        device: "auto" takes a GPU if there is one; "cpu" or "cuda".
        workers: Processes that read images from folders.
        ray: Address of a Ray cluster to train on, "local" for one on this machine; by default
            trials run here, one after another.
        timed: Whether to time a forward pass of each network at the end, all in turns; never with
            `ray`, whose machines may be others.
        quiet: Whether to show no progress on standard error.
        command: Recorded in the results.

    Returns:
        The results, also those of earlier calls.

    Raises:
        ValueError: If an argument is unknown or out of range, the data is missing, a file of
            `known` is none, the folder cannot be written or is in use, or Ray cannot be reached.
        KeyboardInterrupt: On Ctrl-C. The report of what is finished is written.

    Examples:
        >>> import tempfile
        >>> from xnets.train import get_recipe
        >>> recipe = get_recipe("digits", epochs=1, batch_size=256)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = compare(
        ...         recipe, kinds=["expander"], compressions=[8], seeds=1, out=folder, quiet=True
        ...     )
        >>> [(point.label, point.seeds, point.macs) for point in found.points]
        [('expander 8', 1, 277120)]
    """
    data = None if data_dir is None else str(Path(data_dir).expanduser().absolute())
    trials = list_trials(recipe, kinds, compressions, blocks=blocks, seeds=seeds, data=data)
    rows = _known_rows(known, trials)
    folder = Path("comparisons") / recipe.name if out is None else Path(out)
    if find_world().size > 1:
        raise UserError(
            "a comparison trains each network in one process: start it without torchrun and srun, "
            "and name a Ray cluster by `ray` to use several machines or GPUs"
        )
    if ray is None:
        target = choose_device(device)
        dataset = load_dataset(recipe.dataset, data_dir, image_size=recipe.image_size)
    results: dict[str, Result] = {}
    failures: dict[str, str] = {}
    options = {"data_dir": data, "device": device, "workers": workers, "command": command}
    with _in_use(folder):
        progress = _Progress(len(trials), quiet=quiet)
        pending = []
        for trial in trials:
            found = find_result(_folder_of(trial, folder))
            if found is not None:
                results[trial.name] = found
                rows[trial.name] = trial_row(trial, found)
            elif trial.name not in rows:
                pending.append(trial)
        progress.skip(len(rows), folder)
        try:
            for trial, outcome in _run(pending, folder, ray, options):
                if isinstance(outcome, Result):
                    results[trial.name] = outcome
                    rows[trial.name] = trial_row(trial, outcome)
                    (_folder_of(trial, folder) / FAILURE).unlink(missing_ok=True)
                    progress.say(trial, f"{outcome.test_accuracy:.2%}  {outcome.seconds:.0f} s")
                else:
                    failures[trial.name] = describe(outcome)
                    note_failure(_folder_of(trial, folder), outcome)
                    progress.say(trial, f"failed: {failures[trial.name]}")
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted: {len(rows)} of {len(trials)} trials are done; the same command "
                f"goes on in {folder}"
            ) from error
        finally:
            done = [(t, results[t.name]) for t in trials if t.name in results]
            finished = [rows[t.name] for t in trials if t.name in rows]
            comparison = Comparison(recipe, folder, done, failures, finished)
            write_report(recipe, finished, {}, failures, folder)
        if timed and ray is None and finished:
            progress.say_that(f"timing {len(comparison.points)} networks")
            times = time_networks(first_of_each(trials, rows), dataset, target)
            comparison = replace(comparison, times=times)
            write_report(recipe, finished, times, failures, folder)
    return comparison


def _run(
    trials: Sequence[Trial], folder: Path, ray: str | None, options: dict[str, Any]
) -> Iterator[tuple[Trial, Result | Exception]]:
    folders = [_folder_of(trial, folder) for trial in trials]
    if ray is not None and trials:
        yield from run_on_ray(trials, folders, ray, options)
        return
    for trial, own in zip(trials, folders, strict=True):
        try:
            outcome: Result | Exception = run_trial(trial, own, **options)
        except Exception as error:  # whatever it is, it must not stop the other trials
            outcome = error
        yield trial, outcome


def _known_rows(
    files: Sequence[str | os.PathLike[str]], trials: Sequence[Trial]
) -> dict[str, TrialRow]:
    """The rows of files that are about some of the trials."""
    rows: dict[str, TrialRow] = {}
    for path in files:
        theirs = read_rows(path)
        for trial in trials:
            if trial.name in theirs:
                check_row(theirs[trial.name], trial, path)
                rows[trial.name] = theirs[trial.name]
    return rows


def _folder_of(trial: Trial, folder: Path) -> Path:
    return folder / "trials" / trial.name


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Make the folder and keep other comparisons out; a kill gives it free again."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process is comparing in {folder}; name another folder") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write to the output folder {folder}: {reason}") from error
    with lock:
        yield


class _Progress:
    """A line on standard error for each trial."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._done = 0
        self._quiet = quiet

    def skip(self, number: int, folder: Path) -> None:
        self._done += number
        done = f", {number} of them done already" if number else ""
        self._print(f"{self._total} trials in {folder}{done}")

    def say(self, trial: Trial, outcome: str) -> None:
        self._done += 1
        place = f"{self._done:>{len(str(self._total))}}/{self._total}"
        self._print(f"{place}  {trial.label}, seed {trial.recipe.seed}  {outcome}")

    def say_that(self, line: str) -> None:
        self._print(line)

    def _print(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)
