"""Which layers of a model can become expander layers, and why the others are left alone."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from xnets._run_once import run_once
from xnets.nn import ExpanderLayer
from xnets.nn._depthwise import torch_type

Dense = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
EXCLUDED = "excluded by `where`"
NOT_NAMED = "not named in `compression`"
FIRST, LAST, DEPTHWISE = "first layer", "last layer", "depthwise"
# What somebody chose, or what lies in the layer's purpose; every other reason is a refusal.
INTENDED = (EXCLUDED, NOT_NAMED, FIRST, LAST, DEPTHWISE)
_FUSED = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def check_model(model: Any) -> None:
    """Raise unless `model` is a module that can be copied with some layers exchanged."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    wrapped = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.jit.ScriptModule)
    if isinstance(model, wrapped) or hasattr(model, "_orig_mod"):
        raise TypeError(
            f"`model` is a {type(model).__name__}: convert the model first, then wrap, script or "
            "compile it"
        )


def find_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All layers that own a matrix of weights, in order of registration.

    That is linear layers, convolutions, expander layers, and any module without children (or
    attention) that has a parameter of two or more dimensions.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        is_leaf = not any(True for _ in module.children())
        parameters = [p for p in module._parameters.values() if p is not None and not is_lazy(p)]
        owns_matrix = any(p.dim() > 1 for p in parameters)
        if (
            isinstance(module, (*DENSE, ExpanderLayer))
            or (owns_matrix and (is_leaf or isinstance(module, nn.MultiheadAttention)))
            or "quantized" in type(module).__module__
        ):
            yield name, module


def find_ends(model: nn.Module, layers: list[nn.Module], example_input: Any) -> dict[int, str]:
    """The first and the last of torch's layers, by id, with the reason to leave them alone.

    Args:
        model: The model.
        layers: All its layers, in order of registration, which decides without an example.
        example_input: Run the model on this to find the order of execution, unless None.
    """
    order = [layer for layer in layers if isinstance(layer, DENSE)]
    if example_input is not None:
        order = _execution_order(model, order, example_input) or order
    if not order or order == [model]:
        return {}
    return {id(order[-1]): LAST, id(order[0]): FIRST}


def _execution_order(model: nn.Module, layers: list[Dense], example_input: Any) -> list[Dense]:
    called: list[Dense] = []
    hooks = [layer.register_forward_pre_hook(lambda m, _: called.append(m)) for layer in layers]
    try:
        run_once(model, example_input)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def tied_weights(model: nn.Module) -> dict[int, str]:
    """For each module whose weight another module holds too: the reason to leave it alone."""
    holders: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append((name, module))
    return {
        id(module): f"its parameters are tied to {other!r}"
        for shared in holders.values()
        for _, module in shared
        for other, holder in shared
        if holder is not module
    }


def weights_read_by_parents(model: nn.Module) -> dict[int, str]:
    """For each layer whose weight its parent's code reads: the reason to leave it alone.

    A parent that passes `self.child.weight` to a function, as torchvision's Swin does, expects the
    dense shape. Its methods' bytecode shows it; initialisation does not count.
    """
    reasons = {}
    for parent in model.modules():
        if isinstance(parent, _FUSED):  # reads them only on a fast path, which convert turns off
            continue
        read = _weights_read(type(parent))  # type: ignore[arg-type]
        for child_name, child in parent.named_children():
            if child_name in read:
                reasons[id(child)] = f"{type(parent).__name__} reads its weight directly"
    return reasons


@cache
def _weights_read(parent: type[nn.Module]) -> frozenset[str]:
    """The names n for which a method of a class reads self.n.weight, but for its dtype or so."""
    names = set()
    for cls in parent.__mro__:
        if cls is nn.Module:
            break
        for name, member in vars(cls).items():
            if not name.lstrip("_").startswith(("init", "reset")):
                for code in _codes(member):
                    names |= _weights_read_by(code)
    return frozenset(names)


def _codes(member: Any) -> Iterator[CodeType]:
    """The code of a method, seen through decorators and properties, and of functions in it."""
    if isinstance(member, property):
        member = member.fget
    member = inspect.unwrap(getattr(member, "__func__", member))
    todo = [getattr(member, "__code__", None)]
    while todo:
        code = todo.pop()
        if isinstance(code, CodeType):
            yield code
            todo.extend(code.co_consts)


def _weights_read_by(code: CodeType) -> set[str]:
    steps = [step.argval for step in dis.get_instructions(code) if step.opname != "CACHE"]
    harmless = ("dtype", "device", "shape", "ndim", "requires_grad", "is_cuda")
    return {
        child
        for child, attribute, then in zip(steps, steps[1:], [*steps[2:], None], strict=False)
        if attribute == "weight" and isinstance(child, str) and then not in harmless
    }


def why_leave(layer: nn.Module, compression: float) -> str:
    """Why a layer cannot be converted whatever the graph; "" if it can."""
    kind = torch_type(layer)
    if isinstance(layer, ExpanderLayer):
        return "already an expander layer"
    if not isinstance(layer, DENSE):
        return f"{kind.__name__} has no expander version"
    if kind.__name__.startswith("Lazy"):
        return "it has no weight yet: run the model once first"
    if "weight" not in layer._parameters or "bias" not in layer._parameters:
        return "its weight is computed from other parameters (pruned or reparametrised)"
    if kind not in DENSE:
        base = next(base for base in DENSE if isinstance(layer, base))
        return f"{kind.__name__} is not torch's own {base.__name__} and may compute something else"
    if "forward" in vars(layer):
        return "its forward was replaced"
    if len(layer._parameters) > 2 or layer._buffers or layer._modules:
        return "it has parameters, buffers or children of its own besides weight and bias"
    if any(p is not None and p._backward_hooks for p in layer._parameters.values()):
        return "its parameters have hooks, which expect the dense shape"
    groups = getattr(layer, "groups", 1)
    if groups > 1:
        return DEPTHWISE if groups == layer.in_channels else f"grouped (groups={groups})"
    num_in = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    if num_in < compression:
        return f"too small: {num_in} inputs are fewer than the compression"
    return ""


def layer_size(layer: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of a layer's weight; None where it has no such two numbers."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, DENSE[1:]):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, ExpanderLayer):
        return layer.num_in, layer.num_out
    return None


@cache
def _plain_names(kind: type[nn.Module]) -> frozenset[str]:
    sizes = {"in_features": 1, "out_features": 1}
    if kind is not nn.Linear:
        sizes = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}
    return frozenset(vars(kind(**sizes)))


def extra_attributes(layer: nn.Module) -> dict[str, Any]:
    """What a user has set on one of torch's layers besides what torch has."""
    plain = _plain_names(type(layer))  # type: ignore[arg-type]
    return {name: value for name, value in vars(layer).items() if name not in plain}
