"""The data sets: whole in memory, on the device; batches are slices, augmented all at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from xnets._errors import UserError
from xnets._suggest import unknown_name
from xnets.train._augment import random_flip, random_shift
from xnets.train._idx import PARTS, IdxError, Split, find_idx, read_splits

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_TEST_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels for training and testing, in memory.

    Args:
        name: As `load_dataset` knows it.
        train_images: (number, channels, height, width), uint8.
        train_labels: (number,), int64.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
        num_classes: Labels are below this.

    Examples:
        >>> digits = load_dataset("digits")
        >>> digits
        Dataset(digits: 1437 train, 360 test, 10 classes, 1 x 8 x 8)
        >>> images, labels = next(iter(digits.test_batches()))
        >>> images.shape, images.dtype, labels.shape
        (torch.Size([360, 1, 8, 8]), torch.float32, torch.Size([360]))
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.train_images.shape[1:]))
        return (
            f"Dataset({self.name}: {len(self.train_labels)} train, {len(self.test_labels)} test, "
            f"{self.num_classes} classes, {size})"
        )

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return int(self.train_images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.train_images.shape[2:]
        return height, width

    @cached_property
    def mean_std(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels, by which batches are normalised."""
        # From the histogram: exact, and without a float copy of the whole set.
        count = torch.bincount(self.train_images.flatten(), minlength=256).double().cpu()
        value = torch.arange(256, dtype=torch.float64)
        mean = (count @ value) / count.sum()
        variance = (count @ (value - mean) ** 2) / count.sum()
        return float(mean), max(float(variance.sqrt()), 1e-6)  # a blank set has no variance

    def normalize(self, images: Tensor) -> Tensor:
        """Return floats of about zero mean and unit variance."""
        mean, std = self.mean_std
        return (images.float() - mean) / std

    def to(self, device: torch.device | str) -> Dataset:
        """Return this data set with its tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, **moved)

    def train_batches(
        self, batch_size: int, *, seed: int = 0, flip: bool = False, shift: int = 0
    ) -> TrainBatches:
        """Return the training batches, shuffled anew on every pass.

        Args:
            batch_size: Images per batch; the last, smaller batch of a pass is left out.
            seed: Of the shuffle and the augmentation.
            flip: Whether to mirror images at random.
            shift: By how many pixels to move images at random.

        Returns:
            An iterable with a length.

        Raises:
            ValueError: If the batch is larger than the data.
        """
        return TrainBatches(self, batch_size, seed=seed, flip=flip, shift=shift)

    def test_batches(self) -> TestBatches:
        """Return the test batches, always the same, so that accuracies are too."""
        return TestBatches(self)


class TrainBatches:
    """Iterates over shuffled, augmented, normalised batches; see `Dataset.train_batches`."""

    def __init__(
        self, data: Dataset, batch_size: int, *, seed: int, flip: bool, shift: int
    ) -> None:
        if not 1 <= batch_size <= len(data.train_labels):
            raise ValueError(
                f"`batch_size` (={batch_size}) must be between 1 and the number of "
                f"training images (={len(data.train_labels)})"
            )
        self._data = data
        self._batch_size = batch_size
        self._flip = flip
        self._shift = shift
        self._generator = torch.Generator(data.train_images.device).manual_seed(seed)

    def __len__(self) -> int:
        return len(self._data.train_labels) // self._batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data, generator = self._data, self._generator
        device = data.train_images.device
        order = torch.randperm(len(data.train_labels), generator=generator, device=device)
        for batch in order.split(self._batch_size)[: len(self)]:
            images = data.train_images[batch]
            if self._flip:
                images = random_flip(images, generator)
            if self._shift:
                images = random_shift(images, self._shift, generator)
            yield data.normalize(images), data.train_labels[batch]


class TestBatches:
    """Iterates over the test set in order; see `Dataset.test_batches`."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def __len__(self) -> int:
        return math.ceil(len(self._data.test_labels) / _TEST_BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images = self._data.test_images.split(_TEST_BATCH)
        labels = self._data.test_labels.split(_TEST_BATCH)
        for batch, targets in zip(images, labels, strict=True):
            yield self._data.normalize(batch), targets


def load_dataset(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a data set into memory.

    Args:
        name: One of `list_datasets()`.
        data_dir: Where the files are; if given, nowhere else is looked. "digits" has none.

    Returns:
        The data set, on the CPU.

    Raises:
        ValueError: If the name is unknown, or the data is missing or damaged; the message says
            which file, where it was looked for and how to get it.

    Examples:
        >>> load_dataset("digits").num_classes
        10
        >>> load_dataset("digit")
        Traceback (most recent call last):
        xnets._errors.UserError: unknown dataset 'digit'; did you mean 'digits'? known: digits, ...
    """
    if name not in _LOADERS:
        raise UserError(unknown_name("dataset", name, _LOADERS))
    return _LOADERS[name](None if data_dir is None else Path(data_dir))


def list_datasets() -> list[str]:
    """The names that `load_dataset` knows.

    Examples:
        >>> list_datasets()
        ['digits', 'fashion-mnist']
    """
    return list(_LOADERS)


def _load_digits(data_dir: Path | None) -> Dataset:
    if data_dir is not None:
        raise UserError("the digits come with scikit-learn; `data_dir` is for fashion-mnist")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # This split is part of what an accuracy on the digits means: never change it.
    train_images, test_images, train_labels, test_labels = train_test_split(
        torch.from_numpy(images).to(torch.uint8).reshape(-1, 1, 8, 8).numpy(),
        labels,
        test_size=360,
        stratify=labels,
        random_state=0,
    )
    return Dataset(
        name="digits",
        train_images=torch.from_numpy(train_images),
        train_labels=torch.from_numpy(train_labels).long(),
        test_images=torch.from_numpy(test_images),
        test_labels=torch.from_numpy(test_labels).long(),
        num_classes=10,
    )


def _load_fashion_mnist(data_dir: Path | None) -> Dataset:
    looked_in, paths = _find_fashion_mnist(data_dir)
    try:
        missing = [part for part in PARTS if part not in paths]
        if missing:
            which = "its four idx files" if len(missing) == len(PARTS) else ", ".join(missing)
            raise IdxError(f"missing {which}")
        train, test = read_splits(paths, num_classes=10, image_size=28)
    except IdxError as error:
        raise _fashion_mnist_error(str(error), looked_in) from error
    return _from_splits("fashion-mnist", train, test, num_classes=10)


def _find_fashion_mnist(data_dir: Path | None) -> tuple[list[Path], dict[str, Path]]:
    """Return the folders looked into and the idx files of the best: the first complete one."""
    cache = _cache_folder() / "FashionMNIST" / "raw"
    folders = [DEBIAN_FASHION_MNIST, cache] if data_dir is None else [data_dir]
    found = [find_idx(folder) for folder in folders]
    for paths in found:
        if len(paths) == len(PARTS):
            return folders, paths
    if data_dir is not None:
        return folders, found[0]
    try:
        _download_fashion_mnist()
    except (OSError, RuntimeError) as error:  # no network, no space, a mirror's bad file
        reason = " ".join(str(error).split())
        raise _fashion_mnist_error(f"the download failed ({reason})", folders) from error
    return folders, find_idx(cache)


def _download_fashion_mnist() -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(_cache_folder()), download=True)


def _fashion_mnist_error(problem: str, looked_in: list[Path]) -> UserError:
    return UserError(
        f"fashion-mnist: {problem}; looked in {' and '.join(map(str, looked_in))}; get the data "
        "with `apt install dataset-fashion-mnist`, or name its folder: --data-dir FOLDER"
    )


def _from_splits(name: str, train: Split, test: Split, *, num_classes: int) -> Dataset:
    return Dataset(
        name=name,
        train_images=train.images.unsqueeze(1),
        train_labels=train.labels,
        test_images=test.images.unsqueeze(1),
        test_labels=test.labels,
        num_classes=num_classes,
    )


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "xnets"


_TENSORS = ("train_images", "train_labels", "test_images", "test_labels")

_LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": _load_digits,
    "fashion-mnist": _load_fashion_mnist,
}
