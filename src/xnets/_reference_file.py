"""The original repository's checkpoints as lists of layers: what is read, and what is refused."""

from __future__ import annotations

import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xnets._errors import UserError

_NAMES = ("fpWeight", "weight", "mask", "bias")
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class OriginalLayer(NamedTuple):
    """One layer of the original network.

    Args:
        name: Its name in the checkpoint, without `module.`
        kind: "expander", "dense" or "norm".
        weight: The weight, dense; of a norm its scale.
        mask: 0/1, of an expander layer: (outputs, inputs).
        rest: bias, running_mean, running_var and num_batches_tracked where there are any.
    """

    name: str
    kind: str
    weight: Tensor
    mask: Tensor | None
    rest: dict[str, Tensor]


def read_reference(path: Path) -> tuple[list[OriginalLayer], dict[str, Any]]:
    """Read a checkpoint of the original repository. Runs no code from it.

    Args:
        path: The file, as its `torch.save` of any version wrote it.

    Returns:
        The layers in order, and the plain values beside them: "arch", "epoch", "best_prec1".

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint.
    """
    values = _unpickle(path)
    state = values.get("state_dict", values) if isinstance(values, dict) else None
    if not isinstance(state, Mapping) or not state:
        raise UserError(f"{path} is no checkpoint: it holds no state_dict")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"{path} is no checkpoint: its state_dict holds more than tensors")
    state = {_without_parallel(key): value.detach() for key, value in state.items()}
    _check_order(path, state)
    said = {k: values[k] for k in ("arch", "epoch", "best_prec1") if k in values and state}
    said = {k: v.item() if isinstance(v, Tensor) and v.numel() == 1 else v for k, v in said.items()}
    return [_layer(path, name, group) for name, group in _groups(state).items()], said


def _unpickle(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    if not path.is_file():
        raise UserError(f"{path} is no file")
    with path.open("rb") as file:
        start = file.read(2)
    if not zipfile.is_zipfile(path) and tarfile.is_tarfile(path):
        raise UserError(
            f"{path} is a tar archive, as torch wrote before 0.1.12: load and save it once with a "
            "torch from 0.2 to 2.5"
        )
    if start not in (b"PK", b"\x80\x02"):
        raise UserError(f"{path} is no checkpoint: torch.save did not write it, or it is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is in such a file is anybody's guess
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise UserError(
                f"{path} holds {refused[1]}, which is more than tensors and plain values, and "
                "could run code: it is not read. If you trust it, load it yourself and save its "
                "state_dict alone: torch.save({'state_dict': ...}, FILE)"
            ) from error
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged: {reason}") from error


def _without_parallel(key: str) -> str:
    # DataParallel around the network, or around its `features` alone.
    return ".".join(part for part in key.split(".") if part != "module")


def _check_order(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise unless numbered layers come in order: layers are told apart by their places."""
    last: dict[str, int] = {}
    for key in state:
        for number in re.finditer(r"\d+", key):
            before = key[: number.start()]
            if int(number[0]) < last.get(before, 0):
                raise UserError(
                    f"{path} lists its tensors in another order than the network's: {key} comes "
                    f"after number {last[before]}; save the state_dict as the model gave it"
                )
            last[before] = int(number[0])


def _groups(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, last = key.rpartition(".")
        groups.setdefault(name, {})[last] = value
    return groups


def _layer(path: Path, name: str, group: dict[str, Tensor]) -> OriginalLayer:
    unknown = group.keys() - {*_NAMES, *_NORM}
    if unknown or not {"fpWeight", "weight"} & group.keys():
        raise UserError(
            f"{path}: {name or 'the network'} holds {', '.join(sorted(group))}, which is none of "
            "the original repository's layers"
        )
    weight = group.pop("fpWeight") if "fpWeight" in group else group.pop("weight")
    mask = group.pop("mask", None)
    if "running_mean" in group:
        return OriginalLayer(name, "norm", weight, None, group)
    if mask is None:
        return OriginalLayer(name, "dense", weight, None, group)
    return OriginalLayer(name, "expander", weight, _check_mask(path, name, weight, mask), group)


def _check_mask(path: Path, name: str, weight: Tensor, mask: Tensor) -> Tensor:
    """The mask as (outputs, inputs), if that is all it says."""
    if mask.shape != weight.shape or mask.dim() < 2:
        shapes = f"{tuple(mask.shape)} for a weight of {tuple(weight.shape)}"
        raise UserError(f"{path}: {name}.mask has shape {shapes}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError(f"{path}: {name}.mask has values other than 0 and 1")
    flat = mask.flatten(2) if mask.dim() > 2 else mask.unsqueeze(-1)
    if not bool((flat == flat[..., :1]).all()):
        raise UserError(f"{path}: {name}.mask differs within a kernel, which no rule draws")
    if not bool(weight.isfinite().all()):
        raise UserError(
            f"{path}: {name} has weights that are not finite, and 0 times such a weight is not 0"
        )
    return flat[..., 0]
