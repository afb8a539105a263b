"""MobileNet, for images of ImageNet's kind."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from xnets.models._checks import check_sizes
from xnets.models._registry import register_model

# (output channels at width 1, stride) of the thirteen blocks: table 1 of Howard et al.
_BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
_BLOCKS += [(1024, 2), (1024, 1)]


class MobileNet(nn.Module):
    """Thirteen pairs of a depthwise 3 x 3 and a pointwise 1 x 1 convolution.

    Source: Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision
    applications", 2017, table 1; the paper, section 5.1, thins it at width 0.5.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        width: Every number of channels is multiplied by this and rounded down.

    Shape:
        Images (batch, in_channels, height, width) to logits (batch, num_classes).

    Raises:
        ValueError: If a size is not positive, or the width leaves a layer without channels.
    """

    def __init__(
        self, in_channels: int = 3, num_classes: int = 1000, *, width: float = 0.5
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, num_classes=num_classes)
        if isinstance(width, bool) or not isinstance(width, (int, float)) or not 32 * width >= 1:
            raise ValueError(f"`width` (={width!r}) must be a number of at least 1/32")
        channels = int(32 * width)
        self.stem = _normed(nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False))
        self.blocks = nn.Sequential()
        for full_width, stride in _BLOCKS:
            out_channels = int(full_width * width)
            self.blocks.append(_separable(channels, out_channels, stride))
            channels = out_channels
        self.classifier = nn.Linear(channels, num_classes)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, num_classes)
        """Return the logits of a batch of images."""
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return logits


def _separable(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    depthwise = nn.Conv2d(
        channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False
    )
    pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
    return nn.Sequential(OrderedDict(depthwise=_normed(depthwise), pointwise=_normed(pointwise)))


def _normed(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))


def _is_thinned(name: str, layer: nn.Module) -> bool:
    """All layers but the first pointwise one: so the paper's published costs say."""
    return name != "blocks.0.pointwise.0"


@register_model(where=_is_thinned)
def mobilenet(in_channels: int = 3, num_classes: int = 1000, width: float = 0.5) -> MobileNet:
    """Build a `MobileNet`; see there for the arguments."""
    return MobileNet(in_channels, num_classes, width=width)
