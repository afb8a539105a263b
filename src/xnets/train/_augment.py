"""Augmentation of a whole batch at once, on the batch's device."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def random_flip(
    images: Tensor,  # (batch, channels, height, width)
    generator: Generator,
) -> Tensor:  # the same shape
    """Mirror each image left to right with probability one half.

    Args:
        images: The batch.
        generator: The source of randomness, on the batch's device.

    Returns:
        A new batch.

    Examples:
        >>> images = torch.arange(8.0).reshape(4, 1, 1, 2)
        >>> random_flip(images, Generator().manual_seed(0)).flatten(1).tolist()
        [[1.0, 0.0], [2.0, 3.0], [5.0, 4.0], [7.0, 6.0]]
    """
    shape = (len(images), 1, 1, 1)
    mirror = torch.rand(shape, generator=generator, device=images.device) < 0.5
    return torch.where(mirror, images.flip(3), images)


def random_shift(
    images: Tensor,  # (batch, channels, height, width)
    pixels: int,
    generator: Generator,
) -> Tensor:  # the same shape
    """Move each image by up to `pixels` in each direction; zeros come in.

    Args:
        images: The batch.
        pixels: The largest shift.
        generator: The source of randomness, on the batch's device.

    Returns:
        A new batch.

    Examples:
        >>> images = torch.ones(3, 1, 2, 2)
        >>> random_shift(images, 1, Generator().manual_seed(0)).sum(dim=(1, 2, 3)).tolist()
        [1.0, 2.0, 1.0]
    """
    batch, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, [pixels] * 4)
    down, right = torch.randint(
        0, 2 * pixels + 1, (2, batch, 1), generator=generator, device=device
    ).unbind()
    rows = torch.arange(height, device=device) + down  # (batch, height)
    columns = torch.arange(width, device=device) + right
    image = torch.arange(batch, device=device)[:, None, None]
    # Indices around a slice put the channels last; move them back.
    moved = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
