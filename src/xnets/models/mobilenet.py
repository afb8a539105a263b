"""MobileNet, for images of ImageNet's kind."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from xnets.models._checks import check_one_of, check_sizes
from xnets.models._plan import Plan
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
        as_coded: Whether the first convolution and the last block keep their full width, and the
            blocks clip at 6 (ReLU6), as in the network that the paper's authors trained; the
            printed costs are those of the other.

    Shape:
        Images (batch, in_channels, height, width) to logits (batch, num_classes).

    Raises:
        ValueError: If a size is not positive, or the width leaves a layer without channels.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        width: float = 0.5,
        as_coded: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, num_classes=num_classes)
        if isinstance(width, bool) or not isinstance(width, (int, float)) or not 32 * width >= 1:
            raise ValueError(f"`width` (={width!r}) must be a number of at least 1/32")
        channels = 32 if as_coded else int(32 * width)
        activation = nn.ReLU6 if as_coded else nn.ReLU
        stem = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.stem = _normed(stem, nn.ReLU)
        self.blocks = nn.Sequential()
        for block, (full_width, stride) in enumerate(_BLOCKS, start=1):
            is_last = block == len(_BLOCKS)
            out_channels = full_width if as_coded and is_last else int(full_width * width)
            self.blocks.append(_separable(channels, out_channels, stride, activation))
            channels = out_channels
        self.classifier = nn.Linear(channels, num_classes)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, num_classes)
        """Return the logits of a batch of images."""
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return logits


def _separable(
    channels: int, out_channels: int, stride: int, activation: type[nn.ReLU | nn.ReLU6]
) -> nn.Sequential:
    depthwise = nn.Conv2d(
        channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False
    )
    pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
    return nn.Sequential(
        OrderedDict(
            depthwise=_normed(depthwise, activation), pointwise=_normed(pointwise, activation)
        )
    )


def _normed(conv: nn.Conv2d, activation: type[nn.ReLU | nn.ReLU6]) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), activation(inplace=True))


def _plan(thin_from: int = 2) -> Plan:
    check_one_of("thin_from", thin_from, range(1, len(_BLOCKS) + 1))
    return Plan(dense=tuple(f"blocks.{block}.*" for block in range(thin_from - 1)))


@register_model(plan=_plan)
def mobilenet(
    in_channels: int = 3, num_classes: int = 1000, width: float = 0.5, as_coded: bool = False
) -> MobileNet:
    """Build a `MobileNet`; see there for the arguments.

    Of its plan: compression thins the pointwise layers of block `thin_from` (2) and later; the
    paper's text says 4, its published costs and its training logs 2.
    """
    return MobileNet(in_channels, num_classes, width=width, as_coded=as_coded)
