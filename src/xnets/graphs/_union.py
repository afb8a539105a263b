"""Graphs made of graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph


def disjoint_union(graphs: Sequence[BipartiteGraph]) -> BipartiteGraph:
    """Put graphs side by side without edges between them: a block-diagonal mask.

    Args:
        graphs: At least one graph; all with the same block.

    Returns:
        The graph whose inputs and outputs are those of `graphs`, one after the other.

    Raises:
        ValueError: If there is no graph, or the blocks differ.

    Examples:
        >>> one = BipartiteGraph.from_mask([[1, 1]])
        >>> disjoint_union([one, one]).mask().astype(int)
        array([[1, 1, 0, 0],
               [0, 0, 1, 1]])
    """
    if not graphs:
        raise ValueError("`graphs` must hold at least one graph")
    block = graphs[0].block
    if any(graph.block != block for graph in graphs):
        blocks = sorted({graph.block for graph in graphs})
        raise ValueError(f"`graphs` must all have the same block, got {blocks}")
    input_start = np.cumsum([0] + [graph.base_shape[1] for graph in graphs])
    degrees = np.concatenate([np.diff(graph.indptr) for graph in graphs])
    return BipartiteGraph(
        sum(graph.num_in for graph in graphs),
        sum(graph.num_out for graph in graphs),
        np.concatenate(([0], np.cumsum(degrees))),
        np.concatenate([g.indices + s for g, s in zip(graphs, input_start, strict=False)]),
        block,
    )
