"""Models by name: a function that builds the dense network, and `create_model` that thins it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

from torch import nn

from xnets._suggest import unknown_name
from xnets.convert import ConversionReport
from xnets.models._checks import check_bool
from xnets.models._names import PAPER_NAMES, ModelName, parse_name
from xnets.models._plan import Plan

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


class _Entry(NamedTuple):
    build: Callable[..., nn.Module]
    plan: Callable[..., Plan]


_MODELS: dict[str, _Entry] = {}


@overload
def register_model(build: Builder) -> Builder: ...


@overload
def register_model(*, plan: Callable[..., Plan]) -> Callable[[Builder], Builder]: ...


def register_model(build: Any = None, *, plan: Callable[..., Plan] | None = None) -> Any:
    """Make a model known to `create_model` under the name of its function.

    Args:
        build: A function that returns the *dense* network. It names every argument it takes, each
            with a default, and takes no `**kwargs`, so that a misspelt one is noticed.
        plan: A function that returns which layers are thinned and how. Its arguments, each with a
            default, are the variants that the plan has; `create_model` takes them beside those of
            `build`.

    Returns:
        The function itself, so this is a decorator, also as `@register_model(plan=...)`.

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
        return partial(register_model, plan=plan)
    plan = plan or _thin_all
    name = build.__name__
    if name in _MODELS:
        raise ValueError(f"a model named {name!r} is registered already")
    parameters = [*_parameters(build).values(), *_parameters(plan).values()]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"model {name!r} must name its arguments, not take `{parameter}`")
        if parameter.default is parameter.empty:
            raise TypeError(f"argument `{parameter.name}` of model {name!r} must have a default")
    _MODELS[name] = _Entry(build, plan)
    return build


def create_model(
    name: str,
    *,
    compression: float | Mapping[str, float] | None = None,
    family: str | None = None,
    block: tuple[int, int] = (1, 1),
    seed: int = 0,
    backend: str = "auto",
    **model_args: Any,
) -> nn.Module:
    """Build a model by name, dense or as an expander network.

    Args:
        name: One of `list_models()`, or any name of the paper's kind: "X-DenseNet-BC-2-40-24" is
            an expander DenseNet-BC of compression 2, depth 40 and growth 24, "G-MobileNet-0.5-8" a
            MobileNet of width 0.5 with 8 groups, "ResNet-50" is dense.
        compression: How many times fewer edges than dense in every layer but the first and last,
            and those that the model wants dense; or a number for each layer by its name, as in
            `xnets.convert`. None takes what the name says; 1 is always the dense network.
        family: One of `xnets.graphs.list_families()`; None takes what the name says, "random" if
            it says nothing.
        block: (b_out, b_in) of the graphs.
        seed: Seed of the graphs. Weights are drawn from torch's global generator, as usual.
        backend: How the expander layers compute; "auto" takes the best that can.
        model_args: Arguments of the model itself, such as `num_classes`, `in_channels`, `width`,
            and variants of its plan: see `model_arguments`.

    Returns:
        The network, in training mode. A warning names layers that were to be thinned and could not.

    Raises:
        ValueError: If the name is unknown, or the layers cannot have such graphs.
        TypeError: If the model takes no argument of such a name, or a value is of a wrong type.

    Examples:
        >>> model = create_model("mlp", compression=4, num_classes=3, width=64)
        >>> sum(p.numel() for p in model.parameters())
        6723
        >>> create_model("convnat")
        Traceback (most recent call last):
        ValueError: unknown model 'convnat'; did you mean 'convnet'? known: alexnet, ...
    """
    known = model_arguments(name)
    spec = _resolve(name)
    build, make_plan = _MODELS[spec.model]
    for argument, value in model_args.items():
        if argument not in known:
            raise TypeError(unknown_name(f"argument of model {name!r}:", argument, known))
        if isinstance(known[argument], bool):
            check_bool(argument, value)
    plan_args = {key: model_args.pop(key) for key in _parameters(make_plan) if key in model_args}
    plan = make_plan(**plan_args)
    if plan.compression and compression not in (None, 1):
        fixed = ", ".join(f"`{key}` (={value!r})" for key, value in plan_args.items())
        raise ValueError(f"{fixed} fixes how much each layer is thinned; leave `compression` out")
    if compression is None:
        compression = plan.compression or spec.compression
    model = build(**spec.args, **model_args)
    # Kept by deepcopy and convert; xnets.save writes it, so that xnets.load can build the model.
    model.created_by = {"name": name, "args": model_args}  # type: ignore[assignment]
    if compression is None or compression == 1:
        return model
    sparse, report = plan.apply(
        model,
        compression,
        family=spec.family if family is None else family,
        block=block,
        seed=seed,
        backend=backend,
    )
    _check_report(name, report, plan)
    return sparse


def model_arguments(name: str) -> dict[str, Any]:
    """The arguments that a model takes, with their defaults.

    Args:
        name: As in `create_model`.

    Returns:
        Default values by name: those of the network, then the variants of its plan. What a name of
        the paper fixes is none.

    Raises:
        ValueError: If the name is unknown.

    Examples:
        >>> model_arguments("X-MobileNet-0.5-8")
        {'in_channels': 3, 'num_classes': 1000, 'as_coded': False, 'thin_from': 2}
    """
    spec = _resolve(name)
    parameters = {
        k: v for function in _MODELS[spec.model] for k, v in _parameters(function).items()
    }
    return {key: value.default for key, value in parameters.items() if key not in spec.args}


def list_models(pattern: str = "*") -> list[str]:
    """The registered models and the paper's networks, sorted.

    `create_model` knows more: the paper's names with other depths, widths and compressions.

    Args:
        pattern: Shell wildcards: `*`, `?`, `[abc]`.

    Returns:
        The names that match, possibly none.

    Examples:
        >>> list_models("conv*")
        ['convnet']
        >>> list_models("X-VGG*")
        ['X-VGG16-1', 'X-VGG16-2']
    """
    return sorted(name for name in (*_MODELS, *PAPER_NAMES) if fnmatchcase(name, pattern))


def _resolve(name: str) -> ModelName:
    if name in _MODELS:
        return ModelName(name, {}, None, "random")
    spec = parse_name(name)
    if spec is None:
        shown = [*sorted(_MODELS), "and the paper's, such as X-ResNet-2-34"]
        raise ValueError(unknown_name("model", name, list_models(), shown))
    return spec


def _check_report(name: str, report: ConversionReport, plan: Plan) -> None:
    """Raise if nothing was thinned, warn if something was not that should have been."""
    refused = [layer for layer in report.refused if plan.thins(layer.name)]
    if not report.converted:
        reasons = dict.fromkeys(layer.reason for layer in refused or report.left)
        raise ValueError(f"no layer of model {name!r} can be thinned so: {'; '.join(reasons)}")
    if refused:
        shown = "; ".join(f"{layer.name}: {layer.reason}" for layer in refused[:3])
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        total = len(refused) + len(report.converted)
        warnings.warn(
            f"{len(refused)} of {total} layers of model {name!r} stay dense: {shown}{more}",
            stacklevel=3,
        )


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _thin_all() -> Plan:
    return Plan()
