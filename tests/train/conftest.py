"""What several tests of training share."""

import gzip
import struct
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from xnets.train import Recipe, train


def idx_bytes(array, *, code=8, dimensions=None):
    """The idx file of an array: magic, big-endian sizes, the values."""
    array = np.asarray(array, dtype=np.uint8)
    dimensions = array.ndim if dimensions is None else dimensions
    header = bytes([0, 0, code, dimensions]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def fashion_files():
    """The four files of a very small Fashion-MNIST, by name, as bytes."""
    rng = np.random.default_rng(0)
    files = {}
    for part, number in (("train", 60), ("t10k", 20)):
        labels = np.arange(number) % 10
        images = rng.integers(0, 40, (number, 28, 28)) + 20 * labels[:, None, None]
        files[f"{part}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{part}-labels-idx1-ubyte"] = idx_bytes(labels)
    return files


@pytest.fixture(params=["plain", "gz"])
def fashion_dir(request, tmp_path):
    """A folder with such files, once plain and once gzipped."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    for name, data in fashion_files().items():
        if request.param == "gz":
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """No test may reach the network."""

    def refuse(*_):
        raise OSError("no network in tests")

    monkeypatch.setattr("xnets.train.data._fashion._download", refuse)
    monkeypatch.setattr("xnets.train.data._cifar._download", refuse)


@contextmanager
def threads(number):
    """Some number of threads for torch inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny networks gain nothing from more, and lose much on a busy machine."""
    with threads(1):
        yield


TINY = Recipe(
    name="tiny",
    dataset="digits",
    model="convnet",
    model_args={"width": 8, "stages": 2, "depth": 1},
    epochs=2,
    batch_size=128,
    lr=0.02,
    weight_decay=0.01,
    label_smoothing=0.1,
    shift=1,
)


@pytest.fixture
def tiny():
    """A recipe of a second."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The result of that recipe, run once."""
    with threads(1):
        return train(TINY, out=tmp_path_factory.mktemp("tiny"), quiet=True, command="xnets tiny")
