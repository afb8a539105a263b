"""The network that a file's tensors go into: built by name, or the user's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xnets._suggest import unknown_name
from xnets.convert import turn_off_fast_paths
from xnets.files._pattern import StoredLayer, join
from xnets.models import create_model, model_arguments
from xnets.nn import (
    ExpanderConv1d,
    ExpanderConv2d,
    ExpanderConv3d,
    ExpanderLayer,
    ExpanderLinear,
)
from xnets.nn._depthwise import run_depthwise, torch_type

_DENSE: dict[type[ExpanderLayer], type[nn.Module]] = {
    ExpanderLinear: nn.Linear,
    ExpanderConv1d: nn.Conv1d,
    ExpanderConv2d: nn.Conv2d,
    ExpanderConv3d: nn.Conv3d,
}


def build_dense(created_by: Any, num_tensors: int, device: str = "meta") -> nn.Module:
    """Build the dense network that a file names.

    Args:
        created_by: {"name", "args"} from a file; nothing about it is trusted.
        num_tensors: How many tensors the file has. A network of many more is not built.
        device: "meta" costs no memory, whatever sizes the file asks for.

    Returns:
        The network.

    Raises:
        ValueError: If there is no such network.
    """
    if not isinstance(created_by, dict) or not isinstance(created_by.get("name"), str):
        raise ValueError("it does not say which network it is for")
    name, args = created_by["name"], created_by.get("args")
    known = model_arguments(name)
    if not isinstance(args, dict):
        raise ValueError(f"the arguments of its model {name!r:.60} are no object")
    for argument in args:
        if argument not in known:
            raise ValueError(unknown_name(f"argument of model {name!r}:", argument, known))
    try:
        with _few_parameters(4 * num_tensors + 64), torch.device(device), torch.random.fork_rng([]):
            return create_model(name, compression=1, **args)
    except Exception as error:  # sizes may be anything, and fail anywhere
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"its model {name!r:.60} cannot be built: {reason}") from error


@contextmanager
def _few_parameters(limit: int) -> Iterator[None]:
    """Stop this thread from registering more than `limit` parameters."""
    thread, count = threading.get_ident(), 0

    def register(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count > limit:
                raise ValueError("it has far more layers than the file has tensors")

    hook = nn.modules.module.register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        hook.remove()


def fit(
    model: nn.Module, layers: Mapping[str, StoredLayer], state: Mapping[str, Tensor]
) -> nn.Module:
    """Give a network the expander layers of a file, after checking that the file is for it.

    Args:
        model: Changed in place, once everything is checked: where the file has an expander layer
            and the model torch's, the latter is replaced. Nothing is loaded yet.
        layers: The file's expander layers by name.
        state: The state_dict that the file holds.

    Returns:
        The model, or its replacement if it is itself one layer.

    Raises:
        ValueError: If the file is for another network; `model` is unchanged then.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    ours = model.state_dict()
    problems = []
    for name, stored in layers.items():
        problem = _why_not(name, modules.get(name), stored, state)
        problems += [problem] if problem else []
    inside = tuple(join(name, "") for name in layers)
    theirs = {key: value for key, value in state.items() if not _below(key, inside)}
    rest = {key: value for key, value in ours.items() if not _below(key, inside)}
    for key in theirs.keys() | rest.keys():
        if key not in rest or key not in theirs:
            owner = "file" if key in theirs else "model"
            problems.append(f"only the {owner} has {key}")
        elif getattr(rest[key], "shape", None) != theirs[key].shape:
            shapes = [list(getattr(rest[key], "shape", ())), list(theirs[key].shape)]
            problems.append(f"{key} has shape {shapes[1]} in the file, {shapes[0]} in the model")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError("it is for another network: " + "; ".join(sorted(problems)[:3]) + more)
    return _replace(model, modules, layers, state)


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key.startswith(prefix) and "." not in key[len(prefix) :] for prefix in prefixes)


def _why_not(
    name: str, layer: nn.Module | None, stored: StoredLayer, state: Mapping[str, Tensor]
) -> str:
    """Why a layer of the model cannot become the file's; "" if it can."""
    where = name or "the network"
    if torch_type(layer) not in (stored.type, _DENSE[stored.type]):
        have = "nothing" if layer is None else type(layer).__name__
        return f"{where} is {stored.type.__name__} in the file, {have} in the model"
    assert layer is not None
    linear = stored.type is ExpanderLinear
    names = ("in_features", "out_features") if linear else ("in_channels", "out_channels")
    sizes = tuple(getattr(layer, side) for side in names)
    graph = stored.graph
    if sizes != (graph.num_in, graph.num_out):
        return f"{where} is {graph.num_in} -> {graph.num_out} in the file, {sizes} in the model"
    weight, bias = state[join(name, "weight")], state.get(join(name, "bias"))
    kernel = (1,) if linear else tuple(layer.kernel_size)  # type: ignore[arg-type]
    if tuple(weight.shape[1:]) != kernel:
        return f"{where} has kernels {tuple(weight.shape[1:])} in the file, {kernel} in the model"
    if bias is not None and tuple(bias.shape) != (graph.num_out,):
        return f"{where} has a bias of shape {tuple(bias.shape)} for {graph.num_out} outputs"
    replaces = type(layer) is not stored.type
    if (bias is not None) != (layer.bias is not None) and not (bias is None and replaces):
        have = "a bias only in the model" if bias is None else "a bias only in the file"
        return f"{where} has {have}"
    groups = getattr(layer, "groups", 1)
    if groups > 1:
        inputs, outputs = graph.edges().T
        if (inputs // (graph.num_in // groups) != outputs // (graph.num_out // groups)).any():
            return f"{where} has edges in the file that cross the model's {groups} groups"
    return ""


def _replace(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    layers: Mapping[str, StoredLayer],
    state: Mapping[str, Tensor],
) -> nn.Module:
    new: dict[int, ExpanderLayer] = {}
    for name, stored in layers.items():
        old = modules[name]
        if type(old) is stored.type or id(old) in new:
            continue
        layer = stored.type.from_dense(old, graph=stored.graph)  # type: ignore[attr-defined]
        if join(name, "bias") not in state:
            layer.bias = None
        new[id(old)] = layer
    for parent in list(model.modules()):
        for child_name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[child_name] = new[id(child)]
    if new:
        turn_off_fast_paths(model)
        for module in model.modules():
            run_depthwise(module)
    return new.get(id(model), model)
