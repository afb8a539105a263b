"""Options that the benchmarks of layers and models share: checked, and as parts of file names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from xnets import ops
from xnets._errors import UserError
from xnets.bench._output import check_choices, check_counts, machine
from xnets.bench.cases import STEPS, Shape
from xnets.bench.peers import PEERS, has_sparselab
from xnets.graphs import list_families

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def several(names: Sequence[str], what: str) -> str:
    """Names as part of a file's name: all of up to three, else how many.

    Examples:
        >>> several(["random", "grouped"], "families"), several("abcd", "letters")
        ('random-grouped', '4-letters')
    """
    return "-".join(names) if len(names) <= 3 else f"{len(names)}-{what}"


def shape_names(shapes: Sequence[Shape]) -> str:
    """Shapes of layers as part of a file's name.

    Examples:
        >>> shape_names([Shape(64, 128, kernel=3, side=56, stride=2), Shape(1024, 1024)])
        '3x3-64-128@56s2-linear-1024'
    """
    return several([s.label.replace(":", "-").replace("/", "s") for s in shapes], "shapes")


def graph_names(families: Sequence[str], blocks: Sequence[tuple[int, int]]) -> str:
    """Families and blocks as part of a file's name.

    Examples:
        >>> graph_names(["random"], [(1, 1), (4, 1)])
        'random_blocks-1x1-4x1'
    """
    sides = [f"{b_out}x{b_in}" for b_out, b_in in blocks]
    return f"{several(families, 'families')}_blocks-{several(sides, 'blocks')}"


def machine_of(device: str) -> str:
    """The processor and torch's version, as part of a file's name."""
    if device == "cpu":
        return machine("torch")
    name = "-".join(torch.cuda.get_device_name(device).split())
    return f"{name}_torch-{torch.__version__.partition('+')[0]}"


def check_layer_options(
    compressions: Sequence[float],
    families: Sequence[str],
    steps: Sequence[str],
    threads: Sequence[int],
    batches: Sequence[int],
    backends: Sequence[str],
    peers: Sequence[str] | None,
) -> None:
    """Raise a UserError unless all are known and in range."""
    check_choices("family", families, list_families())
    check_choices("step", steps, STEPS)
    check_choices("backend", backends, ["auto", *ops.list_backends()])
    check_choices("peer", peers or (), PEERS)
    if peers is not None and "sparselab" in peers and not has_sparselab():
        raise UserError("`peers` (=sparselab) is not installed: pip install sparselab")
    check_counts(1, threads=threads)
    if batches:
        check_counts(1, batches=batches)
    for compression in compressions:
        if not 1 <= compression < math.inf:
            raise UserError(f"`compressions` (={compression:g}) must be at least 1")


def check_device(device: str, dtype: str, seconds: float) -> None:
    """Raise a UserError unless the device is there and the rest makes sense."""
    check_choices("dtype", [dtype], list(DTYPES))
    if device != "cpu" and not device.startswith("cuda"):
        raise UserError(f"`device` (={device}) must be cpu or cuda")
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"`device` (={device}) needs a CUDA device, and torch finds none")
    if not 0 < seconds < math.inf:
        raise UserError(f"`seconds` (={seconds:g}) must be above 0")
