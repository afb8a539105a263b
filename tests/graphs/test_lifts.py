"""Lifts of complete graphs: degrees, permutations, the spectrum, the compact form."""

import numpy as np
import pytest

from xnets.graphs import (
    BipartiteGraph,
    CyclicLift,
    leading_singular_values,
    lift_graph,
    make_graph,
    ramanujan_bound,
    singular_values,
)

SIZES = [(64, 64, 4), (60, 45, 12), (48, 60, 8), (16, 8, 16), (5, 5, 1), (1, 1, 1), (128, 256, 64)]


@pytest.mark.parametrize("kind", ["random", "cyclic"])
@pytest.mark.parametrize(("num_in", "num_out", "degree"), SIZES)
def test_a_matrix_of_permutations(num_in: int, num_out: int, degree: int, kind: str) -> None:
    graph = lift_graph(num_in, num_out, degree=degree, kind=kind)
    size = num_in // degree
    tiles = graph.mask().reshape(num_out // size, size, degree, size)
    assert (tiles.sum(axis=1) == 1).all()
    assert (tiles.sum(axis=3) == 1).all()
    assert graph.degree == degree
    assert set(graph.fan_out.tolist()) == {num_out // size}
    # The singular values of the complete graph stay: sqrt(degree * fan_out) is the first.
    first = leading_singular_values(graph).first
    assert first == pytest.approx((degree * num_out / size) ** 0.5)


@pytest.mark.parametrize("kind", ["random", "cyclic"])
@pytest.mark.parametrize(
    ("num_in", "num_out", "degree"), [(256, 256, 128), (256, 128, 32), (256, 512, 16)]
)
def test_new_singular_values_are_near_the_bound(
    num_in: int, num_out: int, degree: int, kind: str
) -> None:
    graph = lift_graph(num_in, num_out, degree=degree, kind=kind)
    bound = ramanujan_bound(degree, int(graph.fan_out[0]))
    assert leading_singular_values(graph).second < 1.15 * bound


def test_kinds_differ_and_seeds_too() -> None:
    graphs = [
        lift_graph(64, 64, degree=8, kind=kind, seed=seed)
        for kind in ("random", "cyclic")
        for seed in (0, 1)
    ]
    assert len({graph.fingerprint() for graph in graphs}) == 4


def test_random_lifts_use_all_permutations_equally() -> None:
    graph = lift_graph(3, 3 * 2000, degree=1)  # 2000 permutations of 3
    orders = graph.indices.reshape(2000, 3)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 2000 / 6) ** 2 / (2000 / 6)).sum() < 20.5  # 0.1 % point, 5 degrees of freedom


@pytest.mark.parametrize(("num_in", "num_out", "degree"), SIZES)
def test_the_compact_form_is_the_graph(num_in: int, num_out: int, degree: int) -> None:
    graph = lift_graph(num_in, num_out, degree=degree, kind="cyclic", seed=3)
    lift = CyclicLift.from_graph(graph, size=num_in // degree)
    assert lift.graph() == graph
    assert lift.shifts.size * lift.size == graph.num_edges
    values = lift.singular_values()
    np.testing.assert_allclose(values[: min(num_in, num_out)], singular_values(graph), atol=1e-9)
    assert not lift.shifts.flags.writeable


def test_from_graph_refuses_other_graphs() -> None:
    cyclic = make_graph("lift", 12, 12, degree=4, kind="cyclic", block=(2, 2))
    assert CyclicLift.from_graph(cyclic, size=3).graph() == cyclic.base
    others = [
        make_graph("lift", 64, 64, degree=8, kind="random"),
        make_graph("random", 64, 64, degree=8),
        make_graph("grouped", 64, 64, degree=8),
        make_graph("random", 62, 64, degree=8),
        BipartiteGraph.from_mask(np.triu(np.ones((16, 64)))[:, ::-1]),
    ]
    for graph in others:
        with pytest.raises(ValueError, match="no cyclic lift of size 8 of a complete graph"):
            CyclicLift.from_graph(graph, size=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"degree": 12},
            r"`degree` \(=12\) .* must divide 64 and 48 .* nearest that fit are 8 and 16",
        ),
        ({"compression": 3}, r"`compression` \(=3\) .* the nearest that fit are 2 and 4"),
        ({"degree": 8, "kind": "odd"}, r"`kind` \(='odd'\) must be one of 'random', 'cyclic'"),
    ],
)
def test_bad_sizes(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lift_graph(64, 48, **arguments)


def test_the_nearest_sizes_do_fit() -> None:
    for degree in (8, 16):
        assert lift_graph(64, 48, degree=degree).degree == degree
    with pytest.raises(ValueError, match="nearest that fit are 16 and 32"):
        lift_graph(64, 48, degree=24, block=(1, 2))
    for degree in (16, 32):
        assert lift_graph(64, 48, degree=degree, block=(1, 2)).degree == degree


@pytest.mark.parametrize(
    ("shifts", "size", "message"),
    [
        ([1, 2], 3, r"`shifts` must have shape \(outputs, inputs\)"),
        ([[3]], 3, r"`shifts` must lie in \[0, 3\)"),
        ([[0]], 0, r"`size` \(=0\) must be at least 1"),
    ],
)
def test_bad_shifts(shifts: list, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CyclicLift(shifts, size)
