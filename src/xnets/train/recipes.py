"""The recipes by name, each a Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

from xnets._errors import asked_by_user
from xnets._suggest import unknown_name
from xnets.models._names import parse_name
from xnets.train._paper_recipes import GROUPS, paper_recipe
from xnets.train._recipe import Recipe

_RECIPES: dict[str, Callable[[], Recipe]] = {}


def register_recipe(build: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Make a recipe known to `get_recipe`, under the name that it gives itself.

    Args:
        build: A function without arguments that returns the recipe.

    Returns:
        The function itself, so this is a decorator.

    Raises:
        ValueError: If the name is taken.

    Examples:
        >>> @register_recipe
        ... def mine() -> Recipe:
        ...     return replace(get_recipe("digits"), name="mine", epochs=5)
        >>> get_recipe("mine").epochs
        5
        >>> del _RECIPES["mine"]  # for the other examples
    """
    name = build().name
    if name in _RECIPES:
        raise ValueError(f"a recipe named {name!r} is registered already")
    _RECIPES[name] = build
    return build


@register_recipe
def digits() -> Recipe:
    """The handwritten digits of scikit-learn, 8 x 8: seconds on a CPU."""
    return Recipe(
        name="digits",
        dataset="digits",
        model="convnet",
        model_args={"width": 32, "stages": 2, "depth": 2},
        epochs=30,
        batch_size=64,
        lr=0.01,
        weight_decay=0.02,
        shift=1,
        # So small a net gains nothing from a second thread, and waits for it on a busy machine.
        threads=1,
    )


def _clothes(name: str, dataset: str, epochs: int, threads: int | None, **sizes: int) -> Recipe:
    return Recipe(
        name=name,
        dataset=dataset,
        model="convnet",
        model_args=sizes,
        epochs=epochs,
        batch_size=128,
        lr=0.01,
        weight_decay=0.02,
        flip=True,
        threads=threads,
    )


@register_recipe
def fashion_mnist() -> Recipe:
    """Zalando's images of clothes, 28 x 28: minutes on a CPU."""
    name = "fashion-mnist"
    return _clothes(name, name, 8, None, width=32, stages=3, depth=2, stem_stride=2)


@register_recipe
def fashion_mnist_deep() -> Recipe:
    """Fashion-MNIST on a narrow, deep net, where thin layers can starve: half a minute on a CPU."""
    sizes = {"width": 16, "stages": 2, "depth": 4, "stem_stride": 4}
    return _clothes("fashion-mnist-deep", "fashion-mnist", 2, 1, **sizes)


@register_recipe
def fashion_mnist_alike() -> Recipe:
    """Which of four images are alike: the first layer keeps them apart, the others must join them.

    See `xnets.train.data._alike`.
    """
    sizes = {"width": 32, "stages": 1, "depth": 5, "stem_stride": 4, "stem_groups": 4}
    return _clothes("fashion-mnist-alike", "fashion-mnist-alike", 2, 1, **sizes)


def modern(name: str, dataset: str, model: str, **values: Any) -> Recipe:
    """What became usual after the paper, for any data set and network.

    Cosine schedule after a short rise, label smoothing, a moving average of the weights, automatic
    mixed precision, and no weight decay on biases and batch norms.

    Args:
        name: Of the recipe.
        dataset: What to train on.
        model: What to train.
        values: Other fields of the recipe.

    Returns:
        The recipe.

    Examples:
        >>> modern("mine", "digits", "convnet", epochs=5).schedule
        'cosine'
    """
    usual: dict[str, Any] = {
        "compression": None,
        "family": None,
        "epochs": 100,
        "batch_size": 256,
        "precision": "bf16-mixed",
        "optimizer": "sgd",
        "nesterov": True,
        "lr": 0.2,
        "schedule": "cosine",
        "warmup": 0.05,
        "weight_decay": 1e-4,
        "label_smoothing": 0.1,
        "ema": 0.999,
        "flip": True,
    }
    return Recipe(name=name, dataset=dataset, model=model, **{**usual, **values})


@register_recipe
def cifar10_modern() -> Recipe:
    """CIFAR-10 as one would train it today."""
    values = {"batch_size": 128, "shift": 4, "fill": "reflect", "weight_decay": 5e-4}
    return modern("cifar10-modern", "cifar10", "X-DenseNet-BC-2-40-24", **values)


@register_recipe
def imagenet_modern() -> Recipe:
    """ImageNet as one would train it today."""
    return modern("imagenet-modern", "imagenet", "X-ResNet-2-50")


@register_recipe
def image_folder() -> Recipe:
    """Any folder of images, with train/CLASS/ and val/CLASS/ inside."""
    return modern("image-folder", "image-folder", "X-ResNet-2-18", batch_size=64, lr=0.05)


@register_recipe
def tu_berlin() -> Recipe:
    """Sketches by hand."""
    return modern("tu-berlin", "tu-berlin", "X-ResNet-2-18", batch_size=64, lr=0.05)


for _group in GROUPS:
    for _model in _group.models:
        _RECIPES[f"{_group.dataset}-{_model}"] = partial(paper_recipe, _group, _model)


def get_recipe(name: str, **overrides: Any) -> Recipe:
    """Look a recipe up, changed in some fields.

    Args:
        name: One of `list_recipes()`.
        overrides: Fields of `Recipe`. None keeps the recipe's own value. Another model brings its
            own arguments and, if its name says them, compression and family.

    Returns:
        The recipe.

    Raises:
        ValueError: If the name is unknown, or a value out of range.
        TypeError: If there is no such field.

    Examples:
        >>> get_recipe("digits", epochs=1, compression=None).epochs
        1
        >>> get_recipe("digit")
        Traceback (most recent call last):
        xnets._errors.UserError: unknown recipe 'digit'; did you mean 'digits'? known: ...
    """
    with asked_by_user():
        if name not in _RECIPES:
            raise ValueError(unknown_name("recipe", name, _RECIPES))
        known = [f.name for f in fields(Recipe)]
        for override in overrides:
            if override not in known:
                raise TypeError(unknown_name("recipe field", override, known))
        given = {key: value for key, value in overrides.items() if value is not None}
        return replace(_RECIPES[name](), **{**_implied(given), **given})


def _implied(given: dict[str, Any]) -> dict[str, Any]:
    """What changes with another model."""
    if "model" not in given:
        return {}
    says = {"compression": None, "family": None} if parse_name(given["model"]) else {}
    return {"model_args": {}, **says}


def list_recipes() -> list[str]:
    """The names that `get_recipe` knows: small ones, modern ones, then every row of the paper.

    Returns:
        The names.

    Examples:
        >>> list_recipes()[:2]
        ['digits', 'fashion-mnist']
        >>> "imagenet-G-MobileNet-0.5-8" in list_recipes()
        True
    """
    return list(_RECIPES)
