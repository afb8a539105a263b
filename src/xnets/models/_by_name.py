"""Models by any name: our own, torchvision's and timm's, dense or thinned."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from xnets._suggest import unknown_name
from xnets.convert import convert
from xnets.models._names import parse_name
from xnets.models._registry import create_model, list_models, model_arguments

TORCHVISION, TIMM = "torchvision:", "timm:"


def full_name(name: str) -> str:
    """A name with its library before it, if that is another than ours.

    Args:
        name: As in `create_model`, torchvision:NAME, timm:NAME, or a NAME of torchvision's that is
            none of ours.

    Returns:
        The name, with "torchvision:" where it was left out.

    Raises:
        ValueError: If nobody knows it, or the library is not installed.

    Examples:
        >>> full_name("mlp"), full_name("resnet50")
        ('mlp', 'torchvision:resnet50')
    """
    if name in list_models() or parse_name(name):
        return name
    if name.startswith(TIMM):
        return _timm_name(name)
    from torchvision import models

    known = models.list_models()
    if name.removeprefix(TORCHVISION) in known:
        return TORCHVISION + name.removeprefix(TORCHVISION)
    if name.startswith(TORCHVISION):
        raise ValueError(unknown_name("model", name, [TORCHVISION + model for model in known]))
    raise ValueError(
        unknown_name("model", name, [*list_models(), f"{TORCHVISION}NAME", f"{TIMM}NAME"])
    )


def build_model(
    name: str,
    *,
    compression: float | Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a model by any name, dense or as an expander network.

    Args:
        name: As `full_name` takes it.
        compression: As in `create_model`; 1 builds the dense network, None what the name says.
        settings: Arguments of the model itself.
        options: family, block, seed and backend, as in `create_model`.

    Returns:
        The network, in training mode, with new weights.

    Raises:
        ValueError: If the name is unknown, or no layer can have such a graph.

    Examples:
        >>> type(build_model("mlp", compression=4)).__name__
        'Sequential'
    """
    name, settings = full_name(name), settings or {}
    if ":" not in name:
        return create_model(name, compression=compression, **options, **settings)
    model = _foreign_model(name, settings)
    if compression is None or compression == 1:
        return model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="xnets.convert: no layer was converted")
        model, report = convert(model, compression, **options)
    if not report.converted:
        raise ValueError(f"no layer of model {name!r} can be thinned so: {report.left[-1].reason}")
    return model


def input_size(
    name: str, settings: Mapping[str, Any] | None = None, *, side: int | None = None
) -> list[int]:
    """Shape of one input that a model takes, without the batch.

    Args:
        name: As `full_name` takes it.
        settings: Arguments of the model itself.
        side: Of the images of networks of ours that take any size; by default that of the data set
            that they are for: 224 with 1000 classes, as ImageNet, else 32, as CIFAR.

    Returns:
        Channels, height, width.

    Examples:
        >>> input_size("mlp"), input_size("torchvision:resnet50"), input_size("X-VGG16-1")
        ([1, 8, 8], [3, 224, 224], [3, 32, 32])
    """
    name = full_name(name)
    if name.startswith(TIMM):
        import timm

        config = timm.get_pretrained_cfg(name.removeprefix(TIMM))
        return list(config.input_size) if config else [3, 224, 224]
    if name.startswith(TORCHVISION):
        return [3, 224, 224]
    values = {**model_arguments(name), **(settings or {})}
    if side is None:
        side = 224 if values.get("num_classes") == 1000 else 32
    side = values.get("image_size", side)  # unchecked: the model says what is wrong with it
    return [values.get("in_channels", 3), side, side]


def read_size(text: str) -> list[int]:
    """Read the shape of one input.

    Args:
        text: Such as 3x224x224.

    Returns:
        The sizes.

    Raises:
        ValueError: If it cannot be read.

    Examples:
        >>> read_size("3x64x64")
        [3, 64, 64]
    """
    try:
        sizes = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise ValueError(f"`input` (={text!r}) must be sizes without the batch, such as 3x224x224")
    return sizes


def _timm_name(name: str) -> str:
    try:
        import timm
    except ImportError:
        raise ValueError(f"model {name!r} needs timm: pip install timm") from None
    if not timm.is_model(name.removeprefix(TIMM)):
        known = [TIMM + model for model in timm.list_models()]
        raise ValueError(unknown_name("model", name, known))
    return name


def _foreign_model(name: str, settings: Mapping[str, Any]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of old models, about their initial weights
        if name.startswith(TIMM):
            import timm

            model: nn.Module = timm.create_model(name.removeprefix(TIMM), **settings)
        else:
            from torchvision import models

            theirs = name.removeprefix(TORCHVISION)
            takes = inspect.signature(models.get_model_builder(theirs)).parameters
            if "weights_backbone" in takes:  # by default, those of segmentation nets are downloaded
                settings = {"weights_backbone": None, **settings}
            model = models.get_model(theirs, **settings)
    return model.train()
