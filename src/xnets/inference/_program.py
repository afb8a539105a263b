"""Steps in the order in which they run, each of which makes new values.

Sizes may be symbols of torch.export (a batch of any size) until `bind` puts numbers in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xnets.inference._ir import Aten, Dim, Step, Value, map_leaves


@dataclass(eq=False)
class Program:
    """Steps in the order in which they run.

    Args:
        steps: The steps.
        inputs: What comes in.
        outputs: What goes out: values, or constants.
    """

    steps: list[Step]
    inputs: list[Value]
    outputs: list[Any]

    def __iter__(self) -> Iterator[Step]:
        """The steps."""
        return iter(self.steps)

    @property
    def output_values(self) -> list[Value]:
        """The outputs that are computed."""
        return [output for output in self.outputs if isinstance(output, Value)]

    def makers(self) -> dict[Value, Step]:
        """The step that makes each value."""
        return {value: step for step in self.steps for value in step.makes}

    def users(self) -> dict[Value, list[Step]]:
        """The steps that read each value; an output has one more, itself unnamed."""
        found: dict[Value, list[Step]] = {value: [] for value in self.inputs}
        for step in self.steps:
            for value in step.makes:
                found.setdefault(value, [])
            for value in dict.fromkeys(step.reads):
                found.setdefault(value, []).append(step)
        return found

    def without_dead_steps(self) -> Program:
        """The steps that an output depends on."""
        needed = set(self.output_values)
        kept: list[Step] = []
        for step in reversed(self.steps):
            if any(value in needed for value in step.makes):
                needed.update(step.reads)
                kept.append(step)
        return Program(kept[::-1], self.inputs, self.outputs)

    def bind(self, sizes: Mapping[Any, int]) -> Program:
        """The program for one set of sizes.

        Args:
            sizes: A number for each symbol.

        Returns:
            A copy with numbers for sizes; weights and constants are shared.
        """
        known: dict[Value, Value] = {}

        def bound(value: Value) -> Value:
            if value not in known:
                shape = tuple(bind_dim(dim, sizes) for dim in value.shape)
                known[value] = Value(value.name, shape, value.dtype)
            return known[value]

        steps = []
        for step in self.steps:
            new = step.map_values(bound)
            if isinstance(new, Aten):
                arguments = bind_dims((new.args, new.kwargs), sizes)
                new = replace(new, args=arguments[0], kwargs=arguments[1])
            steps.append(new)
        outputs = map_leaves(bound, self.outputs, Value)
        return Program(steps, [bound(value) for value in self.inputs], outputs)


def bind_dim(dim: Dim, sizes: Mapping[Any, int]) -> int:
    """A size as a number."""
    return int(dim.xreplace(dict(sizes))) if is_expression(dim) else dim


def bind_dims(tree: Any, sizes: Mapping[Any, int]) -> Any:
    """Numbers for the expressions in nested lists, tuples and dicts."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(bind_dims(item, sizes) for item in tree)
    if isinstance(tree, dict):
        return {key: bind_dims(item, sizes) for key, item in tree.items()}
    return bind_dim(tree, sizes)


def is_expression(leaf: Any) -> bool:
    """Whether a leaf is an expression of symbols, asked without loading sympy."""
    return type(leaf).__module__.startswith("sympy.")
