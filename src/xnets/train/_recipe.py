"""What a recipe is: everything that decides a training run, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xnets._suggest import unknown_name
from xnets.graphs import list_families
from xnets.models import model_arguments
from xnets.models._checks import check_bool
from xnets.ops import list_backends
from xnets.train.data import list_datasets
from xnets.train.data._augment import FILLS
from xnets.train.data._registry import check_image_size

SCHEDULES = ("one-cycle", "cosine", "step")
OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_MOST_THREADS = 1024
OF_THE_DATA = ("in_channels", "num_classes", "image_size")  # arguments of a model that it gets


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that decides a training run.

    Args:
        name: Names the recipe and the folder of its runs.
        dataset: One of `list_datasets()`.
        model: A name that `xnets.create_model` knows.
        model_args: Arguments of the model, but for `in_channels`, `num_classes` and `image_size`,
            which are the data set's.
        compression: How many times fewer edges than dense; 1 trains the dense network, and None
            leaves it to the model, whose name may say it: "X-DenseNet-BC-2-40-24".
        family: How the graphs are drawn: one of `xnets.graphs.list_families()`; None leaves it to
            the model's name.
        block: (b_out, b_in) of the graphs.
        backend: How the expander layers compute, or "auto".
        image_size: Height and width that the network sees, of data sets without a size of their
            own; None for 224.
        epochs: Passes over the training images.
        batch_size: Images per step, in all processes together.
        accumulate: Into how many pieces each process cuts its part of a batch, to save memory.
        precision: "32-true", or "bf16-mixed" or "16-mixed" for automatic mixed precision.
        optimizer: "adamw", or "sgd" with `momentum`.
        lr: Peak learning rate.
        momentum: Of SGD.
        nesterov: Whether SGD's momentum is Nesterov's.
        schedule: "one-cycle": a cosine up and one down to nothing; "cosine": a straight line up and
            a cosine down to `min_lr`; "step": times `gamma` at each of the `milestones`.
        warmup: Fraction of the steps in which the learning rate rises; "step" has none.
        milestones: When "step" changes the learning rate, as fractions of the epochs.
        gamma: Its factor then.
        min_lr: Below this the learning rate does not fall.
        weight_decay: Of the optimizer, on weights.
        decay_all: Whether it is also on biases and batch norms.
        label_smoothing: Share of the target given to all classes alike.
        ema: Decay per step of an exponential moving average of the weights, which then is what is
            tested and saved; None for none.
        flip: Whether images are mirrored at random.
        shift: By how many pixels images are moved at random.
        fill: What comes in where an image was moved: "zeros" or "reflect".
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
    compression: float | None = 4.0
    family: str | None = "random"
    block: tuple[int, int] = (1, 1)
    backend: str = "auto"
    image_size: int | None = None
    epochs: int
    batch_size: int
    accumulate: int = 1
    precision: str = "32-true"
    optimizer: str = "adamw"
    lr: float
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "one-cycle"
    warmup: float = 0.25
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    min_lr: float = 0.0
    weight_decay: float = 0.0
    decay_all: bool = False
    label_smoothing: float = 0.0
    ema: float | None = None
    flip: bool = False
    shift: int = 0
    fill: str = "zeros"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value, so that a bad one fails before anything is loaded or written."""
        for kind, name, known in (
            ("dataset", self.dataset, list_datasets()),
            ("family", self.family, [None, *list_families()]),
            ("backend", self.backend, ["auto", *list_backends()]),
            ("precision", self.precision, PRECISIONS),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("fill", self.fill, FILLS),
        ):
            if name not in known:
                raise ValueError(unknown_name(kind, str(name), [k for k in known if k is not None]))
        object.__setattr__(self, "model_args", self._checked_model_args())
        object.__setattr__(self, "block", _pair("block", self.block))
        object.__setattr__(self, "milestones", _fractions("milestones", self.milestones))
        for name, at_least in (
            ("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("shift", 0), ("seed", 0),
        ):  # fmt: skip
            _check_int(name, getattr(self, name), at_least)
        for name in ("nesterov", "decay_all", "flip"):
            check_bool(name, getattr(self, name))
        if self.seed >= 2**63:  # what torch.manual_seed takes
            raise ValueError(f"`seed` (={self.seed}) must be below 2^63")
        if self.threads is not None:
            _check_int("threads", self.threads, 1)
            if self.threads > _MOST_THREADS:  # OpenMP dies of too many, without a word
                raise ValueError(f"`threads` (={self.threads}) must be at most {_MOST_THREADS}")
        if self.image_size is not None:
            _check_int("image_size", self.image_size, 1)
            check_image_size(self.dataset, self.image_size)
        if self.compression is not None:
            self._check_float("compression", lambda v: v >= 1, "at least 1 and finite")
        if self.ema is not None:
            self._check_float("ema", lambda v: 0 < v < 1, "between 0 and 1")
        self._check_float("lr", lambda v: v > 0, "above 0 and finite")
        self._check_float("momentum", lambda v: 0 <= v < 1, "at least 0 and below 1")
        self._check_float("gamma", lambda v: 0 < v <= 1, "above 0 and at most 1")
        self._check_float("min_lr", lambda v: 0 <= v <= self.lr, f"from 0 to `lr` (={self.lr})")
        self._check_float("weight_decay", lambda v: v >= 0, "at least 0 and finite")
        self._check_float("warmup", lambda v: 0 < v < 1, "between 0 and 1")
        self._check_float("label_smoothing", lambda v: 0 <= v < 1, "at least 0 and below 1")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum > 0):
            raise ValueError("`nesterov` (=True) needs `optimizer` 'sgd' and a `momentum` above 0")

    def _checked_model_args(self) -> dict[str, Any]:
        if not isinstance(self.model_args, Mapping):
            raise TypeError(f"`model_args` (={self.model_args!r}) must be a mapping")
        known = model_arguments(self.model)
        for name, value in self.model_args.items():
            if name in OF_THE_DATA:
                raise ValueError(f"`{name}` (={value!r}) of the model must be left to the data set")
            if name not in known:
                shown = model_settings(self.model)
                raise TypeError(unknown_name(f"argument of model {self.model!r}:", name, shown))
            if isinstance(known[name], bool):
                check_bool(name, value)
        return dict(self.model_args)

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
        return {
            **asdict(self),
            "block": list(self.block),
            "milestones": list(self.milestones),
        }

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


def model_settings(model: str) -> list[str]:
    """The arguments of a model that a recipe decides, by name.

    Args:
        model: As in `create_model`.

    Returns:
        The names.

    Raises:
        ValueError: If there is no such model.

    Examples:
        >>> model_settings("X-MobileNet-0.5-8")
        ['as_coded', 'thin_from']
    """
    return [name for name in model_arguments(model) if name not in OF_THE_DATA]


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"`{name}` (={value!r}) must be a pair of integers")
    for side in value:
        _check_int(name, side, 1)
    return value[0], value[1]


def _fractions(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"`{name}` (={values!r}) must be a tuple of numbers, as (0.5, 0.75)")
    good = all(isinstance(v, (int, float)) and 0 < v < 1 for v in values)
    if not good or list(values) != sorted(values):
        raise ValueError(f"`{name}` (={values}) must be rising numbers between 0 and 1")
    return tuple(float(v) for v in values)


def _check_int(name: str, value: Any, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` (={value!r}) must be an integer")
    if value < at_least:
        raise ValueError(f"`{name}` (={value}) must be at least {at_least}")
