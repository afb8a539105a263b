"""The batch files of CIFAR-10 and CIFAR-100, in Python's and in the binary format."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


class CifarError(Exception):
    """A file is missing or damaged; the message names it and says how."""


class Layout(NamedTuple):
    """How one of the two sets is stored.

    Args:
        python: Folder of the Python format, as its archive has it.
        binary: Folder of the binary format.
        train: Names of the training batches, without a suffix.
        test: Name of the test batch.
        label: Key of the labels in the Python format.
        label_bytes: Bytes of labels before each image in the binary format; the last one counts.
        num_classes: Labels are below this.
    """

    python: str
    binary: str
    train: tuple[str, ...]
    test: str
    label: bytes
    label_bytes: int
    num_classes: int


LAYOUTS = {
    "cifar10": Layout(
        python="cifar-10-batches-py",
        binary="cifar-10-batches-bin",
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test="test_batch",
        label=b"labels",
        label_bytes=1,
        num_classes=10,
    ),
    "cifar100": Layout(
        python="cifar-100-python",
        binary="cifar-100-binary",
        train=("train",),
        test="test",
        label=b"fine_labels",
        label_bytes=2,
        num_classes=100,
    ),
}


def find_batches(layout: Layout, folder: Path) -> dict[str, Path]:
    """Find the files of a set, in a folder or in the one inside that its archive makes.

    Args:
        layout: Which set.
        folder: Where to look.

    Returns:
        The path of each batch that is there, by name; of the most complete place.
    """
    names = (*layout.train, layout.test)
    places = [(folder, ""), (folder / layout.python, ""), (folder, ".bin")]
    places.append((folder / layout.binary, ".bin"))
    found = [
        {name: path / f"{name}{suffix}" for name in names if (path / f"{name}{suffix}").is_file()}
        for path, suffix in places
    ]
    return max(found, key=len)


def read_batch(layout: Layout, path: Path) -> tuple[Tensor, Tensor]:
    """Read and check one file.

    Args:
        layout: Which set.
        path: The file, binary if its name ends in .bin.

    Returns:
        Images (number, 3, 32, 32), uint8, and labels (number,), int64.

    Raises:
        CifarError: If it is damaged, or something else.
    """
    read = _read_binary if path.suffix == ".bin" else _read_python
    try:
        images, labels = read(layout, path)
    except OSError as error:
        raise CifarError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(images) == 0:
        raise CifarError(f"{path} is damaged: it holds no images")
    if not 0 <= labels.min() <= labels.max() < layout.num_classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise CifarError(
            f"{path} is damaged: it has a label {wrong}, outside 0 to {layout.num_classes - 1}"
        )
    return torch.from_numpy(images.copy()).view(-1, *SHAPE), torch.from_numpy(labels.copy())


def _read_binary(layout: Layout, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    record = layout.label_bytes + _PIXELS
    if len(data) % record:
        raise CifarError(
            f"{path} is damaged: its {len(data)} bytes are no whole number of records of {record}"
        )
    records = data.reshape(-1, record)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    return records[:, layout.label_bytes :], labels


def _read_python(layout: Layout, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = load_plain_pickle(path)
    key = layout.label.decode()
    if not isinstance(batch, dict) or b"data" not in batch or layout.label not in batch:
        raise CifarError(f"{path} is no batch of this data set: it lacks `data` or `{key}`")
    images, labels = batch[b"data"], batch[layout.label]
    if not (
        isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 2
    ) or images.shape[1:] != (_PIXELS,):
        raise CifarError(f"{path} is damaged: `data` is no array of rows of {_PIXELS} bytes")
    if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
        raise CifarError(f"{path} is damaged: `{key}` is no list of integers")
    if len(labels) != len(images):
        raise CifarError(f"{path} is damaged: it has {len(labels)} labels for {len(images)} images")
    return images, np.array(labels, dtype=np.int64)


def load_plain_pickle(path: Path) -> Any:
    """Load a pickle that holds plain values and numpy arrays; anything else in it is not run.

    Args:
        path: The file.

    Returns:
        What it holds; strings of Python 2 as bytes.

    Raises:
        CifarError: If it is damaged or asks for anything but an array.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can break its reader in any way
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CifarError(f"{path} is damaged: {reason}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Knows the names that an array of numbers is stored with, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up, or refuse it."""
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _new_array
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in protocol 2
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain value")


def _new_array(kind: Any, shape: Any, dtype: Any) -> NDArray[Any]:
    """Make the empty array that a pickle then fills, as numpy's own function does."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("it holds an array of an unusual kind")
    return np.ndarray((0,), np.uint8)


def _encode_latin1(text: str, encoding: Any) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}")
    return text.encode("latin1")
