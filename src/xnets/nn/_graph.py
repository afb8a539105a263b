"""From a layer's arguments to its graph."""

from __future__ import annotations

import numpy as np

from xnets.graphs import BipartiteGraph, Seed, disjoint_union, make_graph, spawn_seeds


def layer_graph(
    num_in: int,
    num_out: int,
    groups: int,
    *,
    compression: float | None,
    degree: int | None,
    graph: BipartiteGraph | None,
    family: str,
    block: tuple[int, int],
    seed: Seed,
    names: tuple[str, str],
) -> BipartiteGraph:
    """Take the graph given, or draw one for each of torch's `groups`.

    Args:
        num_in: Inputs of the layer.
        num_out: Outputs of the layer.
        groups: torch's `groups`: the layer is as many independent layers side by side, and degree
            and compression are meant within each.
        compression: How many times fewer edges than dense, or None.
        degree: Inputs per output, or None.
        graph: A graph over all inputs and outputs of the layer, or None.
        family: The family to draw from.
        block: (b_out, b_in).
        seed: An int or a numpy Generator.
        names: What the layer calls num_in and num_out, for error messages.

    Returns:
        A graph with these sizes whose edges stay within their group.

    Raises:
        ValueError: If not exactly one of compression, degree and graph is given, or it cannot be.
        TypeError: If `graph` is no BipartiteGraph.
    """
    options = {"compression": compression, "degree": degree, "graph": graph}
    given = [f"`{name}`" for name, value in options.items() if value is not None]
    if len(given) != 1:
        raise ValueError(
            "give exactly one of `compression`, `degree` and `graph`, "
            f"got {' and '.join(given) or 'none'}"
        )
    if graph is not None:
        return _check_graph(graph, num_in, num_out, groups, names)
    if groups == 1:
        return make_graph(
            family,
            num_in,
            num_out,
            degree=degree,
            compression=compression,
            block=block,
            seed=seed,
        )
    parts = [
        make_graph(
            family,
            num_in // groups,
            num_out // groups,
            degree=degree,
            compression=compression,
            block=block,
            seed=group_seed,
        )
        for group_seed in spawn_seeds(seed, groups)
    ]
    return disjoint_union(parts)


def _check_graph(
    graph: BipartiteGraph, num_in: int, num_out: int, groups: int, names: tuple[str, str]
) -> BipartiteGraph:
    if not isinstance(graph, BipartiteGraph):
        raise TypeError(
            f"`graph` must be an xnets.graphs.BipartiteGraph, got {type(graph).__name__}; "
            "see BipartiteGraph.from_mask and from_edges"
        )
    if (graph.num_in, graph.num_out) != (num_in, num_out):
        raise ValueError(
            f"`graph` joins {graph.num_in} inputs to {graph.num_out} outputs, but `{names[0]}` is "
            f"{num_in} and `{names[1]}` is {num_out}"
        )
    if groups > 1:
        inputs, outputs = graph.edges().T
        crosses = inputs // (num_in // groups) != outputs // (num_out // groups)
        if np.any(crosses):
            u, v = graph.edges()[np.flatnonzero(crosses)[0]]
            raise ValueError(
                f"`graph` has an edge from input {u} to output {v}, which crosses the `groups` "
                f"(={groups})"
            )
    return graph
