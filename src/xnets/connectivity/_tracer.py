"""The mode under which a model runs while its units are traced."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from xnets.connectivity._graph import NOTHING, IntArray, UnitGraph
from xnets.connectivity._rules import OpCall, find_rule, in_memory
from xnets.connectivity._sets import (
    Edges,
    Ids,
    TooManyKinds,
    compress,
    constant,
    contract,
    join_positions,
    per_unit,
    pointwise,
    reduce,
)
from xnets.connectivity._weights import convolve, weigh
from xnets.nn import ExpanderLayer


@dataclass(frozen=True)
class Assumption:
    """An operation that connectivity did not follow exactly.

    Args:
        op: The operation.
        where: Name of the module that called it; "" for the model itself.
        why: What was assumed.
    """

    op: str
    where: str
    why: str


@dataclass(frozen=True)
class TracedLayer:
    """One product with weights.

    Args:
        name: Name of the module that computed it, with "#2" for its second product.
        kind: Class of that module.
        inputs: Units of the input, each once, shape (units, kinds of positions).
        units: Units of the output, shape (channels, kinds of positions).
        fan_in: Input units that each output unit reads, (fewest, most).
    """

    name: str
    kind: str
    inputs: IntArray
    units: IntArray
    fan_in: tuple[int, int]

    @property
    def is_sparse(self) -> bool:
        """Whether it mixes, but its units do not read all its inputs."""
        is_expander = self.kind.startswith("Expander")
        return (self.fan_in[0] > 1 or is_expander) and self.fan_in[0] < len(self.inputs)


class Tracer(TorchDispatchMode):
    """Sees every operation of a run and carries the ids of units along.

    Args:
        norms_mix: Whether the statistics of layer and group norms connect what they are taken over.
        ignore_zeros: Whether a weight of exactly zero is no connection.
    """

    def __init__(self, *, norms_mix: bool, ignore_zeros: bool) -> None:
        super().__init__()
        self.norms_mix = norms_mix
        self.ignore_zeros = ignore_zeros
        self.graph = UnitGraph()
        self.layers: list[TracedLayer] = []
        self.assumptions: list[Assumption] = []
        self._ids: Any = WeakIdKeyDictionary()
        self._aliases: dict[int, list[weakref.ref[Tensor]]] = {}
        self._running: list[tuple[str, str]] = []
        self._calls: dict[str, int] = {}
        self._inside_layer: list[Ids] = []

    # --- what rules use --------------------------------------------------------------------------

    def ids_of(self, value: Any) -> Ids | None:
        """The ids of a tensor, or None if no source reaches it."""
        return self._ids.get(value) if isinstance(value, Tensor) else None

    def note(self, tensor: Tensor, ids: Ids) -> None:
        """Remember the ids of a tensor."""
        if bool((ids == NOTHING).all()):
            self._ids.pop(tensor, None)
        else:
            self._ids[tensor] = ids

    def assume(self, op: str, why: str) -> None:
        """Say that an operation of the running module was not followed exactly."""
        where = self._running[-1][0] if self._running else ""
        self.assumptions.append(Assumption(op, where, why))

    def layer(self, seen: Ids, dims: tuple[int, ...], edges: Edges, source: tuple[Ids, int]) -> Ids:
        """Add a layer of new units.

        Args:
            seen: Ids of what the weights are applied to.
            dims: The dimensions that they contract.
            edges: See `contract`.
            source: Ids of the input, and its channel dimension.

        Returns:
            Ids with the new units along the last dimension.
        """
        try:
            out = contract(self.graph, seen, dims, edges)
        except TooManyKinds:
            self.assume("positions", "joins all positions of a channel")
            channel = dims[0]
            one = join_positions(self.graph, seen, channel)
            if len(dims) > 1:  # the window of a convolution
                one = one.expand(*[-1] * (one.dim() - 1), seen.shape[-1])
            out = contract(self.graph, one, dims, edges)
        name, kind = self._running[-1] if self._running else ("", "model")
        self._calls[name] = self._calls.get(name, 0) + 1
        if self._calls[name] > 1:
            name = f"{name}#{self._calls[name]}"
        units = per_unit(out, out.dim() - 1)
        inputs = np.unique(per_unit(*source), axis=0)
        inputs = inputs[(inputs != NOTHING).any(axis=1)]
        fan_in = self.graph.joins[-1].fan_in.reshape(-1, len(edges[2])).max(axis=0)
        limits = int(fan_in.min(initial=len(inputs))), int(fan_in.max(initial=0))
        self.layers.append(TracedLayer(name, kind, inputs, units, limits))
        return out

    # --- operations ------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside_layer:
            return func(*args, **kwargs)
        written = _written(func, args, kwargs)
        call = OpCall(self, func, _name(func), args, kwargs)
        reached = bool(call.tracked())
        rule = find_rule(func, call.name) if reached else None
        if reached and rule is None and not written:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if call.name == "copy" and written:  # what is overwritten does not matter
            call = OpCall(self, func, "copy", args[1:], {})
            reached = bool(call.tracked())
        ids = self._apply(call, rule) if reached else None
        result = func(*args, **kwargs)
        outputs = [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]
        if ids is None:
            for output in outputs:
                self._assign(output, constant(output.shape), written)
        else:
            self._assign_all(call, outputs, ids, written)
        if reached and not outputs and call.name in ("_local_scalar_dense", "equal"):
            self.assume(call.name, "a value is read into Python: what follows from it is not seen")
        return result

    def _apply(self, call: OpCall, rule: Any) -> Any:
        if call.name == "_local_scalar_dense":
            return None
        values = pytree.tree_leaves((call.args[1:], call.kwargs))
        if rule is None and _makes_new(call.func) and all(self.ids_of(v) is None for v in values):
            return None
        if rule is not None:
            try:
                return rule(call)
            except (NotImplementedError, RuntimeError, TooManyKinds):
                pass
        return "everything"

    def _assign_all(
        self, call: OpCall, outputs: list[Tensor], ids: Any, written: list[Tensor]
    ) -> None:
        for index, output in enumerate(outputs):
            one = ids[index] if isinstance(ids, (list, tuple)) else ids
            if not isinstance(one, Tensor):
                self.assume(call.name, "mixes everything")
                one = self._everything(call, output)
            elif not _describes(one, output):  # the statistics that a norm returns beside
                one = self._everything(call, output)
            self._assign(
                output, one.view([1] * (output.dim() - one.dim()) + list(one.shape)), written
            )

    def _everything(self, call: OpCall, output: Tensor) -> Ids:
        """Ids of a result that is assumed to read all that goes in."""
        parts = [call.ids(t) for t in call.tracked()]
        parts = [reduce(self.graph, p, range(p.dim())).reshape(()) for p in parts]
        return pointwise(self.graph, parts).view([1] * output.dim())

    def _assign(self, tensor: Tensor, ids: Ids, written: Sequence[Tensor]) -> None:
        """Set the ids of a result, and of all that shares the memory that was written to."""
        if tensor.layout != torch.strided or tensor.is_meta:
            self.note(tensor, ids)
            return
        key = tensor.untyped_storage()._cdata
        aliases = [t for t in (ref() for ref in self._aliases.get(key, [])) if t is not None]
        others = [t for t in aliases if t is not tensor and t.dtype == tensor.dtype]
        if others and any(tensor is t for t in written):
            self._write_through(tensor, ids, others)
        self.note(tensor, ids)
        if not any(t is tensor for t in aliases):
            aliases.append(tensor)
        self._aliases[key] = [weakref.ref(t) for t in aliases]

    def _write_through(self, tensor: Tensor, ids: Ids, others: list[Tensor]) -> None:
        memory = in_memory(tensor, constant(tensor.shape))
        for alias in others:
            known = self.ids_of(alias)
            if known is not None:
                in_memory(alias, known, memory)
        in_memory(tensor, ids, memory)
        for alias in others:
            place = memory.as_strided(alias.shape, alias.stride(), alias.storage_offset())
            self.note(alias, compress(place))

    # --- modules ---------------------------------------------------------------------------------

    def watch(self, model: nn.Module) -> list[Any]:
        """Follow which module runs; expander layers are one operation, whatever computes them."""
        hooks = []
        for name, module in model.named_modules():

            def enter(m: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                self._running.append((name, type(m).__name__))
                if isinstance(m, ExpanderLayer) and not self._inside_layer:
                    (image,) = [*args, *kwargs.values()][:1]
                    known = self.ids_of(image)
                    self._inside_layer.append(constant(image.shape) if known is None else known)

            def leave(m: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                if isinstance(m, ExpanderLayer):
                    (image,) = [*args, *kwargs.values()][:1]
                    self.note(output, self._expander(m, self._inside_layer[-1], image.shape))
                    self._inside_layer.pop()  # only now: what stands above is not the model's
                self._running.pop()

            hooks.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
            hooks.append(module.register_forward_hook(leave, with_kwargs=True))
        return hooks

    def _expander(self, layer: ExpanderLayer, ids: Ids, size: Sequence[int]) -> Ids:
        inputs, outputs = layer.graph.edges().T
        if self.ignore_zeros:
            kept = (layer.weight.detach() != 0).flatten(1).any(1).cpu().numpy()
            inputs, outputs = inputs[kept], outputs[kept]
        edges = outputs, inputs, np.arange(layer.num_out)
        spatial = getattr(layer, "spatial", 0)
        if not spatial:
            return weigh(self, ids, size, len(size) - 1, edges)
        conv: Any = layer
        geometry = (conv.kernel_size, conv.stride, conv._op_padding, conv.dilation)
        plain = not conv._pad_first  # else there is other padding than zeros, or on one side
        return convolve(self, ids, size, edges, spatial, geometry if plain else None)


def _name(func: Any) -> str:
    """The name of an operation without its namespace and the underscore of in-place versions."""
    full_name: str = func._schema.name
    name = full_name.removeprefix("aten::")
    return full_name if "::" in name else name.removesuffix("_")


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments that the operation writes to."""
    found = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = (
                args[position]
                if position < len(args) and not argument.kwarg_only
                else kwargs.get(argument.name)
            )
            found += [t for t in pytree.tree_leaves(value) if isinstance(t, Tensor)]
    return found


def _makes_new(func: Any) -> bool:
    """Whether the operation makes a tensor whose values no argument decides."""
    name = func._schema.name.removeprefix("aten::")
    return name.startswith(("new_", "empty", "zeros", "ones", "full", "rand")) or name in (
        "fill_",
        "zero_",
        "uniform_",
        "normal_",
        "bernoulli_",
        "set_",
        "is_same_size",
    )


def _describes(ids: Ids, tensor: Tensor) -> bool:
    """Whether ids have the shape of a tensor, up to dimensions of size 1."""
    if ids.dim() > tensor.dim():
        return False
    sizes = zip(reversed(ids.shape), reversed(tensor.shape), strict=False)
    return all(own in (1, size) for own, size in sizes)
