"""Explicit expanders with a theorem: Margulis-Gabber-Galil, and bigraphs from array codes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._seed import Seed
from xnets.graphs._size import asked_degree, base_shape, is_prime, no_such_size


def margulis_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the Margulis-Gabber-Galil expander on m * m inputs and m * m outputs.

    Inputs and outputs are pairs modulo m. Input (x, y) is joined to the outputs (x + 2y, y),
    (x + 2y + 1, y), (x, y + 2x), (x, y + 2x + 1) and, backwards, to (x - 2y, y), (x - 2y - 1, y),
    (x, y - 2x), (x, y - 2x - 1). Theorem: counted with repetition, the graph is 8-regular and its
    second singular value is at most 5 sqrt(2) < 8 (Gabber, Galil, "Explicit
    constructions of linear-sized superconcentrators", 1981; in this form theorem 8.2 of Hoory,
    Linial, Wigderson, "Expander graphs and their applications", 2006). A layer has no parallel
    edges: the O(m) repeated ones of the 8 m^2 are kept once, so a few vertices have fewer than 8
    neighbours. Sets of neighbours, and with them vertex expansion, stay as they are.

    Args:
        num_in: Number of inputs, m * m in blocks.
        num_out: Number of outputs, the same in blocks.
        degree: If given, must be 8 in blocks.
        compression: If given, must mean degree 8 in blocks.
        block: (b_out, b_in); the expander is made of whole blocks.
        seed: Not used; here so that all families are called alike.

    Returns:
        A graph of degree at most 8 blocks on both sides.

    Raises:
        ValueError: If the sizes are not equal squares of m >= 5, or the degree is not 8.

    Examples:
        >>> margulis_graph(256, 256)
        BipartiteGraph(num_in=256, num_out=256, num_edges=1916, degree=5..8)
    """
    rows, columns = base_shape(num_in, num_out, block)
    asked = asked_degree(num_in, num_out, degree, compression, block)
    side = math.isqrt(columns)
    if rows != columns or side * side != columns or side < 5 or asked not in (None, 8):
        possible = ((m * m, m * m, 8) for m in range(5, 2 * side + 8))
        raise ValueError(no_such_size("margulis", columns, rows, asked, block, possible))
    x, y = np.divmod(np.arange(columns), side)
    outputs = [
        move % side * side + stay if axis == 0 else stay * side + move % side
        for axis, moved, stay in ((0, x, y), (1, y, x))
        for move in (moved + 2 * stay, moved + 2 * stay + 1, moved - 2 * stay, moved - 2 * stay - 1)
    ]
    # One number per pair (output, input), each kept once.
    pairs = np.unique(np.concatenate(outputs) * columns + np.tile(np.arange(columns), 8))
    edges = np.stack([pairs % columns, pairs // columns], axis=1)
    base = BipartiteGraph.from_edges(edges, columns, rows)
    return BipartiteGraph(num_in, num_out, base.indptr, base.indices, block)


def array_code_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the unbalanced Ramanujan bigraph of an array code, q * q against l * q vertices.

    The mask is a q x l matrix of permutations: block (i, j) is the i * j-th power of the cyclic
    shift of a prime order q. Theorem: the singular values are sqrt(q l) once, sqrt(q) if l <= q,
    else sqrt(q ceil(l / q)) and sqrt(q floor(l / q)), and 0; so the graph is Ramanujan for every
    l >= 2 (Burnwal, Sinha, Vidyasagar, "New and explicit constructions of unbalanced Ramanujan
    bipartite graphs", 2021, arXiv 1910.03937). For l <= q there is no cycle of length 4; for l > q
    the columns j and j + q are twins.

    Args:
        num_in: Number of inputs, in blocks l * q (or q * q).
        num_out: Number of outputs, in blocks q * q (or l * q, for the transposed graph).
        degree: If given, must be the l (or q) that the sizes imply, in blocks.
        compression: If given, must mean that degree: it is q.
        block: (b_out, b_in); the bigraph is made of whole blocks.
        seed: Not used; here so that all families are called alike.

    Returns:
        A graph of fan-in l and fan-out q, or the other way round.

    Raises:
        ValueError: If the sizes are not of this form, or another degree is asked.

    Examples:
        >>> graph = array_code_graph(15, 25)
        >>> graph
        BipartiteGraph(num_in=15, num_out=25, num_edges=75, degree=3)
        >>> graph.mask()[5:10].astype(int)
        array([[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0],
               [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0],
               [0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
               [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0],
               [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]])
    """
    rows, columns = base_shape(num_in, num_out, block)
    asked = asked_degree(num_in, num_out, degree, compression, block)
    for transposed, squared, other in ((False, rows, columns), (True, columns, rows)):
        order = math.isqrt(squared)
        if order * order != squared or not is_prime(order) or other % order or other < 2 * order:
            continue
        if asked not in (None, order if transposed else other // order):
            continue
        width = other // order
        shift = np.arange(order)[:, None, None] * np.arange(width)
        place = (np.arange(order)[:, None] + shift) % order
        table = (place + order * np.arange(width)).reshape(squared, width)
        base = BipartiteGraph.from_neighbors(table, other)
        base = base.transpose() if transposed else base
        return BipartiteGraph(num_in, num_out, base.indptr, base.indices, block)
    possible = _array_code_sizes(columns, rows)
    raise ValueError(no_such_size("array_code", columns, rows, asked, block, possible))


def _array_code_sizes(columns: int, rows: int) -> Iterable[tuple[int, int, int]]:
    """Possible (inputs, outputs, degree) around these sizes."""
    for squared, other, transposed in ((rows, columns, False), (columns, rows, True)):
        for order in range(2, 2 * math.isqrt(squared) + 4):
            if is_prime(order):
                for width in {max(2, other // order), max(2, -(-other // order))}:
                    sizes = (width * order, order * order, width)
                    yield (sizes[1], sizes[0], order) if transposed else sizes
