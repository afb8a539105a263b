"""From a trace to steps: one pass over the operations, each by its rule or as it is."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from xnets.inference import _rules_layers, _rules_shapes  # noqa: F401 (they register rules)
from xnets.inference._ir import Aten, Dim, Slice, Value, View, map_leaves
from xnets.inference._program import Program, is_expression
from xnets.inference._rules import RULES, Lowering
from xnets.inference._trace import CannotOptimizeError, Traced, functional

_ASSERTS = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size")
_STATEFUL = (
    "`model` writes into its parameters or buffers when it runs, even in eval mode; an inference "
    "model must compute the same each time"
)


class _NotFunctionalError(Exception):
    """An operation writes into a tensor that others see, which renaming cannot follow."""


def lower(traced: Traced) -> Program:
    """The steps of a trace, one for each operation, nothing fused.

    Args:
        traced: What `trace` returned.

    Returns:
        The program.

    Raises:
        CannotOptimizeError: If the model keeps a state that it changes.
    """
    try:
        return _Lowerer(traced).run()
    except _NotFunctionalError:
        pass
    try:
        return _Lowerer(functional(traced)).run()
    except _NotFunctionalError as error:
        raise CannotOptimizeError(_STATEFUL) from error


class _Lowerer:
    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.env: dict[Any, Any] = {}
        self.context = Lowering(traced.layers)
        self.inputs: list[Value] = []
        self.shares: dict[Value, set[Value]] = {}  # values that may be views of one another

    def run(self) -> Program:
        constants = self.traced.constants
        nodes = list(self.traced.program.graph.nodes)
        self._last_use = {n: i for i, node in enumerate(nodes) for n in node.all_input_nodes}
        outputs: list[Any] = []
        for position, node in enumerate(nodes):
            if node.op == "placeholder":
                self.env[node] = self._placeholder(node, constants)
            elif node.op == "output":
                outputs = list(map_leaves(self.env.get, node.args[0], torch.fx.Node))
            elif node.op == "call_function":
                self._call(node, position)
            else:
                raise CannotOptimizeError(f"`model` has an operation of kind {node.op!r}")
        if len(outputs) != len(self.traced.program.graph_signature.user_outputs):
            raise CannotOptimizeError(_STATEFUL)
        return Program(self.context.steps, self.inputs, outputs)

    def _placeholder(self, node: torch.fx.Node, constants: dict[str, Tensor]) -> Any:
        if node.name in constants:
            return constants[node.name]
        meta = node.meta.get("val")
        if not isinstance(meta, Tensor):
            return meta
        value = Value(node.name, dims(meta.shape), meta.dtype)
        self.inputs.append(value)
        return value

    def _call(self, node: torch.fx.Node, position: int) -> None:
        target: Any = node.target
        out = node.meta.get("val")
        if isinstance(out, (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)):
            self.env[node] = dim_of(out)  # a size, or what is computed from one
            return
        if target is operator.getitem:
            source, index = node.args
            self.env[node] = self.env[source][index]  # type: ignore[index]
            return
        name = str(getattr(getattr(target, "_schema", None), "name", target)).split("::")[-1]
        if name in _ASSERTS:
            return
        if name == "_set_grad_enabled":
            return
        args, kwargs = map_leaves(self.env.get, (node.args, node.kwargs), torch.fx.Node)
        self.context.where = _where(node)
        writes = _writes(target)
        written = args[0] if writes else None
        if writes:
            if not isinstance(written, Value):
                raise _NotFunctionalError
            self._check_seen_by_nobody_else(written, position)
        count = len(self.context.steps)
        self.env[node] = result = self._apply(node, name, args, kwargs)
        if writes:  # from here on, whoever means the old value means the new one
            for other, known in self.env.items():
                if known is written:
                    self.env[other] = result
        self._note_views(count)

    def _apply(self, node: Any, name: str, args: Any, kwargs: Any) -> Any:
        target, out = node.target, node.meta.get("val")
        varying: list[Any] = []
        map_leaves(varying.append, (args, kwargs), Value)
        if not varying and not _has_expression((args, kwargs)) and _is_deterministic(target):
            return target(*args, **kwargs)  # of constants alone: computed now
        rule = RULES.get(name.removesuffix("_") if _writes(target) else name)
        if rule is not None:
            first = out[0] if isinstance(out, (tuple, list)) else out
            self.context.out = Value(node.name, dims(first.shape), first.dtype)
            self.context.outs = out
            result = rule(self.context, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return self._as_it_is(node, args, kwargs, out)

    def _as_it_is(self, node: Any, args: Any, kwargs: Any, out: Any) -> Any:
        func = node.target
        if _writes(func):
            func = _functional_version(func)
            if func is None:
                raise _NotFunctionalError
        flat = list(out) if isinstance(out, (tuple, list)) else [out]
        if not all(isinstance(t, Tensor) for t in flat):
            raise CannotOptimizeError(f"`model` uses {func}, which returns what is no tensor")
        ys = tuple(Value(f"{node.name}:{i}", dims(t.shape), t.dtype) for i, t in enumerate(flat))
        where = self.context.where
        step = Aten(name=where, y=ys[0], func=func, args=tuple(args), kwargs=kwargs, ys=ys)
        self.context.steps.append(step)
        return ys if isinstance(out, (tuple, list)) else ys[0]

    # --- operations in place ---------------------------------------------------------------------

    def _check_seen_by_nobody_else(self, written: Value, position: int) -> None:
        """In-place operations become new values, which is right if no view of the old is read."""
        for other in self.shares.get(written, ()):
            for node, known in self.env.items():
                if known is other and self._last_use.get(node, -1) > position:
                    raise _NotFunctionalError

    def _note_views(self, first: int) -> None:
        for step in self.context.steps[first:]:
            if isinstance(step, (View, Slice)) or (isinstance(step, Aten) and step.may_alias):
                group = {*step.reads, *step.makes}
                for value in tuple(group):
                    group |= self.shares.get(value, set())
                for value in group:
                    self.shares[value] = group - {value}


def dims(shape: Any) -> tuple[Dim, ...]:
    """A shape, symbols as expressions."""
    return tuple(dim_of(dim) for dim in shape)


def dim_of(dim: Any) -> Dim:
    """A size: a number, or the expression of a symbol."""
    if isinstance(dim, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        expression = dim.node.expr
        return int(expression) if getattr(expression, "is_Integer", False) else expression
    return dim


def _has_expression(tree: Any) -> bool:
    if isinstance(tree, (list, tuple)):
        return any(_has_expression(item) for item in tree)
    if isinstance(tree, dict):
        return any(_has_expression(item) for item in tree.values())
    return is_expression(tree)


def _writes(target: Any) -> bool:
    arguments = target._schema.arguments
    return bool(arguments and arguments[0].alias_info and arguments[0].alias_info.is_write)


def _is_deterministic(target: Any) -> bool:
    return torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ())


def _functional_version(target: Any) -> Any:
    """add_ -> add: the operation of the same overload that returns a new tensor."""
    name = target._schema.name.split("::")[-1].removesuffix("_")
    packet = getattr(torch.ops.aten, name, None)
    return getattr(packet, target._schema.overload_name or "default", None)


def _where(node: torch.fx.Node) -> str:
    """The name of the innermost module that called an operation."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((str(path) for path, _ in reversed(stack.values())), "")
