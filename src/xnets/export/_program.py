"""torch.export programs: with xnets' own operators, or lowered to torch's."""

from __future__ import annotations

import copy
import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xnets._atomic import replacing
from xnets._suggest import unknown_name
from xnets.export._lower import LOWERINGS, lower
from xnets.nn import ExpanderLayer

PROGRAM_LOWERINGS = ("custom", *LOWERINGS)


def to_program(
    model: nn.Module,
    example_input: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    lowering: str,
    dynamic_batch: bool = True,
) -> torch.export.ExportedProgram:
    """Export a model's inference with torch.export, and write it to a .pt2 file.

    Args:
        model: Any module whose expander layers' kernels are to be exported; it is not changed.
        example_input: A tensor, or a tuple of arguments.
        path: Where to, usually ending in .pt2; None writes nothing.
        lowering: "custom" keeps the compiled kernels as operators: fast, but the program runs only
            after `import xnets`. "dense" and "gather" use torch's operations alone, see
            `xnets.export.lower`.
        dynamic_batch: Whether the first dimension of every tensor may vary.

    Returns:
        The program; `program.module()` runs it.

    Raises:
        ValueError: If the lowering is unknown, or the compiled kernels cannot run the model.
        TypeError: If `model` is no module.
        OSError: If the file cannot be written.

    Examples:
        >>> import torch, xnets
        >>> model = xnets.create_model("mlp", compression=4).eval()
        >>> images = torch.rand(2, 1, 8, 8)
        >>> program = to_program(model, images, lowering="gather")
        >>> torch.allclose(program.module()(images[:1]), model(images[:1]), atol=1e-6)
        True
    """
    if lowering not in PROGRAM_LOWERINGS:
        raise ValueError(unknown_name("lowering", lowering, PROGRAM_LOWERINGS))
    lowered = _with_kernels(model) if lowering == "custom" else lower(model, lowering)
    arguments, shapes = example_arguments(example_input, dynamic_batch)
    program = trace(lowered.eval(), arguments, shapes)
    if path is not None:
        # To a path torch raises a RuntimeError where Python's own files raise an OSError.
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    return program


def trace(
    model: nn.Module, arguments: tuple[Any, ...], shapes: Any
) -> torch.export.ExportedProgram:
    """torch.export without its advice."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(model, arguments, dynamic_shapes=shapes)


def example_arguments(example_input: Any, dynamic_batch: bool) -> tuple[tuple[Any, ...], Any]:
    """The model's arguments, and which of their sizes may vary.

    A batch of one is doubled where it may vary: torch.export takes sizes of 1 for constants.

    Args:
        example_input: A tensor, or a tuple of arguments.
        dynamic_batch: Whether the first dimension of every tensor may vary.

    Returns:
        The arguments and torch.export's `dynamic_shapes`.
    """
    arguments = tuple(example_input) if isinstance(example_input, (tuple, list)) else None
    arguments = (example_input,) if arguments is None else arguments
    if not dynamic_batch:
        return arguments, None
    batch = torch.export.Dim("batch")
    doubled, shapes = [], []
    for argument in arguments:
        varies = isinstance(argument, Tensor) and argument.dim() > 0
        doubled.append(torch.cat([argument, argument]) if varies else argument)
        shapes.append({0: batch} if varies else None)
    return tuple(doubled), tuple(shapes)


def _with_kernels(model: Any) -> nn.Module:
    """A copy in which every layer that may choose takes the compiled kernels."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    copied = copy.deepcopy(model)
    for layer in copied.modules():
        if isinstance(layer, ExpanderLayer) and layer.backend == "auto":
            layer.backend = "cpu"
    return copied
