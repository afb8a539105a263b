"""What `xnets inspect` does: build models by name and look at their connectivity."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from xnets._errors import UserError, asked_by_user
from xnets._suggest import unknown_name
from xnets.connectivity import Connectivity, connectivity
from xnets.convert import convert
from xnets.graphs import list_families
from xnets.models import create_model, model_arguments

TORCHVISION = "torchvision:"


def inspect_models(
    name: str,
    families: Sequence[str],
    *,
    settings: Sequence[str] = (),
    size: str | None = None,
    source: str = "auto",
    norms: str = "mix",
    **sparsity: Any,
) -> dict[str, Connectivity]:
    """The connectivity of one model, sparsified by several families.

    Args:
        name: A registered model, or torchvision:NAME.
        families: Families of graphs.
        settings: Arguments of the model, as NAME=VALUE.
        size: Shape of one input, as 3x224x224; by default what the model takes.
        source: As in `connectivity`, and "input" for its None.
        norms: As in `connectivity`.
        sparsity: compression, block and seed.

    Returns:
        One report a family, in the order given.

    Raises:
        UserError: If an argument is unknown or the model cannot take the input.
    """
    with asked_by_user():
        for family in families:
            if family not in list_families():
                raise ValueError(unknown_name("family", family, list_families()))
        shape = read_size(size) if size is not None else _default_size(name, settings)
    reports = {}
    for family in families:
        with asked_by_user():
            model = _build(name, read_settings(settings), family=family, **sparsity)
        try:
            with asked_by_user():
                reports[family] = connectivity(
                    model,
                    torch.zeros(1, *shape),
                    source=None if source == "input" else source,
                    norms=norms,
                )
        except RuntimeError as error:
            raise UserError(
                f"model {name!r} cannot take an input of {'x'.join(map(str, shape))}, give "
                f"another by `--input`: {error}"
            ) from error
    return reports


def _build(
    name: str,
    settings: dict[str, Any],
    *,
    compression: float | None,
    family: str,
    block: tuple[int, int],
    seed: int,
) -> nn.Module:
    options: dict[str, Any] = {"family": family, "block": block, "seed": seed}
    if not name.startswith(TORCHVISION):
        return create_model(name, compression=compression, **options, **settings)
    from torchvision import models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of old models, about their initial weights
        model: nn.Module = models.get_model(name.removeprefix(TORCHVISION), **settings)
    if compression is None or compression == 1:
        return model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="xnets.convert: no layer was converted")
        model, report = convert(model, compression, **options)
    if not report.converted:
        raise ValueError(f"no layer of model {name!r} can be thinned so: {report.left[-1].reason}")
    return model


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Arguments written as NAME=VALUE; a value that is no Python literal is a text."""
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"`set` (={setting!r}) must be NAME=VALUE, such as width=0.25")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def read_size(text: str) -> list[int]:
    """The sizes in a text such as 3x224x224."""
    try:
        sizes = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise ValueError(f"`input` (={text!r}) must be sizes without the batch, such as 3x224x224")
    return sizes


def _default_size(name: str, settings: Sequence[str]) -> list[int]:
    if name.startswith(TORCHVISION):
        from torchvision import models

        known = models.list_models()
        if name.removeprefix(TORCHVISION) not in known:
            names = [TORCHVISION + model for model in known]
            raise ValueError(unknown_name("model", name, names))
        return [3, 224, 224]
    values = {**model_arguments(name), **read_settings(settings)}
    side = values.get("image_size", 64)
    return [values.get("in_channels", 3), side, side]
