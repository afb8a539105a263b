"""What an optimised model is called with: as many arguments as its example, built as they were."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from xnets.inference._trace import CannotOptimizeError


class Signature:
    """The arguments of a model's example: their names, how they are built, where tensors are.

    Args:
        model: Its `forward` names them.
        arguments: The example.
    """

    def __init__(self, model: nn.Module, arguments: tuple[Any, ...]) -> None:
        paths, self.spec = pytree.tree_flatten_with_path(arguments)
        self._arguments = _names(model, len(arguments))
        self._specs = [pytree.tree_structure(argument) for argument in arguments]
        self._built = [_built(argument) for argument in arguments]
        self._names = [
            self._arguments[path[0].idx] + pytree.keystr(path[1:])  # type: ignore[attr-defined]
            for path, _ in paths
        ]
        self._is_tensor = [isinstance(leaf, Tensor) for _, leaf in paths]
        # As most are: to flatten such costs more than a small network's call.
        self._only_tensors = all(isinstance(argument, Tensor) for argument in arguments)

    def leaves(self, arguments: tuple[Any, ...], keywords: Sequence[str] = ()) -> list[Any]:
        """The tensors and constants in the arguments of a call.

        Args:
            arguments: Given by position.
            keywords: Names of those given by name, which a traced model does not take.

        Returns:
            Them, in the order of the example.

        Raises:
            TypeError: If the arguments are not built as the example was.
        """
        as_many = len(arguments) == len(self._arguments) and not keywords
        if self._only_tensors and as_many and all(isinstance(a, Tensor) for a in arguments):
            return list(arguments)
        leaves, spec = pytree.tree_flatten(arguments)
        if keywords or spec != self.spec:
            raise TypeError(self._difference(arguments, keywords))
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                continue
            if self._is_tensor[i]:
                raise TypeError(_refusal(self._names[i], "a torch.Tensor as in the example", leaf))
            if not isinstance(leaf, Hashable):
                raise TypeError(_refusal(self._names[i], "a tensor or a constant", leaf))
        return leaves

    def check(self, leaves: Sequence[Any]) -> None:
        """Make sure that the tensors are such as optimised models take.

        Args:
            leaves: What `leaves` returned.

        Raises:
            CannotOptimizeError: If they are not.
        """
        for name, leaf in zip(self._names, leaves, strict=True):
            if not isinstance(leaf, Tensor):
                continue
            if leaf.device.type != "cpu":
                raise CannotOptimizeError(
                    f"`{name}` is on {leaf.device}, must be on the CPU: call `.cpu()` on it"
                )
            if leaf.layout is not torch.strided:
                raise CannotOptimizeError(
                    f"`{name}` is {leaf.layout}, must be strided: call `.to_dense()` on it"
                )
            if leaf.is_floating_point() and leaf.dtype != torch.float32:
                raise CannotOptimizeError(
                    f"`{name}` is {leaf.dtype}, must be float32: call `.float()` on it"
                )

    def _difference(self, arguments: tuple[Any, ...], keywords: Sequence[str]) -> str:
        """How a call differs from the example."""
        example = f"({', '.join(self._arguments)})"
        for name in keywords:
            known = name in self._arguments
            why = "must be given by position" if known else "is no argument of the example"
            return f"`{name}` {why}: call an optimised model as the example was, with {example}"
        if len(arguments) != len(self._arguments):
            return (
                f"got {len(arguments)} arguments, must be {len(self._arguments)} as in the "
                f"example, {example}: pass those, or call xnets.optimize with such an example"
            )
        for i, (argument, spec) in enumerate(zip(arguments, self._specs, strict=True)):
            if pytree.tree_structure(argument) != spec:
                return (
                    f"`{self._arguments[i]}` is {_built(argument)}, must be {self._built[i]} as in "
                    "the example: pass that, or call xnets.optimize with such an example"
                )
        raise AssertionError("the arguments are built as the example was")


def example_arguments(example_input: Any) -> tuple[Any, ...]:
    """The arguments of a model's example.

    Args:
        example_input: A tensor, or a tuple or list of arguments.

    Returns:
        The arguments.

    Raises:
        TypeError: If no tensor is among them.
    """
    several = isinstance(example_input, (tuple, list))
    arguments = tuple(example_input) if several else (example_input,)
    leaves = pytree.tree_leaves(arguments)
    if leaves and not any(isinstance(leaf, Tensor) for leaf in leaves):
        demand = "a torch.Tensor, or a tuple of arguments with tensors among them"
        raise TypeError(_refusal("example_input", demand, example_input))
    return arguments


def _names(model: nn.Module, count: int) -> list[str]:
    """The names of the first arguments of a model."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # of what is not written in Python
        parameters = []
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in by_position]
    return [*names, *(f"arguments[{i}]" for i in range(len(names), count))][:count]


def _built(tree: Any) -> str:
    """How nested lists, tuples and dicts are built, in words."""
    return str(pytree.tree_map(_Word, tree))


class _Word:
    def __init__(self, leaf: Any) -> None:
        self._word = "None" if leaf is None else type(leaf).__name__

    def __repr__(self) -> str:
        return self._word


def _refusal(name: str, demand: str, value: Any) -> str:
    """What is wrong with a value, and how to make a tensor of it where that is likely meant."""
    is_number = isinstance(value, (bool, int, float, complex))
    shown = f" (={reprlib.repr(value)})" if is_number or isinstance(value, str) else ""
    remedy = ""
    if is_number or type(value).__module__ == "numpy":
        remedy = ": pass torch.as_tensor(...) of it"
    return f"`{name}`{shown} must be {demand}, got {_built(value)}{remedy}"
