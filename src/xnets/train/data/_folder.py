"""Folders of images, such as ImageNet: read from the disk by worker processes while training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xnets._errors import UserError
from xnets.train.data._batches import Augmentation, Share, TrainBatches, mix
from xnets.train.data._images import Files, ImageError, class_folders, list_images, open_image

# Of ImageNet, on the scale 0 to 255: what torchvision and the paper's runs use.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_TEST_BATCH = 128
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """Images in class folders, for training and testing.

    Training cuts a window of random size and shape out of each image and scales it; tests scale the
    shorter side to 8/7 of `size`, as 256 is to 224, and take the middle.

    Args:
        name: As `load_dataset` knows it.
        train: Path and label of each training image.
        test: Path and label of each test image.
        num_classes: Labels are below this.
        size: Height and width that a network sees.
        device: Where batches are put.
        workers: Processes that read images; 0 reads in this one.
    """

    name: str
    train: Files
    test: Files
    num_classes: int
    size: int = 224
    device: torch.device = _CPU
    workers: int = 0

    def __repr__(self) -> str:
        return (
            f"FolderDataset({self.name}: {self.num_train} train, {self.num_test} test, "
            f"{self.num_classes} classes, 3 x {self.size} x {self.size})"
        )

    @property
    def in_channels(self) -> int:
        """Channels of an image: red, green and blue."""
        return 3

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that a network sees."""
        return self.size, self.size

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return len(self.train)

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return len(self.test)

    def normalize(self, images: Tensor) -> Tensor:
        """Return floats of about zero mean and unit variance."""
        mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (_MEAN, _STD))
        return (images.float() - mean) / std

    def to(self, device: torch.device | str) -> FolderDataset:
        """Return this data set with its batches on a device."""
        return replace(self, device=torch.device(device))

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        augment: Augmentation | None = None,
        share: Share | None = None,
    ) -> FolderTrainBatches:
        """Return the training batches; see `Dataset.train_batches`."""
        augment = augment or Augmentation()
        if augment.shift:
            raise UserError(
                f"`shift` (={augment.shift}) must be 0 for {self.name}, whose images have no "
                "common size: windows of random place and size are cut out of them instead"
            )
        return FolderTrainBatches(self, batch_size, seed, augment.flip, share or Share())

    def test_batches(
        self, *, share: Share | None = None, ten_crop: bool = False
    ) -> FolderTestBatches:
        """Return the test batches; see `Dataset.test_batches`."""
        return FolderTestBatches(self, (share or Share()).of_test(self.num_test), ten_crop)

    def _loader(self, images: _Images, batches: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Read batches, put them on the device and normalise them there."""
        from torch.utils.data import DataLoader

        loader: DataLoader[Any] = DataLoader(
            images,  # type: ignore[arg-type]  # length and items are all it needs
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, str):
                raise UserError(f"{self.name}: {batch}")
            pixels, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            yield self.normalize(pixels), labels


class FolderTrainBatches(TrainBatches):
    """Iterates over shuffled, augmented, normalised batches; see `FolderDataset`."""

    def __init__(
        self, data: FolderDataset, batch_size: int, seed: int, flip: bool, share: Share
    ) -> None:
        super().__init__(data.num_train, batch_size, seed, share)
        self._data = data
        self._seed = seed
        self._flip = flip

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data = self._data
        pieces = self._share.of(self._batch_size)
        order = self._indices(self.sampler.generator(_CPU))
        batches = [batch[piece].tolist() for batch in order for piece in pieces]
        seed = mix(self._seed, self.sampler.number)
        images = _Images(data.train, _train_transform(data.size, self._flip), seed=seed)
        return data._loader(images, batches)


class FolderTestBatches:
    """Iterates over the test images in order."""

    def __init__(self, data: FolderDataset, indices: range, ten_crop: bool) -> None:
        self._data = data
        self._indices = indices
        self._ten_crop = ten_crop
        self._batch = _TEST_BATCH // 10 if ten_crop else _TEST_BATCH

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(0, len(self._indices), self._batch)
        batches = [list(self._indices[start : start + self._batch]) for start in starts]
        transform = _test_transform(self._data.size, self._ten_crop)
        return self._data._loader(_Images(self._data.test, transform), batches)


class _Images:
    """Image and label by number; a damaged image is answered by the message that says so.

    Args:
        files: Paths and labels.
        transform: From a Pillow image to a uint8 tensor.
        seed: Of what is random in it: the same image gets the same in any process, in any order.
    """

    def __init__(self, files: Files, transform: Any, seed: int | None = None) -> None:
        self._files = files
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | str:
        path, label = self._files[index]
        try:
            image = open_image(path, "RGB")
        except ImageError as error:
            return str(error)
        if self._seed is None:
            return self._transform(image), label
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self._seed, index))
            return self._transform(image), label


def _collate(items: list[tuple[Tensor, int] | str]) -> tuple[Tensor, Tensor] | str:
    images, labels = [], []
    for item in items:
        if isinstance(item, str):
            return item
        images.append(item[0])
        labels.append(item[1])
    return torch.stack(images), torch.tensor(labels)


def _train_transform(size: int, flip: bool) -> Any:
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(size), *([v2.RandomHorizontalFlip()] if flip else [])]
    return v2.Compose([*steps, v2.PILToTensor()])


def _test_transform(size: int, ten_crop: bool) -> Any:
    from torchvision.transforms import v2

    steps = [v2.Resize(round(size * 8 / 7)), v2.PILToTensor()]
    windows = [v2.TenCrop(size), torch.stack] if ten_crop else [v2.CenterCrop(size)]
    return v2.Compose([*steps, *windows])


def load_folder(name: str, data_dir: Path | None, image_size: int | None) -> FolderDataset:
    """Find the images of a folder with `train` and `val` inside, each with a folder a class.

    Args:
        name: "imagenet" or "image-folder".
        data_dir: The folder.
        image_size: Height and width that a network sees; 224 by default.

    Raises:
        ValueError: If it is missing, or is arranged otherwise.
    """
    wanted = f"{name} needs --data-dir FOLDER, a folder with train/CLASS/ and val/CLASS/ inside"
    if data_dir is None:
        raise UserError(wanted)
    tests = [data_dir / part for part in ("val", "test") if (data_dir / part).is_dir()]
    if not (data_dir / "train").is_dir() or not tests:
        missing = "val" if (data_dir / "train").is_dir() else "train"
        raise UserError(f"{wanted}; {data_dir / missing} is no folder")
    try:
        classes = class_folders(data_dir / "train")
        train = list_images(data_dir / "train", classes)
        test = list_images(tests[0], classes)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return FolderDataset(
        name=name, train=train, test=test, num_classes=len(classes), size=image_size or 224
    )


def load_imagenet(data_dir: Path | None, image_size: int | None) -> FolderDataset:
    """Find ImageNet's images, or those of a part of its classes."""
    return load_folder("imagenet", data_dir, image_size)


def load_image_folder(data_dir: Path | None, image_size: int | None) -> FolderDataset:
    """Find the images of any folder."""
    return load_folder("image-folder", data_dir, image_size)
