"""Finished training runs, and which row of the paper each of them repeats."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xnets.models import ModelName, model_arguments, parse_name
from xnets.reproduce._rows import Row

_OF_THE_DATA = ("in_channels", "num_classes", "image_size")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training run.

    Args:
        folder: Its folder.
        accuracy: Test accuracy after the last epoch, in per cent.
        epochs: How many it was trained for.
        seed: Its seed.
    """

    folder: str
    accuracy: float
    epochs: int
    seed: int


def find_runs(folder: str | os.PathLike[str]) -> dict[Hashable, list[Run]]:
    """Find the finished runs below a folder, by the network and data set they trained.

    Args:
        folder: A folder of run folders, at any depth. It need not exist.

    Returns:
        The runs by `network_key`. What is no result of a training run is passed over.

    Examples:
        >>> find_runs("no/such/folder")
        {}
    """
    found: dict[Hashable, list[Run]] = {}
    for path in sorted(Path(folder).rglob("result.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            recipe = values["recipe"]
            if tuple(recipe["block"]) != (1, 1):  # a network that is in no table
                continue
            key = network_key(
                recipe["model"],
                recipe["dataset"],
                recipe["model_args"],
                recipe["compression"],
                recipe["family"],
            )
            run = Run(
                folder=str(path.parent),
                accuracy=100 * float(values["test_accuracy"]),
                epochs=int(recipe["epochs"]),
                seed=int(recipe["seed"]),
            )
        except (OSError, ValueError, TypeError, KeyError):
            continue
        found.setdefault(key, []).append(run)
    return found


def runs_of(row: Row, runs: Mapping[Hashable, list[Run]]) -> list[Run]:
    """The runs that trained the network of a row on its data set."""
    if row.model is None:
        return []
    return runs.get(network_key(row.model, row.dataset, row.model_args, None, None), [])


def network_key(
    model: str,
    dataset: str,
    args: Mapping[str, Any],
    compression: float | Mapping[str, float] | None,
    family: str | None,
) -> Hashable:
    """What is equal for two descriptions of one network, whether by the paper's name or not.

    Args:
        model: As in `create_model`.
        dataset: The data set.
        args: Arguments of the model.
        compression: As in `create_model`.
        family: As in `create_model`.

    Returns:
        A value to compare and to hash.

    Raises:
        ValueError: If there is no such model.

    Examples:
        >>> by_name = network_key("X-ResNet-2-34", "imagenet", {}, None, None)
        >>> by_name == network_key("resnet", "imagenet", {"depth": 34}, 2, "random")
        True
    """
    defaults = model_arguments(model)
    spec = parse_name(model) or ModelName(model, {}, None, "random")
    if compression is None:
        compression = spec.compression
    if isinstance(compression, Mapping):
        sparsity: Hashable = tuple(sorted(compression.items()))
    else:
        sparsity = compression or 1
    settings = {**defaults, **spec.args, **args}
    plain = tuple(
        sorted((key, value) for key, value in settings.items() if key not in _OF_THE_DATA)
    )
    is_dense = sparsity == 1 and not settings.get("released")
    return spec.model, dataset, plain, sparsity, None if is_dense else family or spec.family
