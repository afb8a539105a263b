"""Counting a row's network anew, without its weights."""

from __future__ import annotations

import torch

from xnets.count import count
from xnets.models import create_model
from xnets.reproduce._rows import DATASETS, Row


def recount(row: Row) -> tuple[int, int] | None:
    """Build the network of a row on the meta device and count it.

    Args:
        row: The row.

    Returns:
        (parameters, MACs of one image); None for another method's row.

    Examples:
        >>> from xnets.reproduce import get_table
        >>> recount(get_table("table-2").rows[-1])
        (14990922, 313463808)
    """
    if row.model is None:
        return None
    side, num_classes = DATASETS[row.dataset]
    with torch.device("meta"):
        model = create_model(row.model, num_classes=num_classes, **row.model_args).eval()
        counted = count(model, torch.empty(1, 3, side, side))
    return counted.params, counted.macs
