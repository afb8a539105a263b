"""Depth to full sensitivity, against boolean matrix products and by hand."""

import numpy as np
import pytest

from xnets.graphs import BipartiteGraph, make_graph, stack_depth


def by_matrices(layers: list[BipartiteGraph]) -> tuple[int | None, int, int]:
    """The same by dense products, one layer after the other."""
    reach = np.eye(layers[0].num_in, dtype=int)
    for depth, layer in enumerate(layers, start=1):
        reach = np.minimum(layer.mask().astype(int) @ reach, 1)
        seen, sighted = reach.any(axis=0), reach.any(axis=1)
        if (reach == np.outer(sighted, seen)).all():
            return depth, int((~seen).sum()), int((~sighted).sum())
    return None, 0, 0


@pytest.mark.parametrize("family", ["random", "random_fan_out", "biregular", "radix", "grouped"])
@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_matrix_products(family: str, degree: int, seed: int) -> None:
    # More than 512 inputs would be followed in several parts: see below.
    layers = [make_graph(family, 64, 64, degree=degree, seed=10 * seed + i) for i in range(16)]
    found = stack_depth(layers)
    assert (found.depth, found.lost_inputs, found.blind_outputs) == by_matrices(layers)


def test_random_layers_lose_inputs_and_biregular_ones_do_not() -> None:
    random = stack_depth(make_graph("random", 700, 700, degree=3, seed=i) for i in range(20))
    first_unused = int((make_graph("random", 700, 700, degree=3).fan_out == 0).sum())
    assert random.lost_inputs >= first_unused > 10
    assert not random.is_full
    fan_out = stack_depth(
        make_graph("random_fan_out", 700, 700, degree=3, seed=i) for i in range(20)
    )
    assert fan_out.blind_outputs > 10
    assert not fan_out.is_full
    biregular = stack_depth(make_graph("biregular", 700, 700, degree=3, seed=i) for i in range(20))
    assert biregular.is_full
    assert biregular.depth is not None
    assert 6 <= biregular.depth <= 10  # log 700 / log 3 = 5.96


def test_rectangles_and_blocks() -> None:
    layers = [
        make_graph("biregular", 96, 1040, degree=8, block=(4, 2), seed=0),
        make_graph("biregular", 1040, 48, degree=16, block=(4, 4), seed=1),
        make_graph("biregular", 48, 48, degree=16, seed=2),
        make_graph("biregular", 48, 12, degree=16, seed=3),
    ]
    found = stack_depth(layers)
    assert (found.depth, found.lost_inputs, found.blind_outputs) == by_matrices(layers)
    assert found.depth == 4


def test_many_inputs_are_followed_in_parts() -> None:
    # Output 0 alone is late: input 1299, in the last part of the starts, comes a layer later.
    first = np.ones((4, 1300), dtype=int)
    first[0, 1299] = 0
    layers = [BipartiteGraph.from_mask(first), make_graph("complete", 4, 4)]
    assert stack_depth(layers).depth == 2
    assert stack_depth(layers[:1]).depth is None


def test_an_infinite_stack_is_given_up() -> None:
    graph = make_graph("grouped", 8, 8, degree=4)
    found = stack_depth(iter(lambda: graph, None), max_depth=5)
    assert found.depth is None
    assert found.layers == 5
    assert not found.is_full


def test_errors() -> None:
    with pytest.raises(ValueError, match="`layers` must hold at least one graph"):
        stack_depth([])
    with pytest.raises(ValueError, match=r"layer 1 has `num_in` \(=8\), but the layer bef"):
        stack_depth([make_graph("random", 8, 4, degree=1), make_graph("random", 8, 4, degree=1)])
    with pytest.raises(ValueError, match=r"`max_depth` \(=0\) must be at least 1"):
        stack_depth([make_graph("complete", 2, 2)], max_depth=0)
