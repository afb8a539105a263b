"""Random families: each vertex of one side draws its neighbours without replacement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._size import base_size

_ROWS_BYTES = 1 << 26  # a drawing table of at most 64 MiB; part of the seed's meaning, never change


def random_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the paper's random expander: every output draws D inputs without replacement.

    With high probability such a graph is an expander (Vadhan, Pseudorandomness, theorem 4.4;
    sections 3.2 and 4.2 of the paper). About e^-(mean fan-out) of the inputs stay unused.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output D. Give this or `compression`.
        compression: How many times fewer edges than dense; D = max(1, num_in // compression).
        block: (b_out, b_in); the draw is made between blocks.
        seed: An int or a numpy Generator.

    Returns:
        A graph in which every output has degree D.

    Raises:
        ValueError: If the degree is below 1 or above num_in, or the block does not divide.

    Examples:
        >>> random_graph(64, 32, compression=4)
        BipartiteGraph(num_in=64, num_out=32, num_edges=512, degree=16)
    """
    size = base_size(num_in, num_out, degree, compression, block)
    neighbors = draw_subsets(Stream(seed), size.num_out, size.num_in, size.degree)
    return BipartiteGraph.from_neighbors(neighbors, num_in, block=block)


def random_fan_out_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the mirror of `random_graph`: every input draws its outputs without replacement.

    This is the rule of the original MobileNet ("reverse" layers). Fan-in varies, and an output that
    no input draws is constant.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Outputs that each *input* draws. Give this or `compression`.
        compression: How many times fewer edges than dense; each input draws
            max(1, num_out // compression) outputs.
        block: (b_out, b_in); the draw is made between blocks.
        seed: An int or a numpy Generator.

    Returns:
        A graph in which every input has the same fan-out.

    Raises:
        ValueError: If the degree is below 1 or above num_out, or the block does not divide.

    Examples:
        >>> graph = random_fan_out_graph(64, 32, compression=4)
        >>> set(graph.fan_out.tolist())
        {8}
    """
    size = base_size(num_in, num_out, degree, compression, block, drawn_by="num_out")
    drawn = draw_subsets(Stream(seed), size.num_in, size.num_out, size.degree)
    flipped = (block[1], block[0])
    return BipartiteGraph.from_neighbors(drawn, num_out, block=flipped).transpose()


def released_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return a graph by the rule of the original repository's last release.

    Outputs draw `degree` inputs where num_in > num_out; otherwise inputs draw `degree` outputs.
    With num_in < num_out it therefore keeps fewer than 1 / compression of the edges.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Neighbours that each drawing vertex takes. Give this or `compression`.
        compression: Sets degree to max(1, num_in // compression) on *both* branches, as its
            DenseNets and ResNets do.
        block: (b_out, b_in); the draw is made between blocks.
        seed: An int or a numpy Generator.

    Returns:
        A graph with degree * num_out edges where num_in > num_out, else degree * num_in.

    Raises:
        ValueError: If the degree is below 1 or above the size drawn from, or the block does not
        divide.

    Examples:
        >>> released_graph(64, 256, compression=2).compression
        8.0
    """
    if num_in > num_out:
        return random_graph(
            num_in, num_out, degree=degree, compression=compression, block=block, seed=seed
        )
    if compression is not None and degree is None:
        drawn = base_size(num_in, num_out, None, compression, block).degree * block[1]
        # That many outputs an input, in whole blocks of outputs.
        degree, compression = max(1, drawn // block[0]) * block[0], None
    return random_fan_out_graph(
        num_in, num_out, degree=degree, compression=compression, block=block, seed=seed
    )


def draw_subsets(stream: Stream, rows: int, n: int, k: int) -> NDArray[np.int64]:
    """Draw for each row a uniform k-subset of range(n), shape (rows, k), unsorted.

    Floyd's algorithm (Bentley and Floyd, CACM 1987), one step for all rows at once: O(rows * k).
    """
    if 2 * k > n:  # cheaper to draw what is left out
        left_out = draw_subsets(stream, rows, n, n - k)
        keep = np.ones((rows, n), dtype=bool)
        keep[np.arange(rows)[:, None], left_out] = False
        return np.nonzero(keep)[1].reshape(rows, k)
    chosen = np.empty((rows, k), dtype=np.int64)
    step = max(1, _ROWS_BYTES // n)
    for start in range(0, rows, step):
        part = chosen[start : start + step]
        taken = np.zeros((len(part), n), dtype=bool)
        row = np.arange(len(part))
        for i, last in enumerate(range(n - k, n)):
            drawn = stream.below(last + 1, len(part))
            drawn[taken[row, drawn]] = last
            taken[row, drawn] = True
            part[:, i] = drawn
    return chosen
