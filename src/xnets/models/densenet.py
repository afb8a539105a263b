"""DenseNet-BC for ImageNet and for CIFAR, both torchvision's."""

from __future__ import annotations

from torch import nn

from xnets.models._checks import check_one_of, check_sizes
from xnets.models._plan import Plan
from xnets.models._registry import register_model
from xnets.models._torchvision import set_input_channels

_TRANSITIONS = ("features.transition*",)


def _imagenet_plan(thin_transitions: bool = False) -> Plan:
    return Plan(dense=() if thin_transitions else _TRANSITIONS)


def _cifar_plan(thin_transitions: bool = True) -> Plan:
    return Plan(dense=() if thin_transitions else _TRANSITIONS)


@register_model(plan=_imagenet_plan)
def densenet(in_channels: int = 3, num_classes: int = 1000, depth: int = 121) -> nn.Module:
    """Build torchvision's DenseNet-BC for ImageNet.

    Source: Huang et al., "Densely connected convolutional networks", CVPR 2017, table 1; the paper,
    table 1.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        depth: 121, 161, 169 or 201.

    Returns:
        A network from (batch, in_channels, height, width) to (batch, num_classes). Of its plan:
        `thin_transitions` (False) says whether the 1 x 1 convolutions between the blocks are
        thinned too, as the paper's text says and its training logs do not.

    Raises:
        ValueError: If a size is not positive or there is no such depth.

    Examples:
        >>> sum(p.numel() for p in densenet(num_classes=10).parameters())
        6964106
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes)
    check_one_of("depth", depth, (121, 161, 169, 201))
    from torchvision import models

    model: nn.Module = getattr(models, f"densenet{depth}")(num_classes=num_classes)
    set_input_channels(model, "features.conv0", in_channels)
    return model


@register_model(plan=_cifar_plan)
def densenet_cifar(
    in_channels: int = 3, num_classes: int = 10, depth: int = 40, growth: int = 24
) -> nn.Module:
    """Build DenseNet-BC for small images: three blocks, a 3 x 3 stem of 2 * growth channels.

    Source: Huang et al., "Densely connected convolutional networks", CVPR 2017, section 3; the
    paper, sections 5.2 and 5.5.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.
        depth: Layers with weights on the longest way, 6 n + 4: n pairs of convolutions a block.
        growth: Channels that each pair adds.

    Returns:
        A network from (batch, in_channels, height, width) to (batch, num_classes). Of its plan:
        `thin_transitions` (True) says whether the 1 x 1 convolutions between the blocks are thinned
        too: so the printed FLOPs say, and the training logs of some networks do not.

    Raises:
        ValueError: If a size is not positive or there is no such depth.

    Examples:
        >>> sum(p.numel() for p in densenet_cifar(depth=100, growth=12).parameters())
        769162
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, depth=depth, growth=growth)
    pairs = (depth - 4) // 6
    if pairs < 1 or depth != 6 * pairs + 4:
        low = 6 * max(1, pairs) + 4
        raise ValueError(f"`depth` (={depth}) must be 6 n + 4; the nearest are {low} and {low + 6}")
    from torchvision.models import DenseNet

    model: nn.Module = DenseNet(growth, (pairs, pairs, pairs), 2 * growth, num_classes=num_classes)
    for name in ("norm0", "relu0", "pool0"):  # the small images keep their size
        delattr(model.features, name)
    stem = nn.Conv2d(in_channels, 2 * growth, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight)
    model.set_submodule("features.conv0", stem)
    return model
