"""Data sets: what is loaded, what is found where, and what a broken file says."""

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from xnets.train import Dataset, list_datasets, load_dataset
from xnets.train.data import Augmentation, Share
from xnets.train.data import _fashion as data_module

_shared = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
idx_bytes, fashion_files = _shared["idx_bytes"], _shared["fashion_files"]

HOW_TO_GET_IT = r"get the data with `apt install dataset-fashion-mnist`, or .* --data-dir FOLDER$"


def test_digits_split_is_fixed_stratified_and_disjoint():
    digits = load_dataset("digits")
    assert repr(digits) == "Dataset(digits: 1437 train, 360 test, 10 classes, 1 x 8 x 8)"
    assert (digits.in_channels, digits.image_size, digits.num_classes) == (1, (8, 8), 10)
    assert digits.test_labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert digits.test_labels[:10].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3]
    train = {image.numpy().tobytes() for image in digits.train_images}
    assert not any(image.numpy().tobytes() in train for image in digits.test_images)


def test_batches_are_normalised_and_cover_the_data():
    digits = load_dataset("digits")
    batches = digits.train_batches(64, seed=3)
    images = torch.cat([x for x, _ in batches])
    assert len(list(batches)) == len(batches) == 1437 // 64
    assert images.mean().abs() < 0.01
    assert (images.std() - 1).abs() < 0.01
    tests = list(digits.test_batches())
    assert len(tests) == len(digits.test_batches()) == 1
    assert torch.equal(tests[0][1], digits.test_labels)


def test_test_batches_keep_the_order_and_the_rest():
    digits = load_dataset("digits")
    swapped = Dataset(
        name="swapped",
        train_images=digits.test_images,
        train_labels=digits.test_labels,
        test_images=digits.train_images,
        test_labels=digits.train_labels,
        num_classes=10,
    )
    batches = list(swapped.test_batches())
    assert [len(y) for _, y in batches] == [1000, 437]
    assert len(swapped.test_batches()) == 2
    assert torch.equal(torch.cat([y for _, y in batches]), digits.train_labels)


def test_shuffle_is_seeded_and_new_on_each_pass():
    digits = load_dataset("digits")

    def labels(batches):
        return torch.cat([y for _, y in batches])

    one, two = digits.train_batches(64, seed=3), digits.train_batches(64, seed=3)
    first = labels(one)
    one.sampler.set_epoch(1)
    second = labels(one)
    assert not torch.equal(first, second)
    two.sampler.set_epoch(1)  # a later pass does not depend on the earlier ones
    assert torch.equal(second, labels(two))
    assert not torch.equal(first, labels(digits.train_batches(64, seed=4)))


@pytest.mark.parametrize(("size", "pieces"), [(1, 4), (2, 1), (4, 2)])
def test_processes_and_pieces_share_each_batch_out(size, pieces):
    digits = load_dataset("digits")
    augment = Augmentation(flip=True, shift=1)
    whole = list(digits.train_batches(64, seed=3, augment=augment))
    shares = [
        list(
            digits.train_batches(
                64, seed=3, augment=augment, share=Share(rank=rank, size=size, pieces=pieces)
            )
        )
        for rank in range(size)
    ]
    assert {len(share) for share in shares} == {len(whole) * pieces}
    for number, (images, labels) in enumerate(whole):
        parts = [
            shares[rank][number * pieces + piece] for piece in range(pieces) for rank in range(size)
        ]
        assert torch.equal(torch.cat([x for x, _ in parts]), images)
        assert torch.equal(torch.cat([y for _, y in parts]), labels)


def test_processes_see_each_test_image_once():
    digits = load_dataset("digits")
    parts = [
        torch.cat([y for _, y in digits.test_batches(share=Share(rank=rank, size=7))])
        for rank in range(7)
    ]
    assert {len(part) for part in parts} == {51, 52}
    assert torch.equal(torch.cat(parts), digits.test_labels)


def test_a_batch_that_cannot_be_shared_out():
    share = Share(size=4, pieces=3)
    with pytest.raises(ValueError, match=r"`batch_size` \(=64\) must be a multiple of .*4 x 3"):
        load_dataset("digits").train_batches(64, share=share)


@pytest.mark.parametrize("batch_size", [0, 1438])
def test_impossible_batch_size(batch_size):
    with pytest.raises(ValueError, match=rf"`batch_size` \(={batch_size}\) must be between 1 and"):
        load_dataset("digits").train_batches(batch_size)


def test_unknown_data_set():
    assert {"digits", "fashion-mnist", "cifar10", "cifar100", "imagenet"} < set(list_datasets())
    with pytest.raises(
        ValueError, match=r"unknown dataset 'fashion_mnist'; did you mean 'fashion-"
    ):
        load_dataset("fashion_mnist")


def test_digits_have_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"the digits come with scikit-learn; `data_dir` is for"):
        load_dataset("digits", tmp_path)


def test_a_size_cannot_be_chosen_for_images_that_have_one():
    with pytest.raises(ValueError, match=r"`image_size` \(=32\) must be left out: .* of digits"):
        load_dataset("digits", image_size=32)


def test_ten_windows_need_larger_images():
    with pytest.raises(ValueError, match=r"ten-crop evaluation needs images larger than the 8 x 8"):
        load_dataset("digits").test_batches(ten_crop=True)


def test_idx_files_plain_and_gzipped(fashion_dir):
    fashion = load_dataset("fashion-mnist", fashion_dir)
    assert repr(fashion) == "Dataset(fashion-mnist: 60 train, 20 test, 10 classes, 1 x 28 x 28)"
    raw = np.frombuffer(fashion_files()["t10k-images-idx3-ubyte"], np.uint8, offset=16)
    assert np.array_equal(fashion.test_images.numpy().ravel(), raw)
    assert fashion.test_labels.tolist() == [*range(10), *range(10)]
    assert fashion.train_labels.dtype == torch.int64


def test_a_plain_file_is_preferred_to_a_gzipped_one(fashion_dir):
    name = "t10k-labels-idx1-ubyte"
    (fashion_dir / f"{name}.gz").write_bytes(b"not read")
    (fashion_dir / name).write_bytes(fashion_files()[name])
    assert load_dataset("fashion-mnist", fashion_dir).test_labels.tolist()[:3] == [0, 1, 2]


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
DAMAGE = {
    "empty": (IMAGES, lambda data: b"", r"0 bytes are too few for its header"),
    "short header": (LABELS, lambda data: data[:7], r"7 bytes are too few"),
    "truncated": (IMAGES, lambda data: data[:-5], r"promises 47040 bytes .*but 47035 follow"),
    "too long": (LABELS, lambda data: data + b"x", r"promises 20 bytes .* but 21 follow"),
    "huge count": (IMAGES, lambda data: data[:4] + b"\xff" * 12 + data[16:], r"but 47040 follow"),
    "wrong type": (LABELS, lambda data: b"\0\0\x0d\1" + data[4:], r"starts with 0x00000d01"),
    "labels as images": (
        IMAGES,
        lambda data: idx_bytes(np.zeros(60)) + bytes(20),
        r"starts with 0x00000801, an idx file of this kind with 0x00000803",
    ),
    "web page": (IMAGES, lambda data: b"<!DOCTYPE html><html></html>", r"starts with 0x3c21444f"),
    "no images": (IMAGES, lambda data: idx_bytes(np.zeros((0, 28, 28))), r"is empty"),
    "other size": (IMAGES, lambda data: idx_bytes(np.zeros((60, 32, 30))), r"are 32 x 30, not 28"),
    "other count": (LABELS, lambda data: idx_bytes(np.zeros(19)), r"19 labels for 20 images"),
    "bad label": (LABELS, lambda data: idx_bytes([10] * 20), r"has a label 10, above 9"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_file_is_named_in_one_line(kind, fashion_dir):
    name, damage, message = DAMAGE[kind]
    data = damage(fashion_files()[name])
    if (fashion_dir / f"{name}.gz").exists():
        name, data = f"{name}.gz", gzip.compress(data)
    (fashion_dir / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("fashion-mnist", fashion_dir)
    caught.match(rf"^fashion-mnist: {fashion_dir}/{name} .*; looked in {fashion_dir}; get ")
    caught.match(HOW_TO_GET_IT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: b"no gzip at all",
        lambda data: data[:100] + bytes(200) + data[300:],
        lambda data: data[:10] + b"\xff" * 20 + data[30:],
        lambda data: data[:-8] + bytes(8),
        lambda data: data + b"trailing",
    ],
    ids=["half", "header", "empty", "foreign", "hole", "deflate", "checksum", "trailing"],
)
def test_damaged_gzip_is_named_in_one_line(damage, tmp_path):
    for name, data in fashion_files().items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"^fashion-mnist: {path} is damaged: .*; looked in") as e:
        load_dataset("fashion-mnist", tmp_path)
    e.match(HOW_TO_GET_IT)
    assert "\n" not in str(e.value)


def test_missing_files_are_named(fashion_dir):
    for path in fashion_dir.glob("t10k-*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"missing t10k-images, t10k-labels; looked") as e:
        load_dataset("fashion-mnist", fashion_dir)
    e.match(HOW_TO_GET_IT)


def test_a_given_folder_is_the_only_one(tmp_path):
    with pytest.raises(
        ValueError,
        match=rf"missing its four idx files; looked in {tmp_path}/none; get the data with",
    ) as e:
        load_dataset("fashion-mnist", tmp_path / "none")
    e.match(HOW_TO_GET_IT)


def test_order_of_search(fashion_dir, tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = tmp_path / "cache" / "xnets" / "FashionMNIST" / "raw"

    # Debian's folder first,
    monkeypatch.setattr(data_module, "DEBIAN_FASHION_MNIST", fashion_dir)
    assert len(load_dataset("fashion-mnist").train_labels) == 60

    # then a download, which fails here,
    monkeypatch.setattr(data_module, "DEBIAN_FASHION_MNIST", nowhere)
    with pytest.raises(ValueError, match=r"the download failed \(no network in tests\)") as e:
        load_dataset("fashion-mnist")
    e.match(f"looked in {nowhere} and {cache}; {HOW_TO_GET_IT}")

    # and works here,
    def download():
        cache.mkdir(parents=True)
        for path in fashion_dir.iterdir():
            (cache / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(data_module, "_download", download)
    assert len(load_dataset("fashion-mnist").train_labels) == 60

    # but is not repeated: a second mkdir would fail.
    assert len(load_dataset("fashion-mnist").train_labels) == 60
