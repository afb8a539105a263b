"""CIFAR: small files in exactly the formats of the archives, and what a broken one says."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch

from xnets.train import load_dataset
from xnets.train.data._cifar_files import LAYOUTS

PER_BATCH = 20


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def batch_of(name, number):
    """The images and the labels of one batch file."""
    layout = LAYOUTS[name]
    rng = np.random.default_rng(number)
    labels = [(7 * i + number) % layout.num_classes for i in range(PER_BATCH)]
    return rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8), labels


def python_batch(name, number):
    images, labels = batch_of(name, number)
    batch = {b"batch_label": b"batch", LAYOUTS[name].label: labels, b"data": images}
    if name == "cifar100":
        batch[b"coarse_labels"] = [0] * len(labels)
    batch[b"filenames"] = [b"x.png"] * len(labels)
    return pickle.dumps(batch, protocol=2)


def binary_batch(name, number):
    images, labels = batch_of(name, number)
    coarse = b"\x13" if name == "cifar100" else b""
    return b"".join(
        coarse + bytes([label]) + image.tobytes()
        for image, label in zip(images, labels, strict=True)
    )


def write(folder, name, kind):
    """Write a set as its archive has it; return the folder inside."""
    layout = LAYOUTS[name]
    inside = folder / (layout.python if kind == "python" else layout.binary)
    inside.mkdir(parents=True)
    for number, batch in enumerate((*layout.train, layout.test)):
        if kind == "python":
            (inside / batch).write_bytes(python_batch(name, number))
        else:
            (inside / f"{batch}.bin").write_bytes(binary_batch(name, number))
    (inside / "batches.meta").write_bytes(b"not read")
    return inside


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_both_formats_of_both_sets(name, kind, tmp_path):
    inside = write(tmp_path, name, kind)
    trains = len(LAYOUTS[name].train)
    for folder in (tmp_path, inside):
        data = load_dataset(name, folder)
        assert (data.num_train, data.num_test) == (PER_BATCH * trains, PER_BATCH)
        assert data.num_classes == LAYOUTS[name].num_classes
        assert (data.in_channels, data.image_size) == (3, (32, 32))
        images, labels = batch_of(name, trains)
        assert data.test_labels.tolist() == labels
        assert np.array_equal(data.test_images.numpy().reshape(PER_BATCH, -1), images)
        assert data.train_labels[:PER_BATCH].tolist() == batch_of(name, 0)[1]


def test_normalisation_is_that_of_the_published_runs(tmp_path):
    write(tmp_path, "cifar10", "binary")
    data = load_dataset("cifar10", tmp_path)
    grey = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
    red, green, blue = data.normalize(grey)[0, :, 0, 0].tolist()
    assert red == pytest.approx((100 - 125.3) / 63.0)
    assert green == pytest.approx((100 - 123.0) / 62.1)
    assert blue == pytest.approx((100 - 113.9) / 66.7)


def test_pickles_of_python_2(tmp_path):
    """As cPickle wrote the archives: byte strings for keys, array data and type names."""
    inside = write(tmp_path, "cifar10", "python")
    images, labels = batch_of("cifar10", 0)

    def short(text):
        return b"U" + bytes([len(text)]) + text

    def integer(value):
        return b"J" + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + short(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + short(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + short(b"|") + b"NNN" + integer(-1) + integer(-1) + b"K\x00tb"
    state = b"(K\x01(" + integer(PER_BATCH) + integer(3072) + b"t" + dtype + b"\x89"
    state += b"T" + struct.pack("<i", images.size) + images.tobytes() + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    data = b"\x80\x02}(" + short(b"labels") + listed + short(b"data") + array + state + b"u."
    (inside / "data_batch_1").write_bytes(data)
    loaded = load_dataset("cifar10", tmp_path)
    assert np.array_equal(loaded.train_images[:PER_BATCH].numpy().reshape(PER_BATCH, -1), images)
    assert loaded.train_labels[:PER_BATCH].tolist() == labels


def changed(change):
    def damage(data):
        batch = pickle.loads(data, encoding="bytes")
        change(batch)
        return pickle.dumps(batch, protocol=2)

    return damage


DAMAGE = {
    "empty": (lambda data: b"", "is damaged: Ran out of input"),
    "cut short": (lambda data: data[: len(data) // 2], "is damaged: "),
    "one byte short": (lambda data: data[:-1], "is damaged: "),
    "web page": (lambda data: b"<!DOCTYPE html><html></html>", "is damaged: "),
    "runs code": (lambda data: pickle.dumps(RunsCode()), "asks for posix.mkdir, which is no plain"),
    "no batch": (lambda data: pickle.dumps([1, 2]), "lacks `data` or `labels`"),
    "no labels": (changed(lambda b: b.pop(b"labels")), "lacks `data` or `labels`"),
    "other shape": (changed(lambda b: b.update({b"data": b[b"data"][:, 1:]})), "of 3072 bytes"),
    "floats": (changed(lambda b: b.update({b"data": b[b"data"] / 2})), "of 3072 bytes"),
    "other count": (changed(lambda b: b[b"labels"].pop()), "has 19 labels for 20 images"),
    "bad label": (
        changed(lambda b: b.update({b"labels": [10] * 20})),
        "a label 10, outside 0 to 9",
    ),
    "negative": (changed(lambda b: b.update({b"labels": [-1] * 20})), "a label -1, outside 0 to 9"),
    "words": (changed(lambda b: b.update({b"labels": [b"cat"] * 20})), "is no list of integers"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_batch_is_named_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, message = DAMAGE[kind]
    path = write(tmp_path, "cifar10", "python") / "data_batch_3"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("cifar10", tmp_path)
    caught.match(rf"^cifar10: {path} .*; looked in {tmp_path}; get the Python or .*--data-dir FOLD")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_a_huge_array_in_a_pickle_is_not_made(tmp_path):
    path = write(tmp_path, "cifar10", "python") / "test_batch"
    data = b"\x80\x02cnumpy\nndarray\n(\x8a\x08" + b"\xff" * 7 + b"\x00\x85tR."
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"test_batch is damaged: "):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], r"61459 bytes are no whole number of records of 3073"),
        (lambda data: b"", r"it holds no images"),
        (lambda data: b"\x0a" + data[1:], r"it has a label 10, outside 0 to 9"),
    ],
)
def test_a_damaged_binary_batch_is_named(damage, message, tmp_path):
    path = write(tmp_path, "cifar10", "binary") / "data_batch_2.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("cifar10", tmp_path)
    caught.match(f"^cifar10: {path} ")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=rf"cifar100: missing its batch files; looked in {tmp_path}"
    ):
        load_dataset("cifar100", tmp_path)
    inside = write(tmp_path, "cifar10", "python")
    (inside / "data_batch_4").unlink()
    with pytest.raises(ValueError, match=r"^cifar10: missing data_batch_4; looked in"):
        load_dataset("cifar10", tmp_path)


def test_without_a_folder_the_cache_is_looked_into_and_then_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"the download failed \(no network in tests\); looked in"):
        load_dataset("cifar10")
    write(tmp_path / "xnets", "cifar10", "python")
    assert load_dataset("cifar10").num_train == 100
