"""The recipes by name, each a Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from xnets._errors import asked_by_user
from xnets._suggest import unknown_name
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


@register_recipe
def fashion_mnist() -> Recipe:
    """Zalando's images of clothes, 28 x 28: minutes on a CPU."""
    return Recipe(
        name="fashion-mnist",
        dataset="fashion-mnist",
        model="convnet",
        model_args={"width": 32, "stages": 3, "depth": 2, "stem_stride": 2},
        epochs=8,
        batch_size=128,
        lr=0.01,
        weight_decay=0.02,
        flip=True,
    )


def get_recipe(name: str, **overrides: Any) -> Recipe:
    """Look a recipe up, changed in some fields.

    Args:
        name: One of `list_recipes()`.
        overrides: Fields of `Recipe`. None keeps the recipe's own value.

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
        xnets._errors.UserError: unknown recipe 'digit'; did you mean 'digits'? known: digits, ...
    """
    with asked_by_user():
        if name not in _RECIPES:
            raise ValueError(unknown_name("recipe", name, _RECIPES))
        known = [f.name for f in fields(Recipe)]
        for override in overrides:
            if override not in known:
                raise TypeError(unknown_name("recipe field", override, known))
        given = {key: value for key, value in overrides.items() if value is not None}
        return replace(_RECIPES[name](), **given)


def list_recipes() -> list[str]:
    """The names that `get_recipe` knows.

    Examples:
        >>> list_recipes()
        ['digits', 'fashion-mnist']
    """
    return list(_RECIPES)
