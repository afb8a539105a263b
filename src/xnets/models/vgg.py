"""VGG16 with batch normalisation, for CIFAR."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from xnets.models._checks import check_sizes
from xnets.models._plan import Plan
from xnets.models._registry import register_model
from xnets.models._torchvision import set_input_channels

# The degrees of the only configuration that was released: 64 in the second to fourth convolution
# (so that the second and third are dense), 16 in the nine others, 128 in the hidden linear layer.
_RELEASED: dict[str, float] = {
    "features.10": 128 / 64,
    "features.14": 128 / 16,
    **{f"features.{position}": 256 / 16 for position in (17, 20, 24)},
    **{f"features.{position}": 512 / 16 for position in (27, 30, 34, 37, 40)},
    "classifier.0": 512 / 128,
}


def _plan(released: bool = False) -> Plan:
    # What follows a thinned layer has a shift of its own, as in the released network.
    return Plan(compression=_RELEASED if released else {}, bias=False)


@register_model(plan=_plan)
def vgg16(in_channels: int = 3, num_classes: int = 10) -> nn.Sequential:
    """Build VGG16 for small images: thirteen 3 x 3 convolutions, each batch normalised.

    Source: Simonyan and Zisserman, "Very deep convolutional networks", 2015, configuration D, with
    a head 512-512-classes; the paper, table 2.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of outputs.

    Returns:
        A network from (batch, in_channels, height, width) to (batch, num_classes), for images of
        at least 32 x 32. Thinned layers have no bias. Of its plan: `released` (False) takes the
        degrees of the original repository instead of one compression; they do not give a printed
        size.

    Raises:
        ValueError: If a size is not positive.

    Examples:
        >>> sum(p.numel() for p in vgg16().parameters())
        14990922
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes)
    from torchvision.models.vgg import cfgs, make_layers

    model = nn.Sequential(
        OrderedDict(
            features=make_layers(cfgs["D"], batch_norm=True),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(
                nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, num_classes)
            ),
        )
    )
    set_input_channels(model, "features.0", in_channels)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return model
