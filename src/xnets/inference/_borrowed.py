"""What an optimised model reads of the model's own tensors, where they lie, without a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xnets.inference._ir import Value
from xnets.inference._program import Program


class Borrowed:
    """Tensors that somebody else may write into or move, and whether anybody did.

    Args:
        tensors: Some tensors.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = tuple({id(t): t for t in tensors if not t.is_inference()}.values())
        self._before = self._now()

    def _now(self) -> list[int]:
        # The second is what the compiled library reads: memory that is shared with processes moves.
        numbers = [t._version for t in self._tensors]
        return numbers + [t.data_ptr() for t in self._tensors]

    def check(self) -> None:
        """Make sure that they are as they were.

        Raises:
            RuntimeError: If they are not.
        """
        if self._now() != self._before:
            raise RuntimeError(
                "the model that this one was made from has changed since, and shares its memory: "
                "call xnets.optimize again, or before that give it a copy of the model"
            )


def aliases(model: nn.Module) -> dict[int, Tensor]:
    """Tensors without gradients that share the memory of a model's parameters and buffers.

    Args:
        model: Any module.

    Returns:
        By the id of the original, as `copy.deepcopy` takes it; without what cannot be shared.
    """
    found: dict[int, Tensor] = {}
    with torch.inference_mode(False), torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if type(tensor) is nn.Parameter and not tensor.is_inference():
                found[id(tensor)] = nn.Parameter(tensor.detach(), requires_grad=False)
            elif type(tensor) is Tensor and not tensor.is_inference():
                found[id(tensor)] = tensor.detach()
    return found


def borrowed_by(program: Program, model: nn.Module) -> Borrowed:
    """What of a model's memory a program reads.

    Args:
        program: Any program.
        model: What it is a trace of.

    Returns:
        Its tensors that share memory with the model's.
    """
    own = {_memory(tensor) for tensor in (*model.parameters(), *model.buffers())}
    return Borrowed(t for t in tensors_in((program.steps, program.outputs)) if _memory(t) in own)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples, dicts and dataclasses such as steps."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from tensors_in(item)
    elif is_dataclass(tree) and not isinstance(tree, Value):
        yield from tensors_in([getattr(tree, field.name) for field in fields(tree)])
