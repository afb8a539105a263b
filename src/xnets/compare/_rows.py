"""The rows of trials.csv, written here or elsewhere."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xnets._errors import UserError
from xnets.compare._trials import Trial, label_of
from xnets.train import Result
from xnets.train._result import installed_versions


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A row of trials.csv: one finished trial.

    Args:
        trial: The name of its folder.
        kind: As in `list_kinds`.
        compression: As asked; 1 if dense.
        block_out: Outputs that share an edge.
        block_in: Inputs that do.
        seed: Of graphs, weights and data order.
        test_accuracy: Correct share of the test set.
        macs: Multiply-accumulate operations for one image.
        params: Trained numbers.
        bytes: Of parameters and buffers.
        layers: Layers with weights.
        expander_layers: How many of them were thinned.
        seconds: Of training, on whatever machine it was.
        torch: Version.
    """

    trial: str
    kind: str
    compression: float
    block_out: int
    block_in: int
    seed: int
    test_accuracy: float
    macs: int
    params: int
    bytes: int
    layers: int
    expander_layers: int
    seconds: float
    torch: str

    @property
    def block(self) -> tuple[int, int]:
        """The block of its graphs."""
        return self.block_out, self.block_in

    @property
    def label(self) -> str:
        """What it is, but for the seed, in words."""
        return label_of(self.kind, self.compression, self.block)


def trial_row(trial: Trial, result: Result) -> TrialRow:
    """Return the row of a finished trial."""
    return TrialRow(
        trial=trial.name,
        kind=trial.kind,
        compression=trial.compression,
        block_out=trial.block[0],
        block_in=trial.block[1],
        seed=trial.recipe.seed,
        test_accuracy=result.test_accuracy,
        macs=result.size.macs,
        params=result.size.params,
        bytes=result.size.bytes,
        layers=result.size.layers,
        expander_layers=result.size.expander_layers,
        seconds=result.seconds,
        torch=(result.versions or installed_versions())["torch"],
    )


def read_rows(path: str | os.PathLike[str]) -> dict[str, TrialRow]:
    """Read the trials.csv of a comparison.

    Args:
        path: The file.

    Returns:
        Its rows by the names of the trials, which say the whole configuration.

    Raises:
        ValueError: If it cannot be read or is none.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            missing = [f.name for f in fields(TrialRow) if f.name not in (table.fieldnames or ())]
            if missing:
                raise UserError(f"{path} is no trials.csv: it has no column {missing[0]!r}")
            rows = [_row(values, f"{path}, line {table.line_num}") for values in table]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no trials.csv: {error}") from error
    return {row.trial: row for row in rows}


def check_row(row: TrialRow, trial: Trial, path: str | os.PathLike[str]) -> None:
    """Demand that a row is about the trial whose name it has.

    Raises:
        ValueError: If it is not.
    """
    theirs = (row.kind, row.compression, row.block, row.seed)
    if theirs != (trial.kind, trial.compression, trial.block, trial.recipe.seed):
        raise UserError(f"{path} is damaged: the row of {row.trial} is about another trial")


def _row(values: Mapping[str, Any], place: str) -> TrialRow:
    kinds = {"int": int, "float": float, "str": str}
    read: dict[str, Any] = {}
    for field in fields(TrialRow):
        try:
            read[field.name] = kinds[str(field.type)](values[field.name])
        except (ValueError, TypeError):
            raise UserError(
                f"{place}: `{field.name}` (={values[field.name]!r}) must be a number"
            ) from None
    if not 0 <= read["test_accuracy"] <= 1:
        accuracy = values["test_accuracy"]
        raise UserError(f"{place}: `test_accuracy` (={accuracy!r}) must be from 0 to 1")
    return TrialRow(**read)
