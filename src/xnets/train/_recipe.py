"""What a recipe is: everything that decides a training run, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xnets._suggest import unknown_name
from xnets.graphs import list_families
from xnets.models import list_models
from xnets.ops import list_backends
from xnets.train.data import list_datasets

_MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that decides a training run.

    Args:
        name: Names the recipe and the folder of its runs.
        dataset: One of `list_datasets()`.
        model: One of `xnets.list_models()`.
        model_args: Arguments of the model, beside the data set's `in_channels` and `num_classes`.
        compression: How many times fewer edges than dense; 1 trains the dense network.
        family: How the graphs are drawn: one of `xnets.graphs.list_families()`.
        block: (b_out, b_in) of the graphs.
        backend: How the expander layers compute, or "auto".
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Peak learning rate of the one-cycle schedule.
        warmup: Fraction of the steps in which the learning rate rises.
        weight_decay: Of AdamW, on weights; biases and batch norms have none.
        label_smoothing: Share of the target given to all classes alike.
        flip: Whether images are mirrored at random.
        shift: By how many pixels images are moved at random.
        seed: Of the graphs, the weights, the shuffle and the augmentation.
        threads: CPU threads, in training and evaluation; None leaves torch's own number.

    Raises:
        ValueError: If a value is out of range or a name unknown.
        TypeError: If a value is of a wrong type.

    Examples:
        >>> Recipe(name="mine", dataset="digits", model="mlp", epochs=0, batch_size=64, lr=0.01)
        Traceback (most recent call last):
        ValueError: `epochs` (=0) must be at least 1
    """

    name: str
    dataset: str
    model: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    compression: float = 4.0
    family: str = "random"
    block: tuple[int, int] = (1, 1)
    backend: str = "auto"
    epochs: int
    batch_size: int
    lr: float
    warmup: float = 0.25
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value, so that a bad one fails before anything is loaded or written."""
        for kind, name, known in (
            ("dataset", self.dataset, list_datasets()),
            ("model", self.model, list_models()),
            ("family", self.family, list_families()),
            ("backend", self.backend, ["auto", *list_backends()]),
        ):
            if name not in known:
                raise ValueError(unknown_name(kind, name, known))
        object.__setattr__(self, "model_args", dict(self.model_args))
        object.__setattr__(self, "block", _pair("block", self.block))
        for name, at_least in (("epochs", 1), ("batch_size", 1), ("shift", 0), ("seed", 0)):
            _check_int(name, getattr(self, name), at_least)
        if self.seed >= 2**63:  # what torch.manual_seed takes
            raise ValueError(f"`seed` (={self.seed}) must be below 2^63")
        if self.threads is not None:
            _check_int("threads", self.threads, 1)
            if self.threads > _MOST_THREADS:  # OpenMP dies of too many, without a word
                raise ValueError(f"`threads` (={self.threads}) must be at most {_MOST_THREADS}")
        self._check_float("compression", lambda v: v >= 1, "at least 1 and finite")
        self._check_float("lr", lambda v: v > 0, "above 0 and finite")
        self._check_float("weight_decay", lambda v: v >= 0, "at least 0 and finite")
        self._check_float("warmup", lambda v: 0 < v < 1, "between 0 and 1")
        self._check_float("label_smoothing", lambda v: 0 <= v < 1, "at least 0 and below 1")

    def _check_float(self, name: str, good: Callable[[float], bool], demand: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"`{name}` (={value!r}) must be a number")
        if not (math.isfinite(value) and good(value)):
            raise ValueError(f"`{name}` (={value}) must be {demand}")
        object.__setattr__(self, name, float(value))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint or a JSON file.

        Examples:
            >>> from xnets.train import get_recipe
            >>> recipe = get_recipe("digits", block=(4, 1))
            >>> recipe.to_dict()["block"]
            [4, 1]
            >>> Recipe.from_dict(recipe.to_dict()) == recipe
            True
        """
        return {**asdict(self), "block": list(self.block)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` wrote.

        Args:
            values: The plain values.

        Returns:
            The recipe.

        Raises:
            ValueError: If a value is out of range or a name unknown.
            TypeError: If a field is missing, unknown or of a wrong type.
        """
        return cls(**values)


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"`{name}` (={value!r}) must be a pair of integers")
    for side in value:
        _check_int(name, side, 1)
    return value[0], value[1]


def _check_int(name: str, value: Any, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` (={value!r}) must be an integer")
    if value < at_least:
        raise ValueError(f"`{name}` (={value}) must be at least {at_least}")
