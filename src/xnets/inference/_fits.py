"""A simplified program, and which inputs it is right for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from xnets.inference._borrowed import Borrowed
from xnets.inference._ir import Aten, Value
from xnets.inference._program import Program, is_expression


class Trace:
    """A simplified program, and which inputs it is right for.

    Args:
        program: The program.
        leaves: The arguments that it was made with.
        spec: How its outputs are put together.
        operations: How many the model has.
        borrowed: What of the model's memory it reads.
    """

    def __init__(
        self, program: Program, leaves: list[Any], spec: Any, operations: int, borrowed: Borrowed
    ) -> None:
        self.program = program
        self.borrowed = borrowed
        self.spec = spec
        self.operations = operations
        self.tensor_leaves = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._constants = {i: v for i, v in enumerate(leaves) if not isinstance(v, Tensor)}

    def fits(self, leaves: Sequence[Any]) -> dict[Any, int] | None:
        """The sizes for which it is the program of these inputs, or None."""
        for i, value in self._constants.items():
            if type(leaves[i]) is not type(value) or leaves[i] != value:
                return None
        sizes: dict[Any, int] = {}
        for index, value in zip(self.tensor_leaves, self.program.inputs, strict=True):
            tensor = leaves[index]
            if tensor.dtype != value.dtype or tensor.dim() != len(value.shape):
                return None
            for have, want in zip(tensor.shape, value.shape, strict=True):
                if not is_expression(want):
                    if have != want:
                        return None
                elif not want.is_Symbol or sizes.setdefault(want, have) != have:
                    return None
        return sizes

    @property
    def any_batch(self) -> Any:
        """The symbol of the batch, if every step treats every sample by itself; else None."""
        symbols = {value.shape[0] if value.shape else None for value in self.program.inputs}
        if len(symbols) != 1 or self._constants or not is_expression(batch := symbols.pop()):
            return None
        for step in self.program:
            values = [*step.reads, *step.makes]
            if isinstance(step, Aten) or any(value.shape[0] != batch for value in values):
                return None
        outputs = self.program.outputs
        whole = outputs and all(isinstance(output, Value) for output in outputs)
        return batch if whole else None
