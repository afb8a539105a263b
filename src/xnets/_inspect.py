"""What `xnets inspect` does: build models by name and look at their connectivity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from xnets._errors import UserError, asked_by_user
from xnets._settings import read_settings
from xnets._suggest import unknown_name
from xnets.connectivity import Connectivity, connectivity
from xnets.graphs import list_families
from xnets.models import build_model, input_size, read_size


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
        name: A registered model, or torchvision:NAME, or timm:NAME.
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
        values = read_settings(settings)
        shape = read_size(size) if size is not None else input_size(name, values, side=64)
    reports = {}
    for family in families:
        with asked_by_user():
            model = build_model(name, settings=values, family=family, **sparsity)
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
