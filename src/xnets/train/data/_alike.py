"""A task that no network solves without connections between its channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from xnets.train.data._dataset import Dataset
from xnets.train.data._fashion import load_fashion_mnist

IMAGES = 4  # channels
_SEED = 0  # of the draw: part of what an accuracy on this set means, so never change it


def load_fashion_mnist_alike(data_dir: Path | None, image_size: int | None) -> Dataset:
    """Load quadruples of Fashion-MNIST, one image a channel, labelled by which are alike.

    The classes of Fashion-MNIST have numbers; even ones are shirts, coats and bags, odd ones
    trousers, dresses and shoes. The label says, for each image but the first, whether its class is
    even or odd as the first one's is: 8 classes, equally likely. No image alone says anything about
    it, and a network that only adds up what it finds in each image cannot do better than chance, in
    cross-entropy: exchanging even and odd everywhere leaves the label, so the best sum is constant.

    Each image of Fashion-MNIST stands once in each channel; training images only in training
    quadruples, test images only in test ones.
    """
    single = load_fashion_mnist(data_dir, image_size)
    generator = Generator().manual_seed(_SEED)
    train_images, train_labels = _quadruples(single.train_images, single.train_labels, generator)
    test_images, test_labels = _quadruples(single.test_images, single.test_labels, generator)
    return replace(
        single,
        name="fashion-mnist-alike",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=2 ** (IMAGES - 1),
    )


def _quadruples(
    images: Tensor,  # (number, 1, height, width)
    labels: Tensor,  # (number,)
    generator: Generator,
) -> tuple[Tensor, Tensor]:  # (number, IMAGES, height, width) and (number,)
    order = torch.stack([torch.randperm(len(labels), generator=generator) for _ in range(IMAGES)])
    odd = labels[order] % 2  # (IMAGES, number)
    bits = (odd[1:] == odd[0]).long()
    weights = 2 ** torch.arange(IMAGES - 1)
    return images[order.T, 0], (bits * weights[:, None]).sum(dim=0)
