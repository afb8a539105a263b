"""CIFAR-10 and CIFAR-100: where they are found, and the normalisation of the paper's runs."""

from __future__ import annotations

from pathlib import Path

import torch

from xnets._errors import UserError
from xnets.train.data._cache import cache_folder
from xnets.train.data._cifar_files import LAYOUTS, CifarError, find_batches, read_batch
from xnets.train.data._dataset import Dataset

# Mean and standard deviation of red, green and blue over the training set, 0 to 255, as every
# published run of the paper's networks used them.
_MEAN_STD = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
}
_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


def load_cifar10(data_dir: Path | None, image_size: int | None) -> Dataset:
    """Load CIFAR-10, 10 classes of 32 x 32."""
    return _load("cifar10", data_dir)


def load_cifar100(data_dir: Path | None, image_size: int | None) -> Dataset:
    """Load CIFAR-100 with its 100 fine labels."""
    return _load("cifar100", data_dir)


def _load(name: str, data_dir: Path | None) -> Dataset:
    layout = LAYOUTS[name]
    folder = cache_folder() if data_dir is None else data_dir
    names = (*layout.train, layout.test)
    paths = find_batches(layout, folder)
    if data_dir is None and len(paths) < len(names):
        try:
            _download(name)
        except (OSError, RuntimeError) as error:  # no network, no space, a mirror's bad file
            reason = " ".join(str(error).split())
            raise _error(name, f"the download failed ({reason})", folder) from error
        paths = find_batches(layout, folder)
    try:
        missing = [batch for batch in names if batch not in paths]
        if missing:
            which = "its batch files" if len(missing) == len(names) else ", ".join(missing)
            raise CifarError(f"missing {which}")
        batches = {batch: read_batch(layout, paths[batch]) for batch in names}
    except CifarError as error:
        raise _error(name, str(error), folder) from error
    mean, std = _MEAN_STD[name]
    return Dataset(
        name=name,
        train_images=torch.cat([batches[batch][0] for batch in layout.train]),
        train_labels=torch.cat([batches[batch][1] for batch in layout.train]),
        test_images=batches[layout.test][0],
        test_labels=batches[layout.test][1],
        num_classes=layout.num_classes,
        mean=mean,
        std=std,
    )


def _download(name: str) -> None:
    from torchvision.datasets import CIFAR10, CIFAR100

    {"cifar10": CIFAR10, "cifar100": CIFAR100}[name](str(cache_folder()), download=True)


def _error(name: str, problem: str, folder: Path) -> UserError:
    return UserError(
        f"{name}: {problem}; looked in {folder}; get the Python or the binary version from "
        f"{_HOME}, unpack it, and name its folder: --data-dir FOLDER"
    )
