"""Fashion-MNIST: where its four files are found."""

from __future__ import annotations

from pathlib import Path

from xnets._errors import UserError
from xnets.train.data._cache import cache_folder
from xnets.train.data._dataset import Dataset
from xnets.train.data._idx import PARTS, IdxError, find_idx, read_splits

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def load_fashion_mnist(data_dir: Path | None, image_size: int | None) -> Dataset:
    """Load Zalando's images of clothes, 28 x 28."""
    looked_in, paths = _find(data_dir)
    try:
        missing = [part for part in PARTS if part not in paths]
        if missing:
            which = "its four idx files" if len(missing) == len(PARTS) else ", ".join(missing)
            raise IdxError(f"missing {which}")
        train, test = read_splits(paths, num_classes=10, image_size=28)
    except IdxError as error:
        raise _error(str(error), looked_in) from error
    return Dataset(
        name="fashion-mnist",
        train_images=train.images.unsqueeze(1),
        train_labels=train.labels,
        test_images=test.images.unsqueeze(1),
        test_labels=test.labels,
        num_classes=10,
    )


def _find(data_dir: Path | None) -> tuple[list[Path], dict[str, Path]]:
    """Return the folders looked into and the idx files of the best: the first complete one."""
    cache = cache_folder() / "FashionMNIST" / "raw"
    folders = [DEBIAN_FASHION_MNIST, cache] if data_dir is None else [data_dir]
    found = [find_idx(folder) for folder in folders]
    for paths in found:
        if len(paths) == len(PARTS):
            return folders, paths
    if data_dir is not None:
        return folders, found[0]
    try:
        _download()
    except (OSError, RuntimeError) as error:  # no network, no space, a mirror's bad file
        reason = " ".join(str(error).split())
        raise _error(f"the download failed ({reason})", folders) from error
    return folders, find_idx(cache)


def _download() -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(cache_folder()), download=True)


def _error(problem: str, looked_in: list[Path]) -> UserError:
    return UserError(
        f"fashion-mnist: {problem}; looked in {' and '.join(map(str, looked_in))}; get the data "
        "with `apt install dataset-fashion-mnist`, or name its folder: --data-dir FOLDER"
    )
