"""Ramanujan graphs by drawing and checking: the bound, the count of draws, the failure."""

import numpy as np
import pytest

from xnets.graphs import (
    BipartiteGraph,
    NotRamanujanError,
    certify,
    count_components,
    draw_ramanujan,
    make_graph,
    ramanujan_bound,
    ramanujan_graph,
)
from xnets.graphs._spectral import Leading, leading_singular_values

SIZES = [
    (64, 64, 3),
    (128, 128, 4),
    (96, 64, 6),
    (64, 96, 4),
    (200, 100, 20),
    (60, 45, 24),
    (7, 7, 7),
]


@pytest.mark.parametrize(("num_in", "num_out", "degree"), SIZES)
def test_the_bound_is_met(num_in: int, num_out: int, degree: int) -> None:
    draw = draw_ramanujan(num_in, num_out, degree=degree, seed=1)
    fan_out = degree * num_out // num_in
    assert set(draw.graph.fan_in.tolist()) == {degree}
    assert set(draw.graph.fan_out.tolist()) == {fan_out}
    assert count_components(draw.graph) == 1
    # Computed here again, with nothing of ours.
    second = np.linalg.svd(draw.graph.mask().astype(float), compute_uv=False)[1]
    assert second == pytest.approx(draw.second, abs=1e-9)
    assert second <= draw.bound + 1e-9
    assert draw.bound == ramanujan_bound(degree, fan_out)
    assert draw.graph == ramanujan_graph(num_in, num_out, degree=degree, seed=1)
    assert certify(draw.graph).is_ramanujan


def test_the_draws_are_counted_and_bounded() -> None:
    draws = [draw_ramanujan(40, 40, degree=3, seed=seed).draws for seed in range(20)]
    assert min(draws) == 1
    many = int(np.argmax(draws))
    assert draws[many] > 1
    # Allowed exactly as many draws, the same graph is found; allowed one less, it is not.
    again = draw_ramanujan(40, 40, degree=3, seed=many, max_draws=draws[many])
    assert again.draws == draws[many]
    with pytest.raises(NotRamanujanError, match=r"bound 2\.82843; the best second") as caught:
        make_graph("ramanujan", 40, 40, degree=3, seed=many, max_draws=draws[many] - 1)
    best = caught.value.best
    assert 1 <= best.draws < draws[many]
    assert best.second > best.bound
    assert f"{best.second:.6g}" in str(caught.value)
    assert certify(best.graph).second == pytest.approx(best.second)


def test_blocks_are_about_the_base_graph() -> None:
    draw = draw_ramanujan(128, 64, degree=32, block=(2, 4))
    assert draw.graph.block == (2, 4)
    certificate = certify(draw.graph)
    assert certificate.base_is_ramanujan
    assert certificate.second == pytest.approx(draw.second * 8**0.5)
    assert not certificate.is_ramanujan


@pytest.mark.parametrize(
    ("sizes", "arguments", "message"),
    [
        ((64, 48), {"degree": 6}, r"`degree` \(=6\) .* cannot all have .* fit are 4 and 8"),
        (
            (64, 48),
            {"compression": 10},
            r"`degree` \(=6\) .* the nearest degrees that fit are 4 and 8",
        ),
        ((64, 64), {"degree": 1}, r"64 edges cannot connect 128 vertices; .* fit are 2"),
        ((64, 48), {"degree": 12, "block": (2, 2)}, r"counted in blocks; .* fit are 8 and 16"),
        ((64, 64), {"degree": 4, "max_draws": 0}, r"`max_draws` \(=0\) must be at least 1"),
    ],
)
def test_bad_sizes(sizes: tuple[int, int], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ramanujan_graph(*sizes, **arguments)


def test_one_input() -> None:
    assert ramanujan_graph(1, 5, degree=1).num_edges == 5
    assert ramanujan_graph(5, 1, degree=5).num_edges == 5
    assert ramanujan_graph(1, 1, degree=1).num_edges == 1


def test_graphs_in_pieces_cost_no_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def look(graph: BipartiteGraph) -> Leading:
        looked_at.append(graph)
        return leading_singular_values(graph)

    monkeypatch.setattr("xnets.graphs._ramanujan.leading_singular_values", look)
    draw = draw_ramanujan(64, 64, degree=2)
    assert draw.draws > 1
    assert [count_components(graph) for graph in looked_at] == [1]


def test_disconnected_draws_do_not_count() -> None:
    # Rings of all lengths meet the bound 2; only one ring through everything is accepted.
    draws = [draw_ramanujan(6, 6, degree=2, seed=seed) for seed in range(10)]
    assert {count_components(draw.graph) for draw in draws} == {1}
    assert max(draw.draws for draw in draws) > 1
