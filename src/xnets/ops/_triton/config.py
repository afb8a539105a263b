"""Tile sizes: a small table keyed by what the tensor cores see of a shape.

Chosen by arithmetic for the H100, not yet by measurement (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

# Below this, tensor cores run partly empty, and tl.dot refuses.
MIN_SIDE = 16
_TARGET_PROGRAMS = 264  # two for each multiprocessor of an H100


@dataclass(frozen=True)
class Tile:
    """Tile sizes and compiler options of one launch.

    Args:
        m: Rows (samples times positions).
        n: Outputs of a block row.
        k: Columns (inputs of a block row).
        warps: Warps a program.
        stages: Depth of the software pipeline.
    """

    m: int
    n: int
    k: int
    warps: int
    stages: int


_forced: Tile | None = None


@contextmanager
def forced(tile: Tile | None) -> Iterator[None]:
    """Use one tile for every product in this block, clipped to each shape: to measure candidates."""
    global _forced
    before, _forced = _forced, tile
    try:
        yield
    finally:
        _forced = before


def product_tile(
    rows: int, block_rows: int, side: int, width: int, itemsize: int, *, tensor_cores: bool
) -> Tile:
    """The tile of a gather product.

    Args:
        rows: Samples times positions of the output.
        block_rows: Number of outputs of the base graph.
        side: Outputs that share their inputs (b_out).
        width: Mean number of inputs of an output.
        itemsize: Bytes an element.
        tensor_cores: False for float32 without TF32.

    Returns:
        The table's entry, shrunk where the shape is smaller.
    """
    if not tensor_cores:
        tile = Tile(64, _side(side, 64), _side(width, 32), 4, 2)
    else:
        n = _side(side, 128)
        k = _side(width, 64 if itemsize == 2 else 32)
        m, warps, stages = {128: (256, 8, 3), 64: (256, 8, 3), 32: (128, 4, 4), 16: (128, 4, 4)}[n]
        tile = Tile(m if itemsize == 2 else 128, n, k, warps, stages)
    if _forced is not None:
        tile = replace(_forced, n=min(_forced.n, tile.n), k=min(_forced.k, tile.k))
    m = min(tile.m, _power(rows))
    parts = block_rows * -(-side // tile.n)
    while m > 64 and -(-rows // m) * parts < _TARGET_PROGRAMS:
        m //= 2
    return replace(tile, m=m, warps=min(tile.warps, max(4, m // 32)))


def outer_tile(rows: int, side: int, width: int, itemsize: int, *, tensor_cores: bool) -> Tile:
    """The tile of a gather outer product; arguments as for `product_tile`."""
    if not tensor_cores:
        return Tile(min(32, _power(rows)), _side(side, 64), _side(width, 64), 4, 2)
    n, k = _side(side, 128), _side(width, 128)
    m = min(64 if itemsize == 2 else 32, _power(rows))
    return Tile(m, n, k, 8 if n * k > 64 * 64 else 4, 3)


def _side(size: int, most: int) -> int:
    """The power of two that covers `size` with little padding and few tiles."""
    options = [n for n in (128, 64, 32, 16) if n <= most]
    return min(options, key=lambda n: (-(-size // n) * (n + 32), n))


def _power(size: int) -> int:
    return max(MIN_SIDE, 1 << max(0, size - 1).bit_length())
