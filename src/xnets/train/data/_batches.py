"""Which images make up a batch, in which process, and how they are changed at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from xnets._errors import UserError
from xnets.train.data._augment import random_crop, random_flip


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training changes at random in an image.

    Args:
        flip: Whether it is mirrored left to right.
        shift: By how many pixels it is moved at most, in each direction.
        fill: What comes in at the border: "zeros" or "reflect".
    """

    flip: bool = False
    shift: int = 0
    fill: str = "zeros"

    def __call__(
        self,
        images: Tensor,  # (batch, channels, height, width)
        size: tuple[int, int],
        generator: Generator,
        *,
        share: slice = slice(None),
        total: int | None = None,
    ) -> Tensor:  # (batch, channels, *size)
        """Change a batch, or one process's share of it, and cut it to the size to train on."""
        if self.flip:
            images = random_flip(images, generator, share=share, total=total)
        if self.shift or images.shape[2:] != size:
            images = random_crop(
                images,
                size,
                generator,
                padding=self.shift,
                fill=self.fill,
                share=share,
                total=total,
            )
        return images


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of every batch that one process computes, and in how many pieces.

    Args:
        rank: Which of the processes.
        size: How many processes share a batch.
        pieces: Into how many pieces each process cuts its part: gradient accumulation.

    Examples:
        >>> share = Share(rank=1, size=2, pieces=2)
        >>> [(piece.start, piece.stop) for piece in share.of(16)]
        [(4, 8), (12, 16)]
    """

    rank: int = 0
    size: int = 1
    pieces: int = 1

    def of(self, batch_size: int) -> list[slice]:
        """Where the pieces of this process lie in a batch that all of them share."""
        each = batch_size // (self.size * self.pieces)
        starts = (each * (self.rank + self.size * piece) for piece in range(self.pieces))
        return [slice(start, start + each) for start in starts]

    def check(self, batch_size: int, num_train: int) -> None:
        """Refuse a batch that is larger than the data, or that cannot be shared out evenly.

        Raises:
            ValueError: If so.
        """
        if not 1 <= batch_size <= num_train:
            raise UserError(
                f"`batch_size` (={batch_size}) must be between 1 and the number of "
                f"training images (={num_train})"
            )
        if batch_size % (self.size * self.pieces):
            raise UserError(
                f"`batch_size` (={batch_size}) must be a multiple of the number of processes "
                f"times `accumulate` (={self.size} x {self.pieces}); it counts all of them"
            )

    def of_test(self, number: int) -> range:
        """Which test images this process looks at; together the processes see each once."""
        return range(self.rank * number // self.size, (self.rank + 1) * number // self.size)


class Epoch:
    """The number of the current pass, which Lightning sets as it does on torch's samplers.

    All that is random in a pass follows from the seed and this number, so that a resumed training
    goes on as the interrupted one would have.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = 0

    def set_epoch(self, number: int) -> None:
        """Lightning calls this before every pass."""
        self._number = number

    @property
    def number(self) -> int:
        """Passes before this one."""
        return self._number

    def generator(self, device: torch.device) -> Generator:
        """Return the randomness of this pass, the same in every process."""
        return Generator(device).manual_seed(mix(self._seed, self._number))


def mix(*numbers: int) -> int:
    """Hash numbers into a seed, so that neighbours share nothing.

    Examples:
        >>> mix(0, 1) != mix(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class TrainBatches:
    """Shuffled batches of training images, wherever the images are; a data set's own class reads.

    Args:
        number: How many training images there are.
        batch_size: Images a batch, in all processes together; an incomplete last one is left out.
        seed: Of all that is random.
        share: The part of each batch that this process computes.

    Raises:
        ValueError: If the batch is larger than the data, or cannot be shared out evenly.
    """

    def __init__(self, number: int, batch_size: int, seed: int, share: Share) -> None:
        share.check(batch_size, number)
        self._number = number
        self._batch_size = batch_size
        self._share = share
        self.sampler = Epoch(seed)

    def __len__(self) -> int:
        return self._number // self._batch_size * self._share.pieces

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return images and labels of each piece of this process."""
        raise NotImplementedError

    def _indices(self, generator: Generator) -> Iterator[Tensor]:
        """The images of each batch, for all processes."""
        order = torch.randperm(self._number, generator=generator, device=generator.device)
        yield from order.split(self._batch_size)[: self._number // self._batch_size]
