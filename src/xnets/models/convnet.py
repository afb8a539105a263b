"""A small all-convolutional network for small images."""

from __future__ import annotations

from torch import Tensor, nn

from xnets.models._checks import check_sizes
from xnets.models._registry import register_model


class ConvNet(nn.Module):
    """3 x 3 convolutions with batch normalisation and ReLU, halving the image between stages.

    A convolution of `stem_stride` opens, then `stages` stages of `depth` convolutions follow; each
    stage but the first starts with stride 2 and doubles the channels. The mean over the image goes
    to one linear layer. Strided convolutions in place of pooling: Springenberg et al., "Striving
    for simplicity: the all convolutional net", 2015.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        width: Channels of the first stage.
        stages: Number of resolutions.
        depth: Convolutions per stage.
        stem_stride: Stride of the opening convolution.
        stem_groups: Groups of the opening convolution; `in_channels` groups keep the channels of
            the image apart.

    Shape:
        Images (batch, in_channels, height, width) to logits (batch, num_classes).

    Raises:
        ValueError: If a size is not a positive integer, or `stem_groups` divides not both
            `in_channels` and `width`.

    Examples:
        >>> import torch
        >>> ConvNet(width=8, stages=2)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        *,
        width: int = 32,
        stages: int = 3,
        depth: int = 2,
        stem_stride: int = 1,
        stem_groups: int = 1,
    ) -> None:
        super().__init__()
        check_sizes(
            in_channels=in_channels,
            num_classes=num_classes,
            width=width,
            stages=stages,
            depth=depth,
            stem_stride=stem_stride,
            stem_groups=stem_groups,
        )
        if in_channels % stem_groups or width % stem_groups:
            raise ValueError(
                f"`stem_groups` (={stem_groups}) must divide `in_channels` (={in_channels}) and "
                f"`width` (={width})"
            )
        layers = [_conv(in_channels, width, stem_stride, stem_groups)]
        channels = width
        for stage in range(stages):
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(_conv(channels, width << stage, stride))
                channels = width << stage
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, num_classes)
        """Return the logits of a batch of images."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


def _conv(in_channels: int, out_channels: int, stride: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


@register_model
def convnet(
    in_channels: int = 1,
    num_classes: int = 10,
    width: int = 32,
    stages: int = 3,
    depth: int = 2,
    stem_stride: int = 1,
    stem_groups: int = 1,
) -> ConvNet:
    """Build a `ConvNet`; see there for the arguments."""
    return ConvNet(
        in_channels,
        num_classes,
        width=width,
        stages=stages,
        depth=depth,
        stem_stride=stem_stride,
        stem_groups=stem_groups,
    )
