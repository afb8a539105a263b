"""Structured families: the baselines that expanders are compared with, and the complete graph."""

from __future__ import annotations

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._seed import Seed
from xnets.graphs._size import BaseSize, base_size


def grouped_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the graph of a grouped convolution: num_in / degree complete, disconnected groups.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output, the width of a group. Give this or `compression`.
        compression: The number of groups.
        block: (b_out, b_in); groups are made of whole blocks.
        seed: Not used; here so that all families are called alike.

    Returns:
        A graph whose mask is block diagonal.

    Raises:
        ValueError: If the groups do not divide num_in and num_out.

    Examples:
        >>> grouped_graph(4, 4, compression=2).mask().astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 1, 1]])
    """
    size, groups = _groups("grouped", num_in, num_out, degree, compression, block)
    group = np.arange(size.num_out) // (size.num_out // groups)
    neighbors = group[:, None] * size.degree + np.arange(size.degree)
    return BipartiteGraph.from_neighbors(neighbors, num_in, block=block)


def shuffled_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the graph of a channel shuffle followed by a grouped convolution.

    Group k of the outputs reads the inputs k, k + groups, k + 2 groups and so on, as in ShuffleNet
    (Zhang et al., CVPR 2018).

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output, the width of a group. Give this or `compression`.
        compression: The number of groups.
        block: (b_out, b_in); groups are made of whole blocks.
        seed: Not used; here so that all families are called alike.

    Returns:
        A graph whose groups are interleaved over the inputs.

    Raises:
        ValueError: If the groups do not divide num_in and num_out.

    Examples:
        >>> shuffled_graph(4, 4, compression=2).mask().astype(int)
        array([[1, 0, 1, 0],
               [1, 0, 1, 0],
               [0, 1, 0, 1],
               [0, 1, 0, 1]])
    """
    size, groups = _groups("shuffled", num_in, num_out, degree, compression, block)
    group = np.arange(size.num_out) // (size.num_out // groups)
    neighbors = group[:, None] + groups * np.arange(size.degree)
    return BipartiteGraph.from_neighbors(neighbors, num_in, block=block)


def complete_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the complete graph: the dense layer.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: If given, must be num_in.
        compression: If given, must be 1.
        block: (b_out, b_in).
        seed: Not used; here so that all families are called alike.

    Returns:
        The graph with all num_in * num_out edges.

    Raises:
        ValueError: If a degree or compression is given that is not the dense one.

    Examples:
        >>> complete_graph(4, 2)
        BipartiteGraph(num_in=4, num_out=2, num_edges=8, degree=4)
    """
    if degree is None and compression is None:
        compression = 1
    size = base_size(num_in, num_out, degree, compression, block)
    if size.degree != size.num_in:
        asked = f"`degree` (={degree})" if degree else f"`compression` (={compression})"
        raise ValueError(
            f"{asked} must be dense for the complete graph: degree={num_in} or compression=1"
        )
    neighbors = np.broadcast_to(np.arange(size.num_in), (size.num_out, size.num_in))
    return BipartiteGraph.from_neighbors(neighbors, num_in, block=block)


def _groups(
    family: str,
    num_in: int,
    num_out: int,
    degree: int | None,
    compression: float | None,
    block: tuple[int, int],
) -> tuple[BaseSize, int]:
    size = base_size(num_in, num_out, degree, compression, block)
    groups = size.num_in // size.degree
    if size.num_in % size.degree or size.num_out % groups:
        possible = [
            g for g in range(1, size.num_in + 1) if size.num_in % g == 0 and size.num_out % g == 0
        ]
        nearest = sorted(sorted(possible, key=lambda g: abs(g - groups))[:2])
        asked = f"`degree` (={degree})" if degree else f"`compression` (={compression})"
        raise ValueError(
            f"{asked} does not give a {family} graph: the number of groups must divide "
            f"{size.num_in} and {size.num_out} (`num_in` and `num_out` in blocks); "
            f"the nearest compressions that fit are {' and '.join(map(str, nearest))}"
        )
    return size, groups
