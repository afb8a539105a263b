"""What a published table is: rows with what was printed, what is counted, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xnets.reproduce._counts import COUNTS

# Data set -> (height and width of the image, classes).
DATASETS = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet": (224, 1000)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network in one table.

    Args:
        label: What the table calls it.
        model: Its name for `xnets.create_model`; None for another method's, which is not built.
        model_args: Arguments beside the name, where the network of this row is a variant.
        dataset: What it was trained on.
        curve: Its curve, in a figure.
        params: Printed number of parameters.
        flops: Printed cost of one image, in the unit of its table.
        accuracy: Printed accuracy, in per cent; of a mean, if `spread` says so.
        spread: Printed spread over several runs, in words.
        logged: Best and last test accuracy in the training log that came with the original code.
        reason: Why what is counted differs from what is printed, and other things worth knowing.
    """

    label: str
    model: str | None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    dataset: str
    curve: str | None = None
    params: float | None = None
    flops: float | None = None
    accuracy: float | None = None
    spread: str | None = None
    logged: tuple[float, float] | None = None
    reason: str = ""

    @property
    def counted(self) -> tuple[int, int] | None:
        """(parameters, MACs of one image) of the network as `create_model` builds it."""
        if self.model is None:
            return None
        return COUNTS[self.model, self.dataset, settings(self.model_args)]

    @property
    def command(self) -> str | None:
        """The command that trains this network as the paper did."""
        if self.model is None:
            return None
        variants = "".join(f" --set {setting}" for setting in settings(self.model_args).split())
        # CIFAR is downloaded; where ImageNet's images are, only the user knows.
        folder = " --data-dir ~/imagenet" if self.dataset == "imagenet" else ""
        return f"xnets train {self.dataset}-{self.model}{variants}{folder}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table or figure.

    Args:
        key: What `xnets reproduce` calls it.
        title: What it shows.
        rows: Its rows, in the printed order.
        flops_per_mac: What its FLOPs count for one multiply-accumulate: 1 or 2.
        note: What holds for all of its rows.
    """

    key: str
    title: str
    rows: tuple[Row, ...]
    flops_per_mac: int = 1
    note: str = ""


def settings(args: Mapping[str, Any]) -> str:
    """Arguments as the command line takes them, in order of their names.

    Examples:
        >>> settings({"thin_transitions": False})
        'thin_transitions=False'
    """
    return " ".join(f"{name}={args[name]}" for name in sorted(args))
