"""Tile sizes: a small table keyed by what the tensor cores see of a shape.

Chosen for the H100 by arithmetic and by what the compiler makes of them (registers, shared memory,
instructions), not yet by measurement: see docs/performance.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

# Whether kernels are interpreted. Triton asks once, too, and reads the answer so: when it is first
# imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
# Below this, tensor cores run partly empty, and tl.dot refuses.
MIN_SIDE = 16
_PROGRAMS = 264  # two for each multiprocessor of an H100


@dataclass(frozen=True)
class Tile:
    """Tile sizes and compiler options of one launch.

    Args:
        m: Rows (samples times positions).
        n: Outputs of a block row.
        k: Columns (inputs of a block row).
        warps: Warps a program.
        buffers: Copies of the operands in shared memory: the depth of the software pipeline.
        vector: Most consecutive channels that a load may rely on. Loads of 16 bytes pass by the L1
            cache, narrower ones do not.
    """

    m: int
    n: int
    k: int
    warps: int
    buffers: int
    vector: int = 16

    @property
    def product_stages(self) -> int:
        """Triton's num_stages: the indices that the loads depend on take a stage for each."""
        return 2 * self.buffers - 1


_forced: Tile | None = None


@contextmanager
def forced(tile: Tile | None) -> Iterator[None]:
    """Use one tile for every gather product in this block, to measure candidates.

    Args:
        tile: What to use, its sides clipped to the shape; None for the table.
    """
    global _forced  # noqa: PLW0603
    before, _forced = _forced, tile
    try:
        yield
    finally:
        _forced = before


def product_tile(
    rows: int, block_rows: int, block: tuple[int, int], width: int, itemsize: int, *, fast: bool
) -> Tile:
    """The tile of a gather product.

    Args:
        rows: Samples times positions of the output.
        block_rows: Number of outputs of the base graph.
        block: (b_out, b_in).
        width: Mean number of inputs of an output.
        itemsize: Bytes an element.
        fast: False for float32 without TF32, which has no tensor cores.

    Returns:
        The table's entry, shrunk where the shape is smaller.
    """
    b_out, b_in = block
    if not fast:
        tile = Tile(64, _side(b_out, 64), _side(width, 32), 4, 2)
    elif b_in * itemsize < 4:  # too narrow for asynchronous copies: everything in registers
        tile = Tile(128, _side(b_out, 128), _side(width, 32), 8, 2)
    else:
        n, k = _side(b_out, 128), _side(width, 128 // itemsize)
        m, warps = (256, 8) if n >= 64 and itemsize == 2 else (128, 4 if n < 128 else 8)
        tile = Tile(m, n, k, warps, 3)
    if _forced is not None:
        tile = replace(_forced, n=min(_forced.n, tile.n), k=min(_forced.k, tile.k))
    m = min(tile.m, _power(rows))
    parts = block_rows * -(-b_out // tile.n)
    while m > 64 and -(-rows // m) * parts < _PROGRAMS:
        m //= 2
    return replace(
        tile,
        m=m,
        warps=min(tile.warps, max(4, m // 32)),
        vector=min(tile.vector, b_in & -b_in),
    )


def outer_tile(rows: int, block: tuple[int, int], width: int, itemsize: int, *, fast: bool) -> Tile:
    """The tile of a gather outer product, which sums over the rows.

    Args:
        rows: As for `product_tile`.
        block: As for `product_tile`.
        width: As for `product_tile`.
        itemsize: As for `product_tile`.
        fast: As for `product_tile`.

    Returns:
        The table's entry.
    """
    b_out, b_in = block
    most = 128 if fast else 64
    n, k = _side(b_out, most), _side(width, most)
    m = min(_power(rows), 128 // itemsize if fast else 32)
    warps = 8 if n * k > 64 * 64 else 4
    return Tile(m, n, k, warps, 3 if fast else 2, min(16, b_in & -b_in))


def allows_tf32(convolution: bool) -> bool:
    """Whether torch would use TF32 for this kind of op."""
    cudnn: Any = torch.backends.cudnn
    backend = cudnn.conv if convolution else torch.backends.cuda.matmul
    return str(backend.fp32_precision) == "tf32"


# What torch.compiler.assume_constant_result does, which would load the compiler: torch 2.11 cannot
# trace these settings.
allows_tf32._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _side(size: int, most: int) -> int:
    """The power of two that covers `size` with little padding and few tiles."""
    options = [n for n in (128, 64, 32, 16) if n <= most]
    return min(options, key=lambda n: -(-size // n) * (n + 32))


def _power(size: int) -> int:
    return max(MIN_SIDE, 1 << (size - 1).bit_length())
