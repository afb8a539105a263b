"""Ramanujan graphs of any feasible degrees: draw biregular graphs and check."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._biregular import draw_biregular
from xnets.graphs._checks import check_size
from xnets.graphs._paths import count_components
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._size import BaseSize, base_size, nearest
from xnets.graphs._spectral import is_within, leading_singular_values, ramanujan_bound


class NotRamanujanError(ValueError):
    """No draw met the bound.

    Attributes:
        best: The best draw.
    """

    def __init__(self, message: str, best: RamanujanDraw) -> None:
        super().__init__(message)
        self.best = best


@dataclass(frozen=True)
class RamanujanDraw:
    """A graph and how it was found.

    Args:
        graph: The graph.
        draws: How many graphs were drawn until this one.
        second: The second singular value of the base graph.
        bound: The Ramanujan bound of the base graph.
    """

    graph: BipartiteGraph
    draws: int
    second: float
    bound: float


def ramanujan_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
    max_draws: int = 100,
) -> BipartiteGraph:
    """Return a random biregular graph within the Ramanujan bound, found by drawing and checking.

    The second singular value of the base graph is at most sqrt(d1 - 1) + sqrt(d2 - 1): computed,
    not hoped for. Bipartite Ramanujan graphs of equal sides exist for all degrees and sizes
    (Marcus, Spielman, Srivastava, "Interlacing families IV", 2015, arXiv 1505.08010), of unequal
    sides wherever one side divides the other (Gribinski, Marcus, 2021, arXiv 2108.02534). A random
    one comes within a vanishing distance of the bound, and meets it often enough that few draws
    suffice; `draw_ramanujan` says how many.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output D. Give this or `compression`.
        compression: How many times fewer edges than dense; D = max(1, num_in // compression).
        block: (b_out, b_in). The bound holds for the base graph. No graph of large blocks is itself
            Ramanujan: its second singular value is sqrt(b_out b_in) times that of the base.
        seed: An int or a numpy Generator.
        max_draws: After how many draws to give up.

    Returns:
        A connected graph, exactly biregular, whose base is Ramanujan.

    Raises:
        NotRamanujanError: If no draw met the bound; it carries the best. A ValueError.
        ValueError: If no graph of these sizes has one fan-in and one fan-out.

    Examples:
        >>> ramanujan_graph(64, 32, degree=8)
        BipartiteGraph(num_in=64, num_out=32, num_edges=256, degree=8)
    """
    return draw_ramanujan(
        num_in,
        num_out,
        degree=degree,
        compression=compression,
        block=block,
        seed=seed,
        max_draws=max_draws,
    ).graph


def draw_ramanujan(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
    max_draws: int = 100,
) -> RamanujanDraw:
    """Draw biregular graphs until one is Ramanujan, and say how many draws it took.

    Args:
        num_in: As of `ramanujan_graph`.
        num_out: As of `ramanujan_graph`.
        degree: As of `ramanujan_graph`.
        compression: As of `ramanujan_graph`.
        block: As of `ramanujan_graph`.
        seed: As of `ramanujan_graph`.
        max_draws: As of `ramanujan_graph`.

    Returns:
        The graph, the number of draws, the singular value and the bound.

    Raises:
        NotRamanujanError: If no draw met the bound.
        ValueError: If no graph of these sizes has one fan-in and one fan-out.

    Examples:
        >>> draw = draw_ramanujan(64, 64, degree=3)
        >>> draw.draws, draw.second <= draw.bound
        (1, True)
    """
    max_draws = check_size("max_draws", max_draws)
    size = base_size(num_in, num_out, degree, compression, block)
    _check_degree(size, block)
    fan_out = size.num_out * size.degree // size.num_in
    bound, first = ramanujan_bound(size.degree, fan_out), math.sqrt(size.degree * fan_out)
    stream = Stream(seed)
    best: RamanujanDraw | None = None
    for draws in range(1, max_draws + 1):
        neighbors = np.sort(draw_biregular(stream, size), axis=1)
        graph = BipartiteGraph.from_neighbors(neighbors, num_in, block=block)
        connected = count_components(graph.base) == 1
        # The second value of a graph in pieces is its first; to find that out so is slow.
        second, error = first, 0.0
        if connected:
            leading = leading_singular_values(graph.base)
            second, error = leading.second, leading.error
        if best is None or second < best.second:
            best = RamanujanDraw(graph, draws, second, bound)
        # Graphs in pieces are within the bound where both degrees are at most 2.
        if connected and is_within(second + error, bound):
            return RamanujanDraw(graph, draws, second, bound)
    assert best is not None  # max_draws is at least 1
    raise NotRamanujanError(
        f"none of `max_draws` (={max_draws}) draws of degrees {size.degree} and {fan_out} met the "
        f"Ramanujan bound {bound:.6g}; the best second singular value was {best.second:.6g}; "
        "allow more draws, or take another seed or a larger degree",
        best,
    )


def _check_degree(size: BaseSize, block: tuple[int, int]) -> None:
    """Raise unless all fan-outs can be equal and the graph connected."""
    # The edges are shared out evenly if D is a multiple of this.
    unit = size.num_in // math.gcd(size.num_in, size.num_out)
    least = size.num_in + size.num_out - 1  # the edges of a spanning tree
    fitting = [d for d in range(unit, size.num_in + 1, unit) if d * size.num_out >= least]
    if size.degree not in fitting:
        why = "the inputs cannot all have the same fan-out"
        if size.degree * size.num_out < least:
            why = f"{size.degree * size.num_out} edges cannot connect {least + 1} vertices"
        in_blocks = "" if tuple(block) == (1, 1) else ", counted in blocks"
        degrees = [d * block[1] for d in fitting]
        raise ValueError(
            f"`degree` (={size.degree * block[1]}) gives no ramanujan graph: {why}{in_blocks}; "
            f"the nearest degrees that fit are {nearest(degrees, size.degree * block[1])}"
        )
