"""The paper's names of networks: `X-DenseNet-BC-2-40-24` is a model, its arguments and a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class ModelName(NamedTuple):
    """What a name says.

    Args:
        model: The registered model.
        args: The arguments that the name fixes.
        compression: How sparse the network is, as in `create_model`; None: dense.
        family: The family of its graphs.
    """

    model: str
    args: dict[str, Any]
    compression: float | Mapping[str, float] | None
    family: str


_FAMILIES = {"x": "random", "g": "grouped", "group": "grouped"}
_PREFIX = r"(?:(?P<kind>x|g|group)-)?"
_NUMBER = r"\d+(?:\.\d+)?"
_C = rf"(?:(?P<c>{_NUMBER})-)?"
_GRAMMAR = [
    rf"(?P<net>mobilenet)-?(?P<width>{_NUMBER})(?:-(?P<c>{_NUMBER}))?",
    rf"(?P<net>resnet)-{_C}(?P<depth>\d+)",
    rf"(?P<net>densenet)-bc-{_C}(?P<depth>\d+)-(?P<growth>\d+)",
    rf"(?P<net>densenet)-bc-{_C}(?P<depth>\d+)",
    r"(?P<net>vgg16|alexnet)(?:-(?P<c>[12]))?",
]
# Depth -> growth of the DenseNets for ImageNet; any other depth is one for CIFAR.
_IMAGENET_GROWTH = {121: 32, 161: 48, 169: 32, 201: 32}
# X-VGG16-1 and -2, X-AlexNet-1 and -2 are numbered, not named by their compression, and no
# configuration was published that has the printed sizes. These do; others would too.
_NUMBERED: dict[str, dict[str, float | Mapping[str, float]]] = {
    "vgg16": {"1": 9.0, "2": 13.0},  # table 2 says "9x" and "13x"
    "alexnet": {
        "1": {"classifier.1": 72, "classifier.4": 32},  # D = 128, 128
        "2": {"classifier.1": 18, "classifier.4": 16},  # D = 512, 256
    },
}
# The original's page writes C last.
_PAGE_NAMES = {
    f"x-densenet-bc-40-{growth}-2": f"x-densenet-bc-2-40-{growth}" for growth in (24, 36, 48, 60)
}


def parse_name(name: str) -> ModelName | None:
    """Read a name of the paper's kind, in any case of letters.

    The notation is X-C-D-G: expander, compression, depth, growth (section 5.2); G- in place of X-
    is grouped convolution, and without either the network is dense.

    Args:
        name: Such as "X-DenseNet-BC-2-40-24", "G-MobileNet-0.5-8", "ResNet-50".

    Returns:
        What it says, or None if it is no such name. Whether such a network can be built is not
        checked.

    Examples:
        >>> parse_name("G-MobileNet-0.5-8")
        ModelName(model='mobilenet', args={'width': 0.5}, compression=8.0, family='grouped')
        >>> parse_name("X-ResNet-34") is None
        True
    """
    lowered = name.lower()
    lowered = _PAGE_NAMES.get(lowered, lowered)
    for pattern in _GRAMMAR:
        match = re.fullmatch(_PREFIX + pattern, lowered)
        if match and bool(match["kind"]) == bool(match["c"]):
            return _read(match.groupdict())
    return None


def _read(said: dict[str, str | None]) -> ModelName:
    net, c = str(said["net"]), said["c"]
    args: dict[str, Any] = {
        key: int(said[key] or 0) for key in ("depth", "growth") if said.get(key)
    }
    compression: float | Mapping[str, float] | None = float(c) if c else None
    if net == "mobilenet":
        args["width"] = float(said["width"] or 0)
    elif net == "densenet":
        if args.get("growth") == _IMAGENET_GROWTH.get(args["depth"]):
            args.pop("growth", None)
        elif "growth" in args:
            net = "densenet_cifar"
    elif net in _NUMBERED and c:
        compression = _NUMBERED[net][c]
        if net == "alexnet":
            args["batch_norm"] = True
    return ModelName(net, args, compression, _FAMILIES[said["kind"] or "x"])


def _paper_names() -> Iterator[str]:
    yield from ("VGG16", "X-VGG16-1", "X-VGG16-2", "AlexNet", "X-AlexNet-1", "X-AlexNet-2")
    yield "MobileNet-0.5"
    yield from (f"{kind}-MobileNet-0.5-{c}" for kind in "XG" for c in (2, 4, 8, 16))
    for depth in (18, 34, 50, 101, 152):
        yield from (f"ResNet-{depth}", f"X-ResNet-2-{depth}")
    for depth in _IMAGENET_GROWTH:
        yield from (f"DenseNet-BC-{depth}", f"X-DenseNet-BC-2-{depth}")
    for size, compressions in {
        "100-12": (),
        "100-24": (),
        "40-24": (2,),
        "40-36": (2,),
        "40-48": (2,),
        "40-60": (2,),
        "40-100": (2, 4, 8, 16),
        "40-200": (2, 4, 10, 20, 30, 50, 80),
        "58-60": (2, 4, 8, 16),
        "70-60": (2, 4, 8, 16),
    }.items():
        yield f"DenseNet-BC-{size}"
        yield from (f"X-DenseNet-BC-{c}-{size}" for c in compressions)


PAPER_NAMES = tuple(_paper_names())
