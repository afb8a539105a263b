"""Folders of images: ImageNet's layout, sketches, ten windows, and files that are none."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from xnets.train import Recipe, evaluate, load_dataset, train
from xnets.train.data import Augmentation, Share

# On a machine with one core torch warns of two processes that read.
FEW_CORES = pytest.mark.filterwarnings("ignore:This DataLoader will create")
COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 30), "red": (230, 10, 20)}


def save(path, colour, size, mode="RGB"):
    """An image of noise around a colour."""
    noise = np.random.default_rng(0).integers(0, 20, (size[1], size[0], 3))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def imagenet(tmp_path):
    """Three classes, 4 images each to train and 2 to test, of several sizes and colour modes."""
    for split, number in (("train", 4), ("val", 2)):
        for name, colour in COLOURS.items():
            for i in range(number):
                path = tmp_path / split / name / f"{name}_{i}.{'png' if i % 2 else 'JPEG'}"
                save(path, colour, (40 + 9 * i, 36 + 5 * i))
    save(tmp_path / "train" / "red" / "red_grey.png", COLOURS["red"], (50, 50), mode="LA")
    (tmp_path / "train" / "red" / "notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("name", ["imagenet", "image-folder"])
def test_the_number_of_classes_is_the_datas_own(name, imagenet):
    data = load_dataset(name, imagenet, image_size=28)
    assert repr(data) == f"FolderDataset({name}: 13 train, 6 test, 3 classes, 3 x 28 x 28)"
    assert load_dataset(name, imagenet).image_size == (224, 224)


def test_batches_are_windows_normalised_as_imagenets(imagenet):
    data = load_dataset("imagenet", imagenet, image_size=28)
    images, labels = next(iter(data.test_batches()))
    assert images.shape == (6, 3, 28, 28)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    mean, std = data.normalize(torch.zeros(1, 3, 1, 1)), data.normalize(torch.ones(1, 3, 1, 1))
    assert (-mean / (std - mean)).flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53], rel=1e-4
    )
    strongest = images.mean(dim=(2, 3)).argmax(dim=1)
    assert strongest.tolist() == [2, 2, 1, 1, 0, 0]  # the channel of blue, green, red


@FEW_CORES
@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_follow_from_seed_and_pass_alone(workers, imagenet):
    data = load_dataset("imagenet", imagenet, image_size=28)
    data = dataclasses.replace(data, workers=workers)

    def images(epoch, seed=1, rank=0, size=1):
        share = Share(rank=rank, size=size)
        batches = data.train_batches(4, seed=seed, augment=Augmentation(flip=True), share=share)
        batches.sampler.set_epoch(epoch)
        return torch.cat([x for x, _ in batches])

    state = torch.get_rng_state()
    first = images(0)
    assert first.shape == (12, 3, 28, 28)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, images(0))
    assert not torch.equal(first, images(1))
    assert not torch.equal(first, images(0, seed=2))
    halves = [images(0, rank=rank, size=2).unflatten(0, (3, 2)) for rank in range(2)]
    assert torch.equal(torch.cat(halves, dim=1).flatten(0, 1), first)


def test_ten_windows_are_the_corners_the_middle_and_their_mirrors(imagenet):
    data = load_dataset("imagenet", imagenet, image_size=28)
    windows, _ = next(iter(data.test_batches(ten_crop=True)))
    plain, _ = next(iter(data.test_batches()))
    assert windows.shape == (6, 10, 3, 28, 28)
    assert torch.equal(windows[:, 4], plain)
    mirrored = windows[:, [6, 5, 8, 7]].flip(4)
    assert torch.equal(mirrored, windows[:, :4])
    assert not torch.equal(windows[:, 0], windows[:, 3])


TINY = Recipe(
    name="folder",
    dataset="imagenet",
    model="convnet",
    model_args={"width": 8, "stages": 2, "depth": 1},
    image_size=16,
    epochs=3,
    batch_size=6,
    lr=0.03,
    flip=True,
)


def test_a_network_trains_on_a_folder(imagenet, tmp_path):
    result = train(TINY, out=tmp_path / "run", data_dir=imagenet, workers=0, quiet=True)
    folder = result.folder
    assert evaluate(folder, data_dir=imagenet, workers=1) == result.test_accuracy
    assert 0 <= evaluate(folder, data_dir=imagenet, ten_crop=True, workers=0) <= 1
    (imagenet / "train" / "white").mkdir()
    save(imagenet / "train" / "white" / "1.png", (255, 255, 255), (30, 30))
    with pytest.raises(ValueError, match=r"tells 3 classes apart, but the data has 4$"):
        evaluate(folder, data_dir=imagenet, workers=0)


DAMAGE = {
    "empty": (lambda data: b"", "it is no image"),
    "cut short": (lambda data: data[: len(data) // 2], "(?i)truncated"),
    "text": (lambda data: b"no image at all", "it is no image"),
}


@FEW_CORES
@pytest.mark.parametrize(("kind", "workers"), [*((kind, 0) for kind in DAMAGE), ("cut short", 2)])
def test_a_damaged_image_is_named_in_one_line(kind, workers, imagenet, tmp_path):
    damage, message = DAMAGE[kind]
    path = imagenet / "val" / "green" / "green_0.JPEG"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^imagenet: cannot read the image {path}: ") as caught:
        train(TINY, out=tmp_path / "run", data_dir=imagenet, workers=workers, quiet=True)
    caught.match(message)
    assert "\n" not in str(caught.value)


def test_folders_that_are_arranged_otherwise(imagenet, tmp_path):
    def message(folder, name="imagenet"):
        with pytest.raises(ValueError, match=f"^{name}") as caught:
            load_dataset(name, folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "needs --data-dir FOLDER, a folder with train/CLASS/ and val/CLASS/" in message(None)
    assert message(tmp_path / "none").endswith(f"{tmp_path}/none/train is no folder")
    (tmp_path / "flat" / "train").mkdir(parents=True)
    assert message(tmp_path / "flat").endswith("flat/val is no folder")
    (tmp_path / "flat" / "val").mkdir()
    assert "flat/train holds no folders; it must hold one for each class" in message(
        tmp_path / "flat"
    )
    (imagenet / "val" / "black").mkdir()
    assert "val has a class 'black' that training has no images of" in message(imagenet)
    (imagenet / "val" / "black").rmdir()
    (imagenet / "train" / "void").mkdir()
    assert message(imagenet).endswith(
        "the class folder " + str(imagenet / "train" / "void") + " holds no images"
    )


def test_one_class_is_none_to_tell_apart(imagenet):
    for split in ("train", "val"):
        for name in ("green", "red"):
            shutil.rmtree(imagenet / split / name)
    with pytest.raises(ValueError, match=f"^imagenet: {imagenet} holds one class only; there must"):
        load_dataset("imagenet", imagenet)


def test_images_too_small_for_the_network_are_named(imagenet, tmp_path):
    recipe = dataclasses.replace(TINY, model="AlexNet", model_args={}, compression=None)
    with pytest.raises(ValueError, match="the network AlexNet cannot take images of 16 x 16: "):
        train(recipe, out=tmp_path / "run", data_dir=imagenet, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_shift_is_refused_for_images_without_a_common_size(imagenet, tmp_path):
    recipe = dataclasses.replace(TINY, shift=4)
    with pytest.raises(
        ValueError, match=r"`shift` \(=4\) must be 0 for imagenet, whose images have"
    ):
        train(recipe, out=tmp_path / "run", data_dir=imagenet, quiet=True)


@pytest.fixture
def sketches(tmp_path):
    """Two kinds of things, sketched 7 times each, in the format of the archive."""
    for kind, first in (("airplane", 1), ("alarm clock", 81)):
        for number in range(first, first + 7):
            path = tmp_path / "png" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("L", (1111, 1111), 255)
            image.paste(number, (100, 100, 300 + number, 900))
            image.save(path)
    return tmp_path


def test_sketches_are_split_by_their_numbers(sketches):
    data = load_dataset("tu-berlin", sketches, image_size=28)
    assert repr(data) == "Dataset(tu-berlin: 8 train, 6 test, 2 classes, 1 x 28 x 28)"
    assert data.train_images.shape == (8, 1, 32, 32)
    # Of 1 to 7, and 81 to 87, every third; the darkest pixel is the number.
    assert data.test_images.amin(dim=(1, 2, 3)).tolist() == [1, 4, 7, 81, 84, 87]
    assert data.test_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(
        load_dataset("tu-berlin", sketches / "png", image_size=28).test_images, data.test_images
    )
    images, _ = next(iter(data.train_batches(4)))
    assert images.shape == (4, 1, 28, 28)
    windows, _ = next(iter(data.test_batches(ten_crop=True)))
    assert windows.shape == (6, 10, 1, 28, 28)
    assert torch.equal(windows[:, 4], next(iter(data.test_batches()))[0])


def test_the_split_orders_numbers_not_letters(sketches):
    for number in range(8, 13):
        image = Image.new("L", (1111, 1111), number)
        image.save(sketches / "png" / "airplane" / f"{number}.png")
    data = load_dataset("tu-berlin", sketches, image_size=28)
    assert data.test_images.amin(dim=(1, 2, 3)).tolist()[:4] == [1, 4, 7, 10]


def test_sketches_that_cannot_be_used(sketches):
    path = sketches / "png" / "airplane" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    with pytest.raises(ValueError, match=f"^tu-berlin: cannot read the image {path}: "):
        load_dataset("tu-berlin", sketches, image_size=28)
    path.write_bytes(whole)
    for number in range(82, 87):
        (sketches / "png" / "alarm clock" / f"{number}.png").unlink()
    with pytest.raises(ValueError, match=r"alarm clock holds 2 images; a split .* at least 3$"):
        load_dataset("tu-berlin", sketches, image_size=28)
    with pytest.raises(ValueError, match=r"^tu-berlin: get the sketches in PNG format from https"):
        load_dataset("tu-berlin")
