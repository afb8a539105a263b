"""What a training run gave."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xnets._errors import UserError
from xnets.count import count
from xnets.train._recipe import Recipe
from xnets.train.data import Dataset, FolderDataset

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a network costs.

    Args:
        params: Trained numbers.
        macs: Multiply-accumulate operations for one image.
        bytes: What parameters and buffers take in memory, the tables of the graphs included.
        edges: Edges of all expander layers; none in a dense network.
        layers: Layers with a weight matrix or convolution.
        expander_layers: How many of them are expander layers.
    """

    params: int
    macs: int
    bytes: int
    edges: int
    layers: int
    expander_layers: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training run gave.

    Args:
        test_accuracy: Correct share of the test set after the last epoch.
        size: What the network costs.
        dense: What its dense twin costs, which is counted but not trained.
        recipe: The recipe that was run.
        seconds: Wall time of the training loop, tests after each epoch included; what a kill threw
            away is not.
        folder: The run folder.
        command: The command line, if one started this.
        versions: Of Python and the libraries that trained.
    """

    test_accuracy: float
    size: Size
    dense: Size
    recipe: Recipe
    seconds: float
    folder: Path
    command: str | None = None
    versions: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of result.json."""
        return {
            "test_accuracy": self.test_accuracy,
            **asdict(self.size),
            "dense": asdict(self.dense),
            "seed": self.recipe.seed,
            "seconds": round(self.seconds, 3),
            "folder": str(self.folder),
            "command": self.command,
            "versions": self.versions or installed_versions(),
            "recipe": self.recipe.to_dict(),
        }

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read the result of a finished run.

        Args:
            folder: The run folder.

        Returns:
            The result.

        Raises:
            ValueError: If there is none, or it is damaged.
        """
        path = Path(folder) / RESULT
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            sizes = [
                Size(**{f.name: part[f.name] for f in fields(Size)})
                for part in (values, values["dense"])
            ]
            return cls(
                test_accuracy=values["test_accuracy"],
                size=sizes[0],
                dense=sizes[1],
                recipe=Recipe.from_dict(values["recipe"]),
                seconds=values["seconds"],
                folder=Path(folder),
                command=values["command"],
                versions=values["versions"],
            )
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is no result of a training run: {error}") from error


def measure(model: nn.Module, dataset: Dataset | FolderDataset) -> Size:
    """Count what a network costs on one image of a data set."""
    total = count(model, torch.zeros(1, dataset.in_channels, *dataset.image_size))
    return Size(
        params=total.params,
        macs=total.macs,
        bytes=total.bytes,
        edges=total.edges,
        layers=sum(layer.macs > 0 for layer in total.layers),
        expander_layers=sum(layer.edges > 0 for layer in total.layers),
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of what a training depends on most."""
    versions = {"python": platform.python_version()}
    for package in ("xnets", "torch", "lightning", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "unknown"
    return versions
