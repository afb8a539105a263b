"""Recipes changed on the command line, beyond what has an option of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from xnets._errors import asked_by_user
from xnets._settings import read_settings
from xnets._suggest import unknown_name
from xnets.train._recipe import Recipe, model_settings

# A recipe is found by its name, and the arguments of its model are set one by one.
_NEVER = ("name", "model_args")


def change_recipe(
    recipe: Recipe, settings: Sequence[str], options: Mapping[str, str] | None = None
) -> Recipe:
    """Set fields of a recipe and arguments of its model, by name.

    Args:
        recipe: What to change.
        settings: Each NAME=VALUE; see `xnets._settings.read_settings`. A name that both have is the
            recipe's.
        options: The option of each field that has one, and so is refused here.

    Returns:
        The changed recipe.

    Raises:
        ValueError: If a name is unknown or has an option, or a value is out of range or of a wrong
            type.

    Examples:
        >>> from xnets.train import get_recipe
        >>> changed = change_recipe(get_recipe("digits"), ["weight_decay=0.1", "width=16"])
        >>> changed.weight_decay, changed.model_args
        (0.1, {'width': 16, 'stages': 2, 'depth': 2})
        >>> change_recipe(changed, ["widht=8"])
        Traceback (most recent call last):
        xnets._errors.UserError: unknown setting 'widht'; did you mean 'width'? known: ...
    """
    options = options or {}
    with asked_by_user():
        values = read_settings(settings)
        of_recipe = [f.name for f in fields(Recipe) if f.name not in _NEVER]
        of_model = [name for name in model_settings(recipe.model) if name not in of_recipe]
        known = [*of_model, *(name for name in of_recipe if name not in options)]
        for name, value in values.items():
            if name in options:
                raise ValueError(
                    f"`set` (={name}={value}): `{name}` has an option, give {options[name]}"
                )
            if name not in known:
                raise ValueError(unknown_name("setting", name, known))
        own = {name: value for name, value in values.items() if name in of_recipe}
        args = {name: value for name, value in values.items() if name in of_model}
        return replace(recipe, **own, model_args={**recipe.model_args, **args})
