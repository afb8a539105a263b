"""Image files: which there are, and reading one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from xnets._errors import UserError

Files = list[tuple[str, int]]  # the path of each image and its label


class ImageError(Exception):
    """An image file cannot be read; the message names it and says why."""


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; each holds the images of one class.

    Raises:
        ValueError: If there are none.
    """
    try:
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    if not names:
        raise UserError(
            f"{folder} holds no folders; it must hold one for each class, with its images inside"
        )
    return names


def list_images(folder: Path, classes: list[str]) -> Files:
    """List the images of a folder of class folders.

    Args:
        folder: Holds one folder a class.
        classes: Every class, in the order of the labels; one may be missing in `folder`.

    Returns:
        Paths and labels, ordered by label and name.

    Raises:
        ValueError: If a class folder is unknown, or one that is there holds no images.
    """
    from torchvision.datasets import ImageFolder

    unknown = set(class_folders(folder)) - set(classes)
    if unknown:
        raise UserError(f"{folder} has a class {min(unknown)!r} that training has no images of")
    here = {name: label for label, name in enumerate(classes) if (folder / name).is_dir()}
    try:
        files: Files = ImageFolder.make_dataset(str(folder), here, extensions=_EXTENSIONS)
    except FileNotFoundError as error:
        empty = next(n for n, label in here.items() if not _has_image(folder / n))
        raise UserError(f"the class folder {folder / empty} holds no images") from error
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    return files


def open_image(path: str, mode: str) -> Any:
    """Decode an image.

    Args:
        path: The file.
        mode: Pillow's name of the colours: "RGB", or "L" for grey.

    Returns:
        A Pillow image.

    Raises:
        ImageError: If there is no such file, or it is damaged or cut short.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken tags beside a good picture are common
            with Image.open(path) as image:
                return image.convert(mode)
    except Exception as error:  # a damaged file can break its decoder in any way
        reason = error.strerror if isinstance(error, OSError) and error.strerror else None
        if reason is None:
            reason = "it is no image" if "identify" in str(error) else str(error).split("\n")[0]
        raise ImageError(f"cannot read the image {path}: {reason}") from error


def _has_image(folder: Path) -> bool:
    return any(p.suffix.lower() in _EXTENSIONS for p in folder.rglob("*"))


_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
