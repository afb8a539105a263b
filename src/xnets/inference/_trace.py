"""A model's operations, found by torch.export; expander layers stay whole.

A copy of the model is traced in which every expander layer calls one operator, `xnets::traced`,
that carries the layer's name: so its weights and graph are found again in the trace. The copy
shares the model's memory. Batch norms are an operator of ours, too, as torch.export takes most of
its time to find the shape of what torch's returns.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from xnets._errors import UserError
from xnets.inference._borrowed import aliases
from xnets.nn import ExpanderLayer

_LIBRARY = torch.library.Library("xnets", "FRAGMENT")
_LIBRARY.define(
    "traced(Tensor x, str layer, int num_out, int[] kernel, int[] stride, int[] padding,"
    " int[] dilation) -> Tensor"
)
_LIBRARY.define(
    "traced_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor var, float eps)"
    " -> Tensor"
)


def _fake(
    x: Tensor,
    layer: str,
    num_out: int,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    if not stride:
        return x.new_empty([*x.shape[:-1], num_out])
    size = [
        (i + 2 * p - d * (k - 1) - 1) // s + 1
        for i, k, s, p, d in zip(
            x.shape[-len(kernel) :], kernel, stride, padding, dilation, strict=True
        )
    ]
    return x.new_empty([*x.shape[: -len(kernel) - 1], num_out, *size])


def _norm(x: Tensor, weight: Any, bias: Any, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, eps=eps)


torch.library.register_fake("xnets::traced", _fake, lib=_LIBRARY)
torch.library.register_fake("xnets::traced_norm", lambda x, *_: torch.empty_like(x), lib=_LIBRARY)
_LIBRARY.impl("traced_norm", _norm, "CompositeExplicitAutograd")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class CannotOptimizeError(UserError, ValueError):
    """The model, or this input, is not one that can be optimised."""


@dataclass
class Traced:
    """What torch.export found.

    Args:
        program: Of torch.export.
        layers: The expander layers by name.
        dynamic: Whether the first size of the inputs may vary.
    """

    program: torch.export.ExportedProgram
    layers: dict[str, ExpanderLayer]
    dynamic: bool

    @property
    def constants(self) -> dict[str, Tensor]:
        """Parameters, buffers and other tensors by the name of their placeholder."""
        signature = self.program.graph_signature
        found: dict[str, Tensor] = {}
        for spec in signature.input_specs:
            if spec.target is None:
                continue
            tensor = self.program.state_dict.get(spec.target)
            if tensor is None:
                tensor = self.program.constants.get(spec.target)
            if isinstance(tensor, Tensor):
                found[spec.arg.name] = tensor.detach()
        return found


def prepare(model: nn.Module) -> nn.Module:
    """A copy of a model in eval mode whose expander layers are operators of their own.

    Args:
        model: Any module; it is not changed.

    Returns:
        The copy, whose parameters and buffers share memory with the model's.
    """
    copied = copy.deepcopy(model, aliases(model)).eval().requires_grad_(False)
    for name, layer in copied.named_modules():
        # Weakly: a layer that holds itself would stay until a collection of garbage.
        if isinstance(layer, ExpanderLayer):
            layer.forward = partial(_leaf, weakref.proxy(layer), name)  # type: ignore[method-assign]
        elif type(layer) in _NORMS and layer.running_mean is not None:
            layer.forward = partial(_norm_leaf, weakref.proxy(layer))  # type: ignore[method-assign]
    return copied


def _leaf(layer: Any, name: str, input: Tensor) -> Tensor:
    operator = torch.ops.xnets.traced
    if not hasattr(layer, "spatial"):
        y: Tensor = operator(input, name, layer.num_out, [], [], [], [])
        return y
    if layer._pad_first:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        input = F.pad(input, layer._pad_first, mode)
    geometry = (layer.kernel_size, layer.stride, layer._op_padding, layer.dilation)
    y = operator(input, name, layer.num_out, *map(list, geometry))
    return y


def _norm_leaf(layer: Any, input: Tensor) -> Tensor:
    layer._check_input_dim(input)
    statistics = (layer.running_mean, layer.running_var)
    y: Tensor = torch.ops.xnets.traced_norm(input, layer.weight, layer.bias, *statistics, layer.eps)
    return y


def trace(prepared: nn.Module, arguments: Sequence[Any], *, dynamic: bool) -> Traced:
    """Export a prepared model.

    Args:
        prepared: What `prepare` returned.
        arguments: The model's arguments.
        dynamic: Whether to let the first size of every tensor vary. If the model fixes it, another
            trace is needed for another size.

    Returns:
        The trace.

    Raises:
        CannotOptimizeError: If torch.export cannot follow the model.
    """
    layers = {n: m for n, m in prepared.named_modules() if isinstance(m, ExpanderLayer)}
    if dynamic:
        try:
            return Traced(_export(prepared, *_with_any_batch(arguments)), layers, dynamic=True)
        except Exception:  # not with any batch: so with this one, whose error is clearer
            pass
    try:
        return Traced(_export(prepared, tuple(arguments), None), layers, dynamic=False)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise CannotOptimizeError(
            "`model` cannot be traced on this input: first run `model(example_input)`; if that "
            "works, the model decides by values of tensors what to compute (an `if` on a tensor, "
            f"`.item()`), and that part must stay outside. torch.export says: {reason[:300]}"
        ) from error


def functional(traced: Traced) -> Traced:
    """The same without operations that write into their arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = traced.program.run_decompositions({})
    return Traced(program, traced.layers, traced.dynamic)


def _export(model: nn.Module, arguments: tuple[Any, ...], shapes: Any) -> Any:
    with warnings.catch_warnings(), torch.no_grad(), _no_collection():
        warnings.simplefilter("ignore")
        return torch.export.export(model, arguments, dynamic_shapes=shapes, strict=False)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without searches for garbage: tracing makes many objects, nearly all of which stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _with_any_batch(arguments: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
    """Arguments of a batch of at least two (one would be a constant), and what may vary."""
    double: Callable[[Any], Any] = lambda t: torch.cat([t, t]) if len(t) == 1 else t  # noqa: E731
    varies = lambda a: isinstance(a, Tensor) and a.dim() > 0  # noqa: E731
    doubled = pytree.tree_map(lambda a: double(a) if varies(a) else a, tuple(arguments))
    auto = torch.export.Dim.AUTO
    shapes = pytree.tree_map(lambda a: {0: auto} if varies(a) else None, tuple(arguments))
    return doubled, shapes
