"""ONNX files."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xnets._atomic import replacing
from xnets._errors import UserError
from xnets.export._lower import lower
from xnets.export._program import example_arguments, trace


def to_onnx(
    model: nn.Module,
    example_input: Any,
    path: str | os.PathLike[str],
    *,
    lowering: str,
    dynamic_batch: bool = True,
    opset: int = 18,
) -> None:
    """Write a model's inference to an ONNX file.

    Needs `pip install 'xnets[onnx]'`.

    Args:
        model: Any module; it is not changed.
        example_input: A tensor, or a tuple of arguments.
        path: Where to, usually ending in .onnx.
        lowering: "dense" runs fast everywhere and is as large as the dense network; "gather" keeps
            the number of weights and is as fast as the runtime's Gather and grouped Conv. See
            `xnets.export.lower`.
        dynamic_batch: Whether the first dimension of every tensor may vary.
        opset: Version of ONNX's operators.

    Raises:
        ValueError: If the lowering is unknown.
        ImportError: If onnx and onnxscript are not installed.
        OSError: If the file cannot be written.

    Examples:
        >>> import tempfile, torch, xnets
        >>> model = xnets.create_model("mlp", compression=4).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     to_onnx(model, torch.rand(1, 1, 8, 8), f"{folder}/mlp.onnx", lowering="dense")
    """
    lowered = lower(model, lowering).eval()
    _check_installed()
    arguments, shapes = example_arguments(example_input, dynamic_batch)
    program = trace(lowered, arguments, shapes)
    with _quiet():
        exported = torch.onnx.export(program, (), opset_version=opset, dynamo=True, verbose=False)
    assert exported is not None
    with replacing(Path(path)) as temporary:
        exported.save(str(temporary), external_data=False)


def _check_installed() -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingOnnxError(
            f"to write ONNX files, `pip install 'xnets[onnx]'` ({error})"
        ) from error
    del onnx


class MissingOnnxError(UserError, ImportError):
    """The packages that write ONNX files are not installed."""


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress, advice and logs, none of which is about the model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
