"""TU-Berlin: 250 kinds of things, each sketched by hand 80 times."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xnets._errors import UserError
from xnets._progress import track
from xnets.train.data._dataset import Dataset
from xnets.train.data._images import Files, ImageError, class_folders, list_images, open_image

_SIZE = 224
_FOLDS = 3
_HOME = "https://cybertron.cg.tu-berlin.de/eitz/projects/classifysketch/"


def load_tu_berlin(data_dir: Path | None, image_size: int | None) -> Dataset:
    """Load the sketches, scaled to 8/7 of the size that a network sees; training crops at random.

    The paper has no results on sketches, hence no split. This is the first fold of the three-fold
    cross-validation of Eitz, Hays and Alexa, "How do humans sketch objects?", SIGGRAPH 2012: of
    each class every third sketch, in the order of their numbers, is for testing.

    Args:
        data_dir: The folder `png` of the archive, or one with it inside: a folder a class with
            images of 1111 x 1111 in grey.
        image_size: Height and width that a network sees; 224 by default.

    Raises:
        ValueError: If the folder is missing or arranged otherwise, or a sketch is damaged.
    """
    if data_dir is None:
        raise UserError(
            f"tu-berlin: get the sketches in PNG format from {_HOME}, unpack them, and name the "
            "folder: --data-dir FOLDER"
        )
    folder = data_dir / "png" if (data_dir / "png").is_dir() else data_dir
    size = image_size or _SIZE
    try:
        classes = class_folders(folder)
        train, test = _split(list_images(folder, classes), folder)
        images = [_decode(files, round(size * 8 / 7)) for files in (train, test)]
    except (UserError, ImageError) as error:
        raise UserError(f"tu-berlin: {error}") from error
    labels = [torch.tensor([label for _, label in files]) for files in (train, test)]
    return Dataset(
        name="tu-berlin",
        train_images=images[0],
        train_labels=labels[0],
        test_images=images[1],
        test_labels=labels[1],
        num_classes=len(classes),
        crop=size,
    )


def _split(files: Files, folder: Path) -> tuple[Files, Files]:
    by_class: dict[int, list[str]] = {}
    for path, label in files:
        by_class.setdefault(label, []).append(path)
    train: Files = []
    test: Files = []
    for label, paths in by_class.items():
        if len(paths) < _FOLDS:
            raise UserError(
                f"{Path(paths[0]).parent} holds {len(paths)} images; a split into train and test "
                f"takes at least {_FOLDS}"
            )
        for place, path in enumerate(sorted(paths, key=_number)):
            (test if place % _FOLDS == 0 else train).append((path, label))
    return train, test


def _number(path: str) -> tuple[int, str]:
    """The number that a sketch is named by, so that 10 comes after 9."""
    digits = re.findall(r"\d+", Path(path).stem)
    return (int(digits[-1]) if digits else 0, path)


def _decode(files: Files, size: int) -> Tensor:
    """Read and scale sketches into one tensor (number, 1, size, size)."""

    def scaled(file: tuple[str, int]) -> Tensor:
        image = open_image(file[0], "L").resize((size, size), resample=_BILINEAR)
        return torch.from_numpy(np.asarray(image).copy())

    images = torch.empty(len(files), 1, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:  # Pillow computes outside the interpreter's lock
        for place, image in enumerate(
            track(pool.map(scaled, files), "reading sketches", total=len(files))
        ):
            images[place, 0] = image
    return images


_BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, without importing Pillow for it
