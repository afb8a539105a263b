"""What torchvision's networks leave fixed: the channels of the image."""

from __future__ import annotations

from torch import nn

_IMAGE_CHANNELS = 3


def set_input_channels(model: nn.Module, first: str, in_channels: int) -> None:
    """Give a network's first convolution another number of input channels, if it must have one.

    Args:
        model: A network for images of three channels; changed in place.
        first: Name of its first layer, an `nn.Conv2d`.
        in_channels: Channels of the image.
    """
    if in_channels == _IMAGE_CHANNELS:
        return
    old = model.get_submodule(first)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(first, new)
