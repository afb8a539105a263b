"""How the paper's networks were trained, row by row.

The paper itself says little; optimizer, schedule, epochs and batch are those that the published
training logs record, and the README's commands where they agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xnets.train._recipe import Recipe

# SGD with momentum and with weight decay on everything, as in all published runs.
_SGD = {"optimizer": "sgd", "momentum": 0.9, "schedule": "step", "decay_all": True}
_CIFAR = {**_SGD, "nesterov": True, "epochs": 300, "flip": True, "shift": 4}
_IMAGENET = {**_SGD, "epochs": 90, "milestones": (1 / 3, 2 / 3), "flip": True}
_EVERY_TENTH = tuple(k / 10 for k in range(1, 10))

_DENSENET_CIFAR = {
    **_CIFAR,
    "milestones": (0.5, 0.75),  # epochs 150 and 225
    "batch_size": 64,
    "lr": 0.1,
    "weight_decay": 1e-4,
}
_VGG_CIFAR = {
    **_CIFAR,
    "milestones": _EVERY_TENTH,  # every 30 epochs
    "gamma": 0.5,
    "min_lr": 5e-4,
    "batch_size": 128,
    "lr": 0.05,
    "weight_decay": 5e-4,
}
_RESNET = {**_IMAGENET, "nesterov": True, "batch_size": 128, "lr": 0.1, "weight_decay": 1e-4}
_MOBILENET = {
    **_IMAGENET,
    "epochs": 150,
    "milestones": _EVERY_TENTH,  # every 15 epochs
    "gamma": 0.316,
    "min_lr": 5e-5,
    "batch_size": 256,
    "lr": 0.1,
    "weight_decay": 4e-5,
}
# No run of an AlexNet was published; these are the values of torchvision's reference training.
_ALEXNET = {**_IMAGENET, "batch_size": 256, "lr": 0.01, "weight_decay": 1e-4}


class Group(NamedTuple):
    """Rows that were trained alike.

    Args:
        dataset: On what.
        models: Their names.
        values: The recipe's fields.
    """

    dataset: str
    models: tuple[str, ...]
    values: dict[str, Any]


def _with_compressed(name: str, sizes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Names of dense networks and of their compressed versions."""
    names = []
    for size, compressions in sizes.items():
        names += [f"{name}-{size}", *(f"X-{name}-{c}-{size}" for c in compressions)]
    return tuple(names)


_DENSENETS = _with_compressed(
    "DenseNet-BC", dict.fromkeys(("40-24", "40-36", "40-48", "40-60"), (2,))
)
_WIDE_AND_DEEP = _with_compressed(
    "DenseNet-BC",
    {
        "100-12": (),
        "100-24": (),
        "40-100": (2, 4, 8, 16),
        "40-200": (2, 4, 10, 20, 30, 50, 80),
        "58-60": (2, 4, 8, 16),
        "70-60": (2, 4, 8, 16),
    },
)
GROUPS = (
    Group("cifar10", ("VGG16", "X-VGG16-1", "X-VGG16-2"), _VGG_CIFAR),
    Group("cifar10", _DENSENETS, _DENSENET_CIFAR),
    Group("cifar100", (*_DENSENETS, *_WIDE_AND_DEEP), _DENSENET_CIFAR),
    Group("imagenet", ("AlexNet", "X-AlexNet-1", "X-AlexNet-2"), _ALEXNET),
    Group(
        "imagenet",
        (
            "MobileNet-0.5",
            *(f"{kind}-MobileNet-0.5-{c}" for kind in "XG" for c in (2, 4, 8, 16)),
        ),
        _MOBILENET,
    ),
    Group(
        "imagenet", _with_compressed("ResNet", dict.fromkeys(("34", "50", "101"), (2,))), _RESNET
    ),
    Group(
        "imagenet",
        _with_compressed("DenseNet-BC", dict.fromkeys(("121", "169", "201", "161"), (2,))),
        _RESNET,
    ),
)


def paper_recipe(group: Group, model: str) -> Recipe:
    """Return the recipe of one row.

    Args:
        group: The rows that it belongs to.
        model: Its network, which says compression and family.

    Returns:
        The recipe, named after data set and network: "cifar10-X-DenseNet-BC-2-40-24".
    """
    return Recipe(
        name=f"{group.dataset}-{model}",
        dataset=group.dataset,
        model=model,
        compression=None,
        family=None,
        **group.values,
    )
