"""Augmentation of a whole batch at once, on the batch's device."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

# How the border that a shift uncovers is filled, and what `torch.nn.functional.pad` calls it.
FILLS = {"zeros": "constant", "reflect": "reflect"}


def random_flip(
    images: Tensor,  # (batch, channels, height, width)
    generator: Generator,
    *,
    share: slice = slice(None),
    total: int | None = None,
) -> Tensor:  # the same shape
    """Mirror each image left to right with probability one half.

    Args:
        images: The batch, or one process's share of it.
        generator: The source of randomness, on the batch's device.
        share: Which of the whole batch `images` are.
        total: The size of the whole batch. All of it is drawn for, so that every way to share a
            batch out gives each image the same mirror.

    Returns:
        A new batch.

    Examples:
        >>> images = torch.arange(8.0).reshape(4, 1, 1, 2)
        >>> random_flip(images, Generator().manual_seed(0)).flatten(1).tolist()
        [[1.0, 0.0], [2.0, 3.0], [5.0, 4.0], [7.0, 6.0]]
    """
    shape = (total or len(images), 1, 1, 1)
    mirror = torch.rand(shape, generator=generator, device=images.device)[share] < 0.5
    return torch.where(mirror, images.flip(3), images)


def random_crop(
    images: Tensor,  # (batch, channels, height, width)
    size: tuple[int, int],
    generator: Generator,
    *,
    padding: int = 0,
    fill: str = "zeros",
    share: slice = slice(None),
    total: int | None = None,
) -> Tensor:  # (batch, channels, *size)
    """Cut a window out of each image, at a place of its own.

    Args:
        images: The batch, or one process's share of it.
        size: Height and width of the window.
        generator: The source of randomness, on the batch's device.
        padding: Pixels added on every side before.
        fill: What they are: "zeros", or "reflect" for the mirror image of the border.
        share: As in `random_flip`.
        total: As in `random_flip`.

    Returns:
        A new batch.

    Examples:
        >>> images = torch.ones(3, 1, 2, 2)
        >>> crops = random_crop(images, (2, 2), Generator().manual_seed(0), padding=1)
        >>> crops.sum(dim=(1, 2, 3)).tolist()
        [1.0, 2.0, 1.0]
    """
    batch, device = len(images), images.device
    padded = _pad(images, padding, fill)
    places = [full - cut + 1 for full, cut in zip(padded.shape[2:], size, strict=True)]
    down, right = (
        torch.randint(0, most, (total or batch, 1), generator=generator, device=device)[share]
        for most in places
    )
    rows = torch.arange(size[0], device=device) + down  # (batch, height)
    columns = torch.arange(size[1], device=device) + right
    image = torch.arange(batch, device=device)[:, None, None]
    # Indices around a slice put the channels last; move them back.
    moved = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def center_crop(
    images: Tensor,  # (batch, channels, height, width)
    size: tuple[int, int],
) -> Tensor:  # (batch, channels, *size)
    """Cut the window in the middle out of each image.

    Args:
        images: The batch.
        size: Height and width of the window.

    Returns:
        A view.

    Examples:
        >>> center_crop(torch.arange(16).reshape(1, 1, 4, 4), (2, 2)).flatten().tolist()
        [5, 6, 9, 10]
    """
    top, left = ((full - cut) // 2 for full, cut in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]


def _pad(images: Tensor, padding: int, fill: str) -> Tensor:
    if not padding:
        return images
    if fill == "zeros":
        return F.pad(images, [padding] * 4)
    # torch reflects only floats; 0 to 255 are exact in half precision, too.
    floats = images if images.is_floating_point() else images.float()
    return F.pad(floats, [padding] * 4, mode=FILLS[fill]).to(images.dtype)
