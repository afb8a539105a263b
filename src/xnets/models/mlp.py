"""A multilayer perceptron."""

from __future__ import annotations

from torch import nn

from xnets.models._checks import check_sizes
from xnets.models._registry import register_model


@register_model
def mlp(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int = 8,
    width: int = 256,
    depth: int = 2,
) -> nn.Sequential:
    """Build a perceptron with batch normalisation and ReLU on flattened square images.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        image_size: Height and width of the image.
        width: Features of each hidden layer.
        depth: Hidden layers after the first.

    Returns:
        A network from (batch, in_channels, image_size, image_size) to (batch, num_classes).

    Raises:
        ValueError: If a size is not a positive integer.

    Examples:
        >>> import torch
        >>> mlp(width=16)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """
    check_sizes(
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
        width=width,
        depth=depth,
    )
    layers: list[nn.Module] = [nn.Flatten()]
    features = in_channels * image_size**2
    for _ in range(1 + depth):
        # Batch normalisation has its own shift, so the linear layer needs no bias.
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))
