"""Running a model once to find its units and what each one reads."""

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

from xnets._run_once import run_once
from xnets._unit_graph import NOTHING, IntArray, UnitGraph
from xnets._unit_rules import Edges, OpCall, convolve, find_rule, in_memory, weigh
from xnets._unit_sets import (
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
from xnets.nn import (
    ExpanderConv1d,
    ExpanderConv2d,
    ExpanderConv3d,
    ExpanderLayer,
    ExpanderLinear,
)

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, ExpanderConv1d, ExpanderConv2d, ExpanderConv3d)


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


@dataclass(frozen=True)
class Trace:
    """What one run of a model shows.

    Args:
        graph: All units.
        inputs: Units of the example input, one a channel.
        outputs: Units of what the model returns.
        layers: Products with weights in order of execution.
        assumptions: Where the trace is not exact.
    """

    graph: UnitGraph
    inputs: IntArray
    outputs: IntArray
    layers: tuple[TracedLayer, ...]
    assumptions: tuple[Assumption, ...]


def trace_units(
    model: nn.Module,
    example_input: Any,
    *,
    dim: int | None = None,
    norms: str = "mix",
    ignore_zeros: bool = False,
) -> Trace:
    """Run a model once and find its units; see connectivity() for the arguments."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tracer = Tracer(norms_mix=norms == "mix", ignore_zeros=ignore_zeros)
    tensors = [t for t in pytree.tree_leaves(example_input) if isinstance(t, Tensor)]
    if not tensors:
        raise ValueError("`example_input` holds no tensor: give what the model takes")
    inputs = []
    for tensor in tensors:
        ids = _input_ids(tracer.graph, model, tensor, dim)
        tracer.note(tensor, ids)
        inputs.append(ids.reshape(-1))
    hooks = tracer.watch(model)
    try:
        # The math backend shows attention as matrix products.
        with sdpa_kernel(SDPBackend.MATH), tracer:
            returned = run_once(model, example_input)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [tracer.ids_of(leaf) for leaf in _tensors_in(returned)]
    found = [torch.unique(ids) for ids in outputs if ids is not None]
    return Trace(
        tracer.graph,
        torch.cat(inputs).numpy(),
        torch.unique(torch.cat(found)).numpy() if found else np.zeros(0, dtype=np.int64),
        tuple(tracer.layers),
        tuple(dict.fromkeys(tracer.assumptions)),
    )


def _input_ids(graph: UnitGraph, model: nn.Module, tensor: Tensor, dim: int | None) -> Ids:
    """One unit a channel; token numbers and other integers are one unit in all."""
    size = [1] * tensor.dim()
    if tensor.is_floating_point() and tensor.dim() > 0:
        channel = _channel_dim(model, tensor) if dim is None else dim
        if not -tensor.dim() <= channel < tensor.dim():
            raise ValueError(
                f"`dim` (={dim}) must be a dimension of the example input of shape "
                f"{tuple(tensor.shape)}"
            )
        size[channel] = tensor.shape[channel]
    count = int(np.prod(size))
    return torch.from_numpy(graph.sources(count)).view(size)


def _channel_dim(model: nn.Module, tensor: Tensor) -> int:
    """The last dimension of what a first linear layer reads, else the one after the batch.

    A first convolution also takes images without batch.
    """
    for module in model.modules():
        if isinstance(module, _CONVS):
            unbatched = tensor.dim() == len(module.kernel_size) + 1
            return 0 if unbatched and tensor.shape[0] == module.in_channels else 1
        if isinstance(module, (nn.Linear, ExpanderLinear)):
            if tensor.shape[-1] == module.in_features:
                return -1
            break
    return min(1, tensor.dim() - 1)


def _tensors_in(value: Any) -> list[Tensor]:
    """All tensors in what a model returns, dataclasses and other plain objects included."""
    found = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, (type, nn.Module)):
            found += _tensors_in(dict(vars(leaf)))
    return found


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
        if call.name == "_local_scalar_dense" or (rule is None and _makes_new(call.func)):
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
                    ids = self._inside_layer.pop()
                    (image,) = [*args, *kwargs.values()][:1]
                    self.note(output, self._expander(m, ids, image.shape))
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
