"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import torch

from xnets._errors import UserError
from xnets.train.data._dataset import Dataset


def load_digits(data_dir: Path | None, image_size: int | None) -> Dataset:
    """Load the digits, 8 x 8, with a fixed split."""
    if data_dir is not None:
        raise UserError("the digits come with scikit-learn; `data_dir` is for other data sets")
    from sklearn.datasets import load_digits as load_from_sklearn
    from sklearn.model_selection import train_test_split

    images, labels = load_from_sklearn(return_X_y=True)
    # This split is part of what an accuracy on the digits means: never change it.
    train_images, test_images, train_labels, test_labels = train_test_split(
        torch.from_numpy(images).to(torch.uint8).reshape(-1, 1, 8, 8).numpy(),
        labels,
        test_size=360,
        stratify=labels,
        random_state=0,
    )
    return Dataset(
        name="digits",
        train_images=torch.from_numpy(train_images),
        train_labels=torch.from_numpy(train_labels).long(),
        test_images=torch.from_numpy(test_images),
        test_labels=torch.from_numpy(test_labels).long(),
        num_classes=10,
    )
