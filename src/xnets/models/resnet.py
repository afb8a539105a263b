"""ResNet for ImageNet, as torchvision defines it."""

from __future__ import annotations

from torch import nn

from xnets.models._checks import check_one_of, check_sizes
from xnets.models._plan import Plan
from xnets.models._registry import register_model
from xnets.models._torchvision import set_input_channels

_DEPTHS = (18, 34, 50, 101, 152)


def _plan(thin_downsample: bool = False) -> Plan:
    return Plan(dense=() if thin_downsample else ("*.downsample.0",))


@register_model(plan=_plan)
def resnet(in_channels: int = 3, num_classes: int = 1000, depth: int = 50) -> nn.Module:
    """Build torchvision's ResNet, whose state_dicts it loads.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, table 1, with the
    stride of a bottleneck in its 3 x 3 convolution; the paper, table 1.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        depth: 18, 34, 50, 101 or 152.

    Returns:
        A network from (batch, in_channels, height, width) to (batch, num_classes). Of its plan:
        `thin_downsample` (False) says whether the 1 x 1 convolutions on the shortcuts are thinned
        too, as the paper's text says and its training logs do not.

    Raises:
        ValueError: If a size is not positive or there is no such depth.

    Examples:
        >>> sum(p.numel() for p in resnet(depth=18, num_classes=10).parameters())
        11181642
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes)
    check_one_of("depth", depth, _DEPTHS)
    from torchvision import models

    model: nn.Module = getattr(models, f"resnet{depth}")(num_classes=num_classes)
    set_input_channels(model, "conv1", in_channels)
    return model
