"""The families by name."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import numpy as np

from xnets._suggest import unknown_name
from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._biregular import biregular_graph
from xnets.graphs._butterfly import butterfly_graph, radix_graph
from xnets.graphs._explicit import array_code_graph, margulis_graph
from xnets.graphs._lift import lift_graph
from xnets.graphs._lps import lps_graph
from xnets.graphs._ramanujan import ramanujan_graph
from xnets.graphs._random import random_fan_out_graph, random_graph, released_graph
from xnets.graphs._seed import Seed
from xnets.graphs._structured import complete_graph, grouped_graph, shuffled_graph


class Family(Protocol):
    """A way to draw a graph of given sizes, degree or compression, block and seed.

    A family may take further keyword arguments, with defaults: its options.
    """

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
    "biregular": biregular_graph,
    "ramanujan": ramanujan_graph,
    "lift": lift_graph,
    "random_fan_out": random_fan_out_graph,
    "released": released_graph,
    "grouped": grouped_graph,
    "shuffled": shuffled_graph,
    "butterfly": butterfly_graph,
    "radix": radix_graph,
    "margulis": margulis_graph,
    "lps": lps_graph,
    "array_code": array_code_graph,
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
    **options: Any,
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
        **options: What only this family takes, see `list_options`: `kind` of a lift, `max_draws` of
            ramanujan, `stage` of a butterfly.

    Returns:
        The graph.

    Raises:
        ValueError: If the family is unknown, or cannot have these sizes.
        TypeError: If the family has no such option.

    Examples:
        >>> make_graph("random", 64, 32, compression=4, block=(4, 1))
        BipartiteGraph(num_in=64, num_out=32, num_edges=512, degree=16, block=(4, 1))
        >>> make_graph("lift", 64, 32, compression=4, kind="cyclic")
        BipartiteGraph(num_in=64, num_out=32, num_edges=512, degree=16)
    """
    known = list_options(family)
    for option in options:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has no options"
            raise TypeError(f"family {family!r} has no option `{option}`; {has}")
    draw: Any = FAMILIES[family]
    graph: BipartiteGraph = draw(
        num_in, num_out, degree=degree, compression=compression, block=block, seed=seed, **options
    )
    if not options and not isinstance(seed, np.random.Generator):
        object.__setattr__(graph, "drawn_from", (family, int(seed)))
    return graph


def list_families() -> list[str]:
    """The names that `make_graph` knows.

    Returns:
        The names, the paper's own first.

    Examples:
        >>> list_families()
        ['random', 'biregular', 'ramanujan', 'lift', 'random_fan_out', 'released', 'grouped',
         'shuffled', 'butterfly', 'radix', 'margulis', 'lps', 'array_code', 'complete']
    """
    return list(FAMILIES)


def list_options(family: str) -> list[str]:
    """The keyword arguments that only this family takes.

    Args:
        family: One of `list_families()`.

    Returns:
        Their names.

    Raises:
        ValueError: If the family is unknown.

    Examples:
        >>> list_options("radix"), list_options("random")
        (['stage', 'radices'], [])
    """
    if family not in FAMILIES:
        raise ValueError(unknown_name("family", family, FAMILIES))
    common = inspect.signature(Family.__call__).parameters
    return [name for name in inspect.signature(FAMILIES[family]).parameters if name not in common]
