"""AlexNet for ImageNet, as torchvision defines it."""

from __future__ import annotations

from torch import nn

from xnets.models._checks import check_sizes
from xnets.models._plan import Plan
from xnets.models._registry import register_model
from xnets.models._torchvision import set_input_channels

# The degrees of the only configuration that was released, 256, 256 and 512: the last layer too.
_RELEASED: dict[str, float] = {"classifier.1": 36, "classifier.4": 16, "classifier.6": 8}


def _plan(released: bool = False) -> Plan:
    return Plan(
        dense=("features.*",),
        compression=_RELEASED if released else {},
        keep_ends=not released,
        bias=False,
    )


@register_model(plan=_plan)
def alexnet(
    in_channels: int = 3,
    num_classes: int = 1000,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> nn.Module:
    """Build torchvision's AlexNet, with or without batch normalisation.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014; the
    paper, table 3.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        batch_norm: Whether each layer but the last is batch normalised, as in X-AlexNet.
        dropout: Share of features zeroed before the hidden linear layers.

    Returns:
        A network from (batch, in_channels, height, width) to (batch, num_classes), for images of
        at least 63 x 63. Compression thins its linear layers, which then have no bias; its
        convolutions stay dense. Of its plan: `released` (False) takes the degrees of the original
        repository, last layer included, instead of one compression; they do not give a printed
        size.

    Raises:
        ValueError: If a size is not positive.

    Examples:
        >>> sum(p.numel() for p in alexnet(num_classes=10).parameters())
        57044810
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes)
    from torchvision import models

    model: nn.Module = models.AlexNet(num_classes, dropout)
    set_input_channels(model, "features.0", in_channels)
    if batch_norm:
        for group in ("features", "classifier"):
            _normalise(model.get_submodule(group))
    return model


def _normalise(layers: nn.Module) -> None:
    """Put a norm before each ReLU, inside its place, so that the layers keep their names."""
    norm: nn.Module = nn.Identity()
    for name, layer in list(layers.named_children()):
        if isinstance(layer, nn.Conv2d):
            norm = nn.BatchNorm2d(layer.out_channels)
        elif isinstance(layer, nn.Linear):
            norm = nn.BatchNorm1d(layer.out_features)
        elif isinstance(layer, nn.ReLU):
            layers.add_module(name, nn.Sequential(norm, layer))
