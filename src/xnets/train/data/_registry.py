"""The data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from xnets._errors import UserError
from xnets._suggest import unknown_name
from xnets.train.data._alike import load_fashion_mnist_alike
from xnets.train.data._cifar import load_cifar10, load_cifar100
from xnets.train.data._dataset import Dataset
from xnets.train.data._digits import load_digits
from xnets.train.data._fashion import load_fashion_mnist
from xnets.train.data._folder import FolderDataset, load_image_folder, load_imagenet
from xnets.train.data._tu_berlin import load_tu_berlin

AnyDataset = Dataset | FolderDataset


class _Entry(NamedTuple):
    load: Callable[[Path | None, int | None], AnyDataset]
    sizes: bool  # whether the size that a network sees can be chosen


_DATASETS = {
    "cifar10": _Entry(load_cifar10, sizes=False),
    "cifar100": _Entry(load_cifar100, sizes=False),
    "digits": _Entry(load_digits, sizes=False),
    "fashion-mnist": _Entry(load_fashion_mnist, sizes=False),
    "fashion-mnist-alike": _Entry(load_fashion_mnist_alike, sizes=False),
    "image-folder": _Entry(load_image_folder, sizes=True),
    "imagenet": _Entry(load_imagenet, sizes=True),
    "tu-berlin": _Entry(load_tu_berlin, sizes=True),
}


def load_dataset(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
) -> AnyDataset:
    """Load a data set: into memory, or the names of its files where it is large.

    Args:
        name: One of `list_datasets()`.
        data_dir: Where the files are; if given, nowhere else is looked. "digits" has none.
        image_size: Height and width that a network sees, of "imagenet", "image-folder" and
            "tu-berlin"; 224 by default. The others have a size of their own.

    Returns:
        The data set, on the CPU. The number of classes is the data's own.

    Raises:
        ValueError: If the name is unknown, or the data is missing or damaged; the message says
            which file, where it was looked for and how to get it.

    Examples:
        >>> load_dataset("digits").num_classes
        10
        >>> load_dataset("digit")
        Traceback (most recent call last):
        xnets._errors.UserError: unknown dataset 'digit'; did you mean 'digits'? known: cifar10, ...
    """
    entry = _find(name)
    check_image_size(name, image_size)
    data = entry.load(None if data_dir is None else Path(data_dir), image_size)
    if data.num_classes < 2:
        raise UserError(f"{name}: {data_dir} holds one class only; there must be two to tell apart")
    return data


def list_datasets() -> list[str]:
    """The names that `load_dataset` knows.

    Returns:
        The names, sorted.

    Examples:
        >>> list_datasets()
        ['cifar10', 'cifar100', 'digits', 'fashion-mnist', 'fashion-mnist-alike', 'image-folder',
         'imagenet', 'tu-berlin']
    """
    return list(_DATASETS)


def check_image_size(name: str, image_size: int | None) -> None:
    """Refuse a size for a data set that has its own.

    Raises:
        ValueError: If so.
    """
    if image_size is not None and not _find(name).sizes:
        raise UserError(
            f"`image_size` (={image_size}) must be left out: the images of {name} have a size of "
            "their own"
        )


def _find(name: str) -> _Entry:
    if name not in _DATASETS:
        raise UserError(unknown_name("dataset", name, _DATASETS))
    return _DATASETS[name]
