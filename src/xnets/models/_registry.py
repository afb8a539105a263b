"""Models by name: a function that builds the dense network, and `create_model` that thins it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

from torch import nn

from xnets._suggest import unknown_name
from xnets.convert import convert

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])
Where = Callable[[str, nn.Module], bool]


class _Entry(NamedTuple):
    build: Callable[..., nn.Module]
    where: Where | None


_MODELS: dict[str, _Entry] = {}


@overload
def register_model(build: Builder) -> Builder: ...


@overload
def register_model(*, where: Where) -> Callable[[Builder], Builder]: ...


def register_model(build: Any = None, *, where: Where | None = None) -> Any:
    """Make a model known to `create_model` under the name of its function.

    Args:
        build: A function that returns the *dense* network. It names every argument it takes, each
            with a default, and takes no `**kwargs`, so that a misspelt one is noticed.
        where: Which layers `compression` thins, beside the rule that the first and last stay dense:
            as in `xnets.convert`, called with a layer's name and module.

    Returns:
        The function itself, so this is a decorator, also as `@register_model(where=...)`.

    Raises:
        ValueError: If the name is taken.
        TypeError: If the function takes `*args` or `**kwargs`, or an argument without a default.

    Examples:
        >>> @register_model
        ... def perceptron(num_in: int = 4, num_classes: int = 2) -> nn.Module:
        ...     return nn.Linear(num_in, num_classes)
        >>> create_model("perceptron", num_in=3)
        Linear(in_features=3, out_features=2, bias=True)
        >>> del _MODELS["perceptron"]
    """
    if build is None:
        return partial(register_model, where=where)
    name = build.__name__
    if name in _MODELS:
        raise ValueError(f"a model named {name!r} is registered already")
    for parameter in inspect.signature(build).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"model {name!r} must name its arguments, not take `{parameter}`")
        if parameter.default is parameter.empty:
            raise TypeError(f"argument `{parameter.name}` of model {name!r} must have a default")
    _MODELS[name] = _Entry(build, where)
    return build


def create_model(
    name: str,
    *,
    compression: float | None = None,
    family: str = "random",
    block: tuple[int, int] = (1, 1),
    seed: int = 0,
    backend: str = "auto",
    **model_args: Any,
) -> nn.Module:
    """Build a model by name, dense or as an expander network.

    Args:
        name: One of `list_models()`.
        compression: How many times fewer edges than dense in every layer but the first and last,
            and those that the model wants dense; None or 1 builds the dense network.
        family: One of `xnets.graphs.list_families()`.
        block: (b_out, b_in) of the graphs.
        seed: Seed of the graphs. Weights are drawn from torch's global generator, as usual.
        backend: How the expander layers compute; "auto" takes the best that can.
        model_args: Arguments of the model itself, such as `num_classes`, `in_channels`, `width`.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: If the name is unknown, or the layers cannot have such graphs.
        TypeError: If the model takes no argument of such a name.

    Examples:
        >>> model = create_model("mlp", compression=4, num_classes=3, width=64)
        >>> sum(p.numel() for p in model.parameters())
        6723
        >>> create_model("convnat")
        Traceback (most recent call last):
        ValueError: unknown model 'convnat'; did you mean 'convnet'? known: convnet, ...
    """
    known = model_arguments(name)
    build, where = _MODELS[name]
    for argument in model_args:
        if argument not in known:
            raise TypeError(unknown_name(f"argument of model {name!r}:", argument, known))
    model = build(**model_args)
    if compression is None or compression == 1:
        return model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="xnets.convert: no layer was converted")
        sparse, report = convert(
            model,
            compression=compression,
            family=family,
            block=block,
            where=where,
            seed=seed,
            backend=backend,
        )
    if not report.converted:
        reasons = dict.fromkeys(layer.reason for layer in report.left[1:-1] or report.left)
        raise ValueError(f"no layer of model {name!r} can be thinned so: {'; '.join(reasons)}")
    return sparse


def model_arguments(name: str) -> dict[str, Any]:
    """The arguments that a registered model takes, with their defaults.

    Args:
        name: One of `list_models()`.

    Returns:
        Default values by name.

    Raises:
        ValueError: If the name is unknown.

    Examples:
        >>> model_arguments("mlp")["image_size"]
        8
    """
    if name not in _MODELS:
        raise ValueError(unknown_name("model", name, list_models()))
    parameters = inspect.signature(_MODELS[name].build).parameters
    return {argument: parameter.default for argument, parameter in parameters.items()}


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` knows, sorted.

    Args:
        pattern: Shell wildcards: `*`, `?`, `[abc]`.

    Returns:
        The names that match, possibly none.

    Examples:
        >>> list_models("conv*")
        ['convnet']
    """
    return sorted(name for name in _MODELS if fnmatchcase(name, pattern))
