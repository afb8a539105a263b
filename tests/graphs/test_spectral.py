"""Singular values: closed forms, edge cases, blocks, and the iteration against the dense truth."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xnets.graphs._spectral as spectral_module
from xnets.graphs import (
    BipartiteGraph,
    leading_singular_values,
    make_graph,
    ramanujan_bound,
    singular_values,
)
from xnets.graphs._spectral import Leading, estimated_values, is_within, second_singular_vectors


def empty(num_in: int, num_out: int) -> BipartiteGraph:
    return BipartiteGraph.from_edges(np.zeros((0, 2), dtype=int), num_in, num_out)


def ring(size: int) -> BipartiteGraph:
    return BipartiteGraph.from_neighbors([[i, (i + 1) % size] for i in range(size)], size)


CASES = {
    # name: (graph, first, second)
    "K(1,1)": (make_graph("complete", 1, 1), 1, 0),
    "one output": (make_graph("complete", 7, 1), math.sqrt(7), 0),
    "one input": (make_graph("complete", 1, 7), math.sqrt(7), 0),
    "one output, sparse": (make_graph("random", 7, 1, degree=3), math.sqrt(3), 0),
    "K(6,4)": (make_graph("complete", 6, 4), math.sqrt(24), 0),
    "K(6,4) in blocks": (make_graph("complete", 6, 4, block=(2, 3)), math.sqrt(24), 0),
    "matching": (BipartiteGraph.from_mask(np.eye(5)), 1, 1),
    "groups": (make_graph("grouped", 12, 8, compression=2), math.sqrt(24), math.sqrt(24)),
    "unequal groups": (
        BipartiteGraph.from_mask(
            np.kron(np.diag([1, 0]), np.ones((3, 3))) + np.diag([0] * 5 + [1])
        ),
        3,
        1,
    ),
    "ring": (ring(10), 2, 2 * math.cos(math.pi / 10)),
    "K minus a matching": (BipartiteGraph.from_mask(1 - np.eye(6)), 5, 1),
    "empty": (empty(4, 3), 0, 0),
    "empty, one by one": (empty(1, 1), 0, 0),
}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_closed_forms(name: str, exact: bool) -> None:
    graph, first, second = CASES[name]
    leading = leading_singular_values(graph, exact=exact)
    assert leading.first == pytest.approx(first, abs=1e-9)
    assert leading.second == pytest.approx(second, abs=1e-9)
    assert leading.gap == pytest.approx(1 - second / first if first else 0, abs=1e-9)
    assert leading.error < 1e-9
    assert leading.method == ("dense" if exact else "iterative")
    if second == 0:
        assert leading.second == 0  # not rounding noise
    if second == first:
        assert leading.gap == 0


FAMILIES = [
    ("random", {"degree": 3}),
    ("random", {"degree": 12}),
    ("random", {"degree": 1}),
    ("biregular", {"degree": 3}),
    ("biregular", {"degree": 2}),
    ("biregular", {"degree": 12}),
    ("random_fan_out", {"degree": 2}),
    ("grouped", {"degree": 10}),
    ("shuffled", {"degree": 150}),
    ("butterfly", {"degree": 300}),
]


@pytest.mark.parametrize(("num_in", "num_out"), [(300, 300), (300, 150), (300, 600)])
@pytest.mark.parametrize(("family", "arguments"), FAMILIES)
def test_the_iteration_agrees_with_the_dense_truth(
    family: str, arguments: dict, num_in: int, num_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a dense shortcut for small components, every path of the iteration is taken.
    monkeypatch.setattr(spectral_module, "DENSE_LIMIT", 8)
    graph = make_graph(family, num_in, num_out, **arguments)
    mask = graph.mask().astype(float)
    truth = np.linalg.svd(mask, compute_uv=False)
    deviation = np.linalg.norm(mask - mask.mean(), ord=2)
    leading = leading_singular_values(graph)
    assert leading.method == "iterative"
    for value, true in zip(
        (leading.first, leading.second, leading.deviation), (*truth[:2], deviation), strict=True
    ):
        assert abs(value - true) <= leading.error + 1e-12 * truth[0]
    assert leading.error <= 1e-8 * truth[0]


def test_next_to_no_gap_costs_exactness_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 600
    chain = BipartiteGraph.from_edges(
        [(j, i) for i in range(size) for j in (i, i + 1) if j < size], size, size
    )
    truth = singular_values(chain)
    exact = leading_singular_values(chain, exact=False)
    monkeypatch.setattr("xnets.graphs._spectral._LANCZOS_RESTARTS", 2)
    quick = leading_singular_values(chain, exact=False)
    assert quick.error > 100 * exact.error
    for leading in (quick, exact):
        for value, true in ((leading.first, truth[0]), (leading.second, truth[1])):
            assert abs(value - true) <= leading.error + 1e-12
    assert quick.error < 1e-5


def test_the_error_of_complete_pieces_covers_their_rounding() -> None:
    graph = make_graph("grouped", 2 * 1543, 2 * 1543, compression=2)
    leading = leading_singular_values(graph, exact=False)
    assert 0 < leading.error < 1e-8
    assert abs(leading.first - 1543) <= leading.error


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("shape", [(1, 4), (2, 2), (4, 3), (9, 9), (40, 25)])
def test_errors_are_bounds_on_true_singular_values(
    shape: tuple[int, int], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpmath = pytest.importorskip("mpmath")  # comes with torch
    monkeypatch.setattr(spectral_module, "DENSE_LIMIT", 8)
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < density for density in (0.3, 0.7, 0.95)]
    masks.append(np.repeat(masks[1][:, :1], shape[1], 1))  # rank 1
    masks.append(np.arange(shape[0])[:, None] % 2 == np.arange(shape[1]) % 2)  # multiple values
    for mask in masks:
        base = BipartiteGraph.from_mask(mask)
        graph = BipartiteGraph(
            base.num_in * 5, base.num_out * 3, base.indptr, base.indices, block=(3, 5)
        )
        with mpmath.workdps(40):
            scale, ones = mpmath.sqrt(15), mpmath.ones(*shape)
            matrix = mpmath.matrix(mask.astype(int).tolist())
            true = [*sorted(_svd(matrix), reverse=True), 0]
            deviation = max(_svd(matrix - ones * mpmath.mpf(int(mask.sum())) / mask.size))
            leading = leading_singular_values(graph, exact=exact)
            for value, truth in (
                (leading.first, true[0]),
                (leading.second, true[1]),
                (leading.deviation, deviation),
            ):
                assert abs(value - truth * scale) <= leading.error


def _svd(matrix: Any) -> list[Any]:
    import mpmath

    return list(mpmath.svd_r(matrix, compute_uv=False))


def test_the_dense_error_covers_small_values_taken_for_zero() -> None:
    # What is at most the rounding is taken for 0, and may itself be off by as much.
    matrix = make_graph("complete", 30, 20).biadjacency()
    first = math.sqrt(600)
    found = spectral_module._dense_leading(matrix)
    assert found.second == 0
    assert found.error >= 2 * spectral_module._rounding(matrix.shape, first)


def test_a_residual_below_its_own_rounding_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    # The second value is next to 1, but the Gram matrix adds up 600 products of a size of 600.
    monkeypatch.setattr(spectral_module, "DENSE_LIMIT", 8)
    mask = np.ones((600, 600))
    mask[0, 0] = mask[1, 1] = mask[1, 0] = 0
    leading = leading_singular_values(BipartiteGraph.from_mask(mask), exact=False)
    assert leading.second == pytest.approx(1.618, abs=0.01)
    assert leading.error > 600**3 * np.finfo(np.float64).eps / leading.second


@pytest.mark.parametrize(("apart", "gap"), [(1.5, 0), (2.5, 0.025)])
def test_a_gap_is_more_than_both_errors(apart: float, gap: float) -> None:
    leading = Leading(10, 10 - apart * 0.1, 0, error=0.1, method="dense")
    assert leading.gap == pytest.approx(gap)


@given(
    mask=st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
        lambda shape: st.lists(
            st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]),
            min_size=shape[0],
            max_size=shape[0],
        )
    ),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_blocks_are_exact(mask: list[list[bool]], block: tuple[int, int]) -> None:
    base = BipartiteGraph.from_mask(np.array(mask))
    graph = BipartiteGraph(
        base.num_in * block[1], base.num_out * block[0], base.indptr, base.indices, block
    )
    plain = graph.with_block((1, 1))
    truth = np.linalg.svd(plain.mask().astype(float), compute_uv=False)
    np.testing.assert_allclose(singular_values(graph), truth, atol=1e-9)
    whole, parts = leading_singular_values(plain), leading_singular_values(graph)
    for name in ("first", "second", "deviation", "gap"):
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), abs=1e-7), name


def test_the_second_singular_value_not_the_eigenvalue() -> None:
    # A checker that looks at the eigenvalues finds -3 and calls K(3,3) no expander.
    leading = leading_singular_values(make_graph("complete", 3, 3))
    assert is_within(leading.second, ramanujan_bound(3, 3))
    assert leading.gap == 1


def test_the_bound_may_be_met_exactly() -> None:
    # K(5,10)'s bound is 5; the ring meets its bound 2 in the limit; a value at the bound is within.
    assert ramanujan_bound(5, 10) == 5
    assert is_within(5 + 1e-10, 5.0)
    assert not is_within(5.001, 5.0)
    assert is_within(0.0, ramanujan_bound(1, 1))


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("family", ["random", "biregular"])
def test_second_vectors(family: str, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral_module, "DENSE_LIMIT", 4096 if small else 8)
    graph = make_graph(family, 200, 150, degree=8, block=(2, 2))
    matrix = graph.base.mask().astype(float)
    left, right = second_singular_vectors(graph)
    second = np.linalg.svd(matrix, compute_uv=False)[1]
    np.testing.assert_allclose(matrix @ right, second * left, atol=1e-6)
    np.testing.assert_allclose(matrix.T @ left, second * right, atol=1e-6)
    assert np.linalg.norm(left) == pytest.approx(1)


def test_second_vectors_of_a_single_vertex() -> None:
    left, right = second_singular_vectors(make_graph("random", 3, 1, degree=2))
    assert not left.any()
    assert not right.any()


@pytest.mark.parametrize("family", ["random", "grouped", "complete"])
def test_the_estimated_distribution(family: str) -> None:
    compression = 1 if family == "complete" else 15
    graph = make_graph(family, 600, 300, compression=compression, block=(2, 2))
    truth = singular_values(graph)[: min(graph.base_shape)]
    values, weights = estimated_values(graph)
    assert weights.sum() == pytest.approx(len(truth))
    for edge in np.quantile(truth, [0.1, 0.5, 0.9]) + 1e-6:
        assert weights[values <= edge].sum() == pytest.approx((truth <= edge).sum(), abs=25)


@pytest.mark.slow
def test_large_graphs_take_seconds() -> None:
    graph = make_graph("biregular", 8192, 8192, degree=64)
    leading = leading_singular_values(graph)
    assert leading.first == 64
    assert 15.5 < leading.second < 1.01 * ramanujan_bound(64, 64)
    assert leading.error < 1e-6
