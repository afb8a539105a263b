"""Which tile sizes are the fastest: to revise the table in `xnets.ops._triton.config`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import torch

from xnets._table import format_table
from xnets.bench.cases import GraphChoice, Setup, read_shapes
from xnets.bench.peers import expander_layers
from xnets.bench.timer import Run, time_interleaved
from xnets.ops._triton import config

_SHARED_MEMORY = 227 * 1024


def candidates(itemsize: int) -> Iterator[config.Tile]:
    """Tiles whose operands fit the shared memory of an H100.

    Args:
        itemsize: Bytes an element.

    Yields:
        The tiles; their n is clipped to the block's outputs where they are used.
    """
    choices = itertools.product((128, 256, 64), (64, 32), (8, 4), (3, 2, 4), (16, 4))
    for m, k, warps, buffers, vector in choices:
        if buffers * (m + 128) * k * itemsize <= _SHARED_MEMORY and m * 128 // warps <= 8192:
            yield config.Tile(m, 128, k, warps, buffers, vector)


def compare_tiles(
    shapes: Sequence[tuple[str, int]],
    graphs: Sequence[tuple[int, tuple[int, int]]],
    *,
    dtype: torch.dtype,
    device: str,
    seconds: float,
    budget: float,
    tiles: Sequence[config.Tile] | None = None,
) -> str:
    """Time the forward pass with each tile.

    Args:
        shapes: (layer, batch).
        graphs: (compression, block).
        dtype: Of the layers.
        device: "cuda" or "cpu".
        seconds: How long to time each tile, about.
        budget: Seconds in all; what is left then is passed over.
        tiles: Which; all candidates by default.

    Returns:
        A table of the five fastest of each case, and the table's own choice.
    """
    end = time.monotonic() + budget
    rows = []
    for (compression, block), (label, batch) in itertools.product(graphs, shapes):
        [shape] = read_shapes(label)
        setup = Setup(shape, batch, training=False, device=device, dtype=dtype)
        if setup.input.dim() == 4:
            setup.input = setup.input.contiguous(memory_format=torch.channels_last)
        graph = GraphChoice(compression, "biregular", block)
        [ours] = expander_layers(setup, graph, ["triton"], [])
        assert not isinstance(ours, tuple)
        run: Run = ours.runs(1)[0]
        times: dict[config.Tile | None, float] = {}
        for tile in (None, *(tiles or candidates(dtype.itemsize))):
            if time.monotonic() > end:
                break
            with config.forced(tile):
                try:
                    run()
                except RuntimeError:  # more registers or shared memory than there are
                    continue
                timing = time_interleaved({"": [run]}, seconds=seconds, device=device)[""]
            times[tile] = timing.median
        best = sorted(times.items(), key=lambda item: item[1])[:5]
        own = [(None, times[None])] if None in times else []
        for tile, ms in [*best, *own]:
            name = f"C={compression} {block[0]}x{block[1]}"
            rows.append([label, name, f"{ms:.4g}", "the table's" if tile is None else str(tile)])
    return format_table(["layer", "graph", "ms", "tile"], rows, right="llrl")
