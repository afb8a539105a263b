"""A data set whole in memory, on the device; batches are slices, augmented all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from xnets._errors import UserError
from xnets.train.data._augment import center_crop
from xnets.train.data._batches import Augmentation, Share, TrainBatches

TEST_BATCH = 1000  # images of a test batch, or fewer where they are large
_TEST_PIXELS = 16 * 2**20  # of such a batch, channels counted
_TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels for training and testing, in memory.

    Args:
        name: As `load_dataset` knows it.
        train_images: (number, channels, height, width), uint8.
        train_labels: (number,), int64.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
        num_classes: Labels are below this.
        mean: One value a channel, on the scale 0 to 255, by which images are normalised; by default
            that of all training pixels.
        std: As `mean`.
        crop: Height and width that a network sees, if smaller than the images: a random window in
            training, the middle in tests.

    Examples:
        >>> from xnets.train import load_dataset
        >>> digits = load_dataset("digits")
        >>> digits
        Dataset(digits: 1437 train, 360 test, 10 classes, 1 x 8 x 8)
        >>> images, labels = next(iter(digits.test_batches()))
        >>> images.shape, images.dtype, labels.shape
        (torch.Size([360, 1, 8, 8]), torch.float32, torch.Size([360]))
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: int | None = None

    def __repr__(self) -> str:
        size = " x ".join(map(str, (self.in_channels, *self.image_size)))
        return (
            f"Dataset({self.name}: {self.num_train} train, {self.num_test} test, "
            f"{self.num_classes} classes, {size})"
        )

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return int(self.train_images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that a network sees."""
        height, width = self.train_images.shape[2:]
        return (height, width) if self.crop is None else (self.crop, self.crop)

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return len(self.train_labels)

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return len(self.test_labels)

    @cached_property
    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by which batches are normalised, (channels or 1, 1, 1)."""
        mean, std = self.mean, self.std
        if mean is None or std is None:
            # From the histogram: exact, and without a float copy of the whole set.
            count = torch.bincount(self.train_images.flatten(), minlength=256).double().cpu()
            value = torch.arange(256, dtype=torch.float64)
            average = (count @ value) / count.sum()
            variance = (count @ (value - average) ** 2) / count.sum()
            mean = (float(average),)
            std = (max(float(variance.sqrt()), 1e-6),)  # a blank set has no variance
        device = self.train_images.device
        return tuple(torch.tensor(v, device=device).view(-1, 1, 1) for v in (mean, std))  # type: ignore[return-value]

    def normalize(self, images: Tensor) -> Tensor:
        """Return floats of about zero mean and unit variance."""
        mean, std = self.mean_std
        return (images.float() - mean) / std

    def to(self, device: torch.device | str) -> Dataset:
        """Return this data set with its tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, **moved)

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        augment: Augmentation | None = None,
        share: Share | None = None,
    ) -> MemoryTrainBatches:
        """Return the training batches, shuffled by the seed and the number of the pass.

        Args:
            batch_size: Images per batch, in all processes together; the last, smaller batch of a
                pass is left out.
            seed: Of the shuffle and the augmentation.
            augment: What changes at random.
            share: The part of each batch to return; all of it by default.

        Returns:
            An iterable with a length and, in `sampler`, the number of the pass.

        Raises:
            ValueError: If the batch is larger than the data, or cannot be shared out evenly.
        """
        return MemoryTrainBatches(
            self, batch_size, seed, augment or Augmentation(), share or Share()
        )

    def test_batches(
        self, *, share: Share | None = None, ten_crop: bool = False
    ) -> TestBatches | TenCropBatches:
        """Return the test batches, always the same, so that accuracies are too.

        Args:
            share: The process whose images to return; all of them by default.
            ten_crop: Whether to return ten windows of each image: the middle and the corners, and
                their mirror images. They are (images, 10, channels, height, width).

        Raises:
            ValueError: If the images are no larger than what the network sees.
        """
        indices = (share or Share()).of_test(self.num_test)
        if not ten_crop:
            return TestBatches(self, indices)
        if self.image_size == tuple(self.test_images.shape[2:]):
            height, width = self.image_size
            raise UserError(
                f"ten-crop evaluation needs images larger than the {height} x {width} that the "
                f"network sees; those of {self.name} are not"
            )
        return TenCropBatches(self, indices)


class MemoryTrainBatches(TrainBatches):
    """Iterates over shuffled, augmented, normalised batches; see `Dataset.train_batches`."""

    def __init__(
        self, data: Dataset, batch_size: int, seed: int, augment: Augmentation, share: Share
    ) -> None:
        super().__init__(data.num_train, batch_size, seed, share)
        self._data = data
        self._augment = augment

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data, total = self._data, self._batch_size
        generator = self.sampler.generator(data.train_images.device)
        pieces = self._share.of(total)
        for batch in self._indices(generator):
            state = generator.get_state()
            for piece in pieces:
                generator.set_state(state)  # each piece takes its own part of the same numbers
                images = self._augment(
                    data.train_images[batch[piece]],
                    data.image_size,
                    generator,
                    share=piece,
                    total=total,
                )
                yield data.normalize(images), data.train_labels[batch[piece]]


class TestBatches:
    """Iterates over the test set in order; see `Dataset.test_batches`."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    def __init__(self, data: Dataset, indices: range) -> None:
        self._data = data
        self._indices = indices
        per_image = data.in_channels * math.prod(data.image_size)
        self._batch = max(1, min(TEST_BATCH, _TEST_PIXELS // per_image))

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data = self._data
        last = self._indices.stop
        for start in range(self._indices.start, last, self._batch):
            batch = slice(start, min(start + self._batch, last))
            yield self._windows(data.test_images[batch]), data.test_labels[batch]

    def _windows(self, images: Tensor) -> Tensor:
        return self._data.normalize(center_crop(images, self._data.image_size))


class TenCropBatches(TestBatches):
    """The same in ten windows of each image."""

    def __init__(self, data: Dataset, indices: range) -> None:
        super().__init__(data, indices)
        self._batch = max(1, self._batch // 10)

    def _windows(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import ten_crop

        windows = torch.stack(ten_crop(images, list(self._data.image_size)), dim=1)
        return self._data.normalize(windows)
