"""Biregular graphs of any size: the same fan-in everywhere, the same fan-out within one."""

from __future__ import annotations

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._size import BaseSize, base_size
from xnets.graphs._switch import EdgeSwitcher

# Part of the seed's meaning, never change.
_REPAIR_ROUNDS = 200
_MIXING_TRIES = 1 << 16


def biregular_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return a random biregular graph: fan-in exactly D, fan-out constant within 1, any size.

    No input is unused, and with high probability the second singular value is within a vanishing
    distance of the Ramanujan bound sqrt(d1 - 1) + sqrt(d2 - 1) (Brito, Dumitriu, Harris, "Spectral
    gap in random bipartite biregular graphs and applications", 2022, arXiv 1804.07808). Drawn by
    the configuration model: a random pairing of half-edges, uniform given that it is simple
    (Bollobas, 1980); repeated edges are then switched away (as McKay and Wormald, 1990), of sparse
    graphs a vanishing share. Above density 1/2 the complement is drawn instead. O(edges).

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output D. Give this or `compression`.
        compression: How many times fewer edges than dense; D = max(1, num_in // compression).
        block: (b_out, b_in); the draw is made between blocks.
        seed: An int or a numpy Generator.

    Returns:
        A graph in which every output has fan-in D and all fan-outs are equal within 1 base edge.
        Inputs are unused only where there are fewer base edges than base inputs.

    Raises:
        ValueError: If the degree is below 1 or above num_in, or the block does not divide.

    Examples:
        >>> graph = biregular_graph(48, 32, compression=4)
        >>> set(graph.fan_in.tolist()), set(graph.fan_out.tolist())
        ({12}, {8})
    """
    size = base_size(num_in, num_out, degree, compression, block)
    return BipartiteGraph.from_neighbors(draw_biregular(Stream(seed), size), num_in, block=block)


def draw_biregular(stream: Stream, size: BaseSize) -> IntArray:
    """Draw the neighbours of every output, shape (num_out, degree), unsorted, fan-out within 1."""
    rows, columns, degree = size.num_out, size.num_in, size.degree
    if 2 * degree > columns:
        left_out = draw_biregular(stream, BaseSize(columns, rows, columns - degree))
        keep = np.ones((rows, columns), dtype=bool)
        keep[np.arange(rows)[:, None], left_out] = False
        return np.nonzero(keep)[1].reshape(rows, degree)
    edges = rows * degree
    fan_out = np.full(columns, edges // columns)
    fan_out[stream.permutation(columns)[: edges % columns]] += 1
    half_edges = np.repeat(np.arange(columns), fan_out)
    outputs = np.repeat(np.arange(rows), degree)
    for _ in range(10):
        switcher = EdgeSwitcher(half_edges[stream.permutation(edges)], outputs, (rows, columns))
        repeated = _repeated(switcher.inputs.reshape(rows, degree))
        if len(switcher.repair(repeated, stream, _REPAIR_ROUNDS)) == 0:
            # The repair of a small graph is not quite uniform; random switches are in the limit.
            switcher.shuffle(edges, stream, limit=min(2 * edges, _MIXING_TRIES))
            return switcher.inputs.reshape(rows, degree)
    # Not seen for any size. Runs of consecutive inputs are biregular and simple without luck.
    runs = stream.permutation(columns)[np.arange(edges) % columns]
    switcher = EdgeSwitcher(runs, outputs, (rows, columns))
    switcher.shuffle(10 * edges, stream, limit=100 * edges)
    return switcher.inputs.reshape(rows, degree)


def _repeated(table: IntArray) -> IntArray:
    """Positions in the flattened table of entries that repeat an entry of their row."""
    order = np.argsort(table, axis=1, kind="stable")
    in_order = np.take_along_axis(table, order, axis=1)
    row, place = np.nonzero(in_order[:, 1:] == in_order[:, :-1])
    repeated: IntArray = row * table.shape[1] + order[row, place + 1]
    return repeated
