"""Checkpoints: tensors and plain values only, so that reading one runs no code."""

from __future__ import annotations

import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xnets._errors import UserError
from xnets.models import create_model, model_arguments
from xnets.train._files import save_tensors
from xnets.train._recipe import Recipe
from xnets.train.data import Dataset, FolderDataset

NAME = "checkpoint.ckpt"
_FORMAT = "xnets checkpoint 1"
_KEYS = {"format", "recipe", "data", "epoch", "state_dict"}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it came from.

    Args:
        model: The network, with its weights, in evaluation mode.
        recipe: The recipe that trained it.
        epoch: Epochs done.
        num_classes: Outputs of the network.
    """

    model: nn.Module
    recipe: Recipe
    epoch: int
    num_classes: int


def build_model(
    recipe: Recipe, in_channels: int, num_classes: int, image_size: int | None = None
) -> nn.Module:
    """Build the untrained network of a recipe for some data, on the CPU."""
    data: dict[str, Any] = {"in_channels": in_channels, "num_classes": num_classes}
    if image_size is not None and "image_size" in model_arguments(recipe.model):
        data["image_size"] = image_size
    graphs: dict[str, Any] = {"compression": recipe.compression, "family": recipe.family}
    return create_model(
        recipe.model,
        block=recipe.block,
        seed=recipe.seed,
        backend=recipe.backend,
        # What is None is the model's own choice.
        **{name: value for name, value in graphs.items() if value is not None},
        **{**data, **recipe.model_args},
    )


def data_arguments(dataset: Dataset | FolderDataset) -> dict[str, int]:
    """What `build_model` must know about a data set."""
    height, width = dataset.image_size
    square = {"image_size": height} if height == width else {}
    return {"in_channels": dataset.in_channels, "num_classes": dataset.num_classes, **square}


def save_checkpoint(
    path: Path,
    model: nn.Module,
    recipe: Recipe,
    dataset: Dataset | FolderDataset,
    epoch: int,
) -> None:
    """Write a checkpoint that `load_checkpoint` reads back.

    Args:
        path: Where to.
        model: The network.
        recipe: The recipe that built it.
        dataset: The data it was trained on.
        epoch: Epochs done.
    """
    values = {
        "format": _FORMAT,
        "recipe": recipe.to_dict(),
        "data": data_arguments(dataset),
        "epoch": epoch,
        "state_dict": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    save_tensors(path, values)


def load_checkpoint(run: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint and rebuild its network on the CPU. Runs no code from the file.

    Args:
        run: A run folder or a checkpoint file.

    Returns:
        The network with its weights, its recipe and the epochs done.

    Raises:
        ValueError: If there is none, or the file is not one.

    Examples:
        >>> load_checkpoint("no/such/run")
        Traceback (most recent call last):
        xnets._errors.UserError: no such file or folder: no/such/run
    """
    path = _checkpoint_path(Path(run))
    values = _read(path)
    try:
        recipe = Recipe.from_dict(values["recipe"])
        model = build_model(recipe, **values["data"])
        model.load_state_dict(values["state_dict"])
        epoch = int(values["epoch"])
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        # Torch lists every missing tensor on a line of its own; the first lines say enough.
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is a damaged checkpoint: {reason}") from error
    return Checkpoint(model.eval(), recipe, epoch, values["data"]["num_classes"])


def _checkpoint_path(run: Path) -> Path:
    if run.is_dir():
        if not (run / NAME).is_file():
            raise UserError(f"{run} is no finished run: it holds no {NAME}")
        return run / NAME
    if not run.exists():
        raise UserError(f"no such file or folder: {run}")
    if not run.is_file():  # a device or a pipe could be read for ever
        raise UserError(f"{run} is neither a file nor a folder")
    return run


def _read(path: Path) -> dict[str, Any]:
    not_one = f"{path} is not an xnets checkpoint"
    try:
        is_zip = zipfile.is_zipfile(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not is_zip:
        raise UserError(f"{not_one}: it is no file that torch.save wrote, or was cut short")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about whatever else the file may be
            values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can break the reader in any way
        raise UserError(
            f"{not_one}: it is damaged, or holds more than tensors and plain values"
        ) from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise UserError(f"{not_one}: it does not say that its format is {_FORMAT!r}")
    missing = sorted(_KEYS - values.keys())
    if missing:
        raise UserError(f"{not_one}: it lacks {', '.join(missing)}")
    return values
