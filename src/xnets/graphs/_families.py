"""The families by name."""

from __future__ import annotations

from typing import Protocol

from xnets._suggest import unknown_name
from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._random import random_fan_out_graph, random_graph, released_graph
from xnets.graphs._seed import Seed
from xnets.graphs._structured import complete_graph, grouped_graph, shuffled_graph


class Family(Protocol):
    """A way to draw a graph of given sizes, degree or compression, block and seed."""

    def __call__(
        self,
        num_in: int,
        num_out: int,
        *,
        degree: int | None = None,
        compression: float | None = None,
        block: tuple[int, int] = (1, 1),
        seed: Seed = 0,
    ) -> BipartiteGraph:
        """Draw one graph."""


FAMILIES: dict[str, Family] = {
    "random": random_graph,
    "random_fan_out": random_fan_out_graph,
    "released": released_graph,
    "grouped": grouped_graph,
    "shuffled": shuffled_graph,
    "complete": complete_graph,
}


def make_graph(
    family: str,
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Draw a bipartite graph of a named family.

    Args:
        family: One of `list_families()`.
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Neighbours per drawing vertex (inputs per output, except in `random_fan_out`). Give
            this or `compression`.
        compression: How many times fewer edges than dense: D = max(1, num_in // compression).
        block: (b_out, b_in): the graph is a base graph times the complete graph on a block.
        seed: An int or a numpy Generator; the same int gives the same graph everywhere.

    Returns:
        The graph.

    Raises:
        ValueError: If the family is unknown, or cannot have these sizes.

    Examples:
        >>> make_graph("random", 64, 32, compression=4, block=(4, 1))
        BipartiteGraph(num_in=64, num_out=32, num_edges=512, degree=16, block=(4, 1))
    """
    if family not in FAMILIES:
        raise ValueError(unknown_name("family", family, FAMILIES))
    return FAMILIES[family](
        num_in, num_out, degree=degree, compression=compression, block=block, seed=seed
    )


def list_families() -> list[str]:
    """The names that `make_graph` knows.

    Examples:
        >>> list_families()
        ['random', 'random_fan_out', 'released', 'grouped', 'shuffled', 'complete']
    """
    return list(FAMILIES)
