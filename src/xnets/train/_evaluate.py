"""The accuracy of a trained network."""

from __future__ import annotations

import os
from dataclasses import replace

import torch
from torch import nn

from xnets._errors import UserError
from xnets.train._checkpoint import load_checkpoint
from xnets.train._distributed import World
from xnets.train._machine import choose_device, choose_workers, cpu_threads
from xnets.train.data import Dataset, FolderDataset, Share, load_dataset


def evaluate(
    run: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    ten_crop: bool = False,
    workers: int | None = None,
) -> float:
    """Measure the test accuracy of a checkpoint anew.

    Args:
        run: A run folder or a checkpoint file. It is read without running code from it.
        data_dir: Where the data set's files are.
        device: "auto" takes a GPU if there is one; "cpu" or "cuda".
        threads: CPU threads; by default as in training.
        ten_crop: Whether to average the class probabilities of ten windows of each image: the
            middle, the corners, and their mirror images.
        workers: Processes that read images from folders; by default as many as there are cores.

    Returns:
        The correct share of the test set.

    Raises:
        ValueError: If there is no checkpoint, the file is not one, or the data is missing, of
            another number of classes, or too small for ten windows.

    Examples:
        >>> evaluate("no/such/run")
        Traceback (most recent call last):
        xnets._errors.UserError: no such file or folder: no/such/run
    """
    if threads is not None and threads < 1:
        raise UserError(f"`threads` (={threads}) must be at least 1")
    target = choose_device(device)
    checkpoint = load_checkpoint(run)
    recipe = checkpoint.recipe
    dataset = with_workers(
        load_dataset(recipe.dataset, data_dir, image_size=recipe.image_size), workers
    )
    if dataset.num_classes != checkpoint.num_classes:
        raise UserError(
            f"the network in {run} tells {checkpoint.num_classes} classes apart, but the data has "
            f"{dataset.num_classes}"
        )
    with cpu_threads(threads or recipe.threads):
        return accuracy(checkpoint.model.to(target), dataset.to(target), ten_crop=ten_crop)


def accuracy(
    model: nn.Module,
    dataset: Dataset | FolderDataset,
    *,
    ten_crop: bool = False,
    world: World | None = None,
) -> float:
    """Return the correct share of the test set; model and data are on one device.

    Args:
        model: The network, from images to logits.
        dataset: The data.
        ten_crop: As in `evaluate`.
        world: The processes that share the work; all of them get the result.
    """
    world = world or World()
    share = Share(rank=world.rank, size=world.size)
    was_training = model.training
    model.eval()
    correct = 0
    device = torch.device("cpu")
    with torch.inference_mode():
        for images, labels in dataset.test_batches(share=share, ten_crop=ten_crop):
            scores = _ten_crop_scores(model, images) if ten_crop else model(images)
            correct += int((scores.argmax(dim=1) == labels).sum())
            device = labels.device
    model.train(was_training)
    return world.sum(correct, device) / dataset.num_test


def with_workers(
    dataset: Dataset | FolderDataset, workers: int | None, local_size: int = 1
) -> Dataset | FolderDataset:
    """Let a data set read its files by some number of processes; one in memory has none."""
    chosen = choose_workers(workers, local_size)
    return replace(dataset, workers=chosen) if isinstance(dataset, FolderDataset) else dataset


def _ten_crop_scores(
    model: nn.Module,
    images: torch.Tensor,  # (batch, 10, channels, height, width)
) -> torch.Tensor:  # (batch, classes)
    logits: torch.Tensor = model(images.flatten(0, 1))
    windows: torch.Tensor = logits.softmax(dim=1).unflatten(0, (-1, 10))
    return windows.mean(dim=1)
