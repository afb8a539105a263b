"""The idx files of the MNIST family: four, plain or gzipped, and what can be wrong with them."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_DIMENSIONS = {"images": 3, "labels": 1}
_UINT8 = 8  # the type code of unsigned bytes


class IdxError(Exception):
    """A file is missing or damaged; the message names it and says how."""


class Split(NamedTuple):
    """The images and labels of one split."""

    images: Tensor  # (number, height, width), uint8
    labels: Tensor  # (number,), int64


def find_idx(folder: Path) -> dict[str, Path]:
    """Find the idx files of a folder.

    Args:
        folder: Where to look.

    Returns:
        The path of each of `PARTS` that is there; a plain file is preferred to a .gz.
    """
    found: dict[str, Path] = {}
    for part in PARTS:
        name = f"{part}-idx{_DIMENSIONS[part.split('-')[1]]}-ubyte"
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                found[part] = path
                break
    return found


def read_splits(
    paths: dict[str, Path], *, num_classes: int, image_size: int
) -> tuple[Split, Split]:
    """Read and check the four files.

    Args:
        paths: From `find_idx`, complete.
        num_classes: Labels must be below this.
        image_size: Height and width that the images must have.

    Returns:
        The train and the test split.

    Raises:
        IdxError: If a file is damaged, or two do not belong together.
    """
    train, test = (
        _read_split(paths[f"{name}-images"], paths[f"{name}-labels"], num_classes, image_size)
        for name in ("train", "t10k")
    )
    return train, test


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """Read one idx file of unsigned bytes.

    torchvision's reader takes only plain files, and answers a damaged one with a bare assertion.

    Args:
        path: The file; a name that ends in .gz is decompressed.
        dimensions: How many the file must have.

    Returns:
        A uint8 tensor.

    Raises:
        IdxError: If the file cannot be read, or is not such a file.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IdxError(f"{path} is damaged: {_lower(error)}") from error
    except OSError as error:
        raise IdxError(f"{path} cannot be read: {error.strerror or error}") from error
    start = 4 + 4 * dimensions
    expected = bytes([0, 0, _UINT8, dimensions])
    if len(data) < start:
        raise IdxError(f"{path} is damaged: {len(data)} bytes are too few for its header")
    if data[:4] != expected:
        raise IdxError(
            f"{path} is damaged: it starts with 0x{data[:4].hex()}, "
            f"an idx file of this kind with 0x{expected.hex()}"
        )
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    if len(data) - start != math.prod(shape):
        raise IdxError(
            f"{path} is damaged: its header promises {math.prod(shape)} bytes "
            f"for shape {shape}, but {len(data) - start} follow"
        )
    if 0 in shape:
        raise IdxError(f"{path} is empty: its shape is {shape}")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)


def _read_split(images_path: Path, labels_path: Path, num_classes: int, image_size: int) -> Split:
    images = read_idx(images_path, dimensions=3)
    labels = read_idx(labels_path, dimensions=1)
    if images.shape[1:] != (image_size, image_size):
        raise IdxError(
            f"{images_path} is not of this data set: its images are "
            f"{images.shape[1]} x {images.shape[2]}, not {image_size} x {image_size}"
        )
    if len(images) != len(labels):
        raise IdxError(
            f"{labels_path} is damaged or of another set: "
            f"it has {len(labels)} labels for {len(images)} images"
        )
    if int(labels.max()) >= num_classes:
        raise IdxError(
            f"{labels_path} is damaged: it has a label {int(labels.max())}, above {num_classes - 1}"
        )
    return Split(images, labels.long())


def _lower(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
