"""Biregular graphs: exact degrees for any size, uniform enough, near the Ramanujan bound."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xnets.graphs._biregular as biregular_module
from xnets.graphs import biregular_graph, leading_singular_values, make_graph, ramanujan_bound


@given(
    num_in=st.integers(1, 40), num_out=st.integers(1, 40), data=st.data(), seed=st.integers(0, 999)
)
def test_degrees(num_in: int, num_out: int, data: st.DataObject, seed: int) -> None:
    degree = data.draw(st.integers(1, num_in))
    graph = biregular_graph(num_in, num_out, degree=degree, seed=seed)
    assert set(graph.fan_in.tolist()) == {degree}
    mean = degree * num_out / num_in
    assert set(graph.fan_out.tolist()) <= {math.floor(mean), math.ceil(mean)}
    assert graph.is_biregular
    assert graph == biregular_graph(num_in, num_out, degree=degree, seed=seed)


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (1, 4), (8, 8)])
def test_blocks(block: tuple[int, int]) -> None:
    graph = make_graph("biregular", 64, 128, compression=4, block=block)
    assert graph.degree == 16
    assert set(graph.fan_out.tolist()) == {32}
    base = make_graph("biregular", 64 // block[1], 128 // block[0], compression=4)
    assert graph.base == base


@pytest.mark.parametrize(
    ("num_in", "num_out", "degree"),
    [(512, 512, 4), (512, 512, 32), (512, 256, 8), (256, 512, 8), (300, 500, 21), (256, 256, 200)],
)
def test_second_singular_value_is_near_the_bound(num_in: int, num_out: int, degree: int) -> None:
    graph = biregular_graph(num_in, num_out, degree=degree)
    bound = ramanujan_bound(degree, degree * num_out / num_in)
    assert leading_singular_values(graph).second < 1.03 * bound


@pytest.mark.parametrize("seed", range(5))
def test_no_input_is_unused(seed: int) -> None:
    # One-sided random graphs of this size and degree leave about 512 / e^4 = 9 inputs unused.
    assert biregular_graph(512, 512, degree=4, seed=seed).fan_out.min() == 4
    assert (make_graph("random", 512, 512, degree=4, seed=seed).fan_out == 0).any()


@pytest.mark.parametrize(
    ("num_in", "num_out", "degree", "graphs"), [(6, 3, 2, 90), (3, 6, 1, 90), (3, 4, 2, 36)]
)
def test_uniform(num_in: int, num_out: int, degree: int, graphs: int) -> None:
    # All graphs with these degrees (90 = 6! / 2!^3, twice; 36 = 4! / 2! * 3), equally often.
    draws = 20 * graphs
    seen: dict[str, int] = {}
    for seed in range(draws):
        key = biregular_graph(num_in, num_out, degree=degree, seed=seed).fingerprint()
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == graphs
    chi2 = sum((count - 20) ** 2 / 20 for count in seen.values())
    freedom = graphs - 1
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(("num_in", "num_out", "degree"), [(9, 7, 4), (16, 16, 8), (12, 30, 5)])
def test_without_luck(
    monkeypatch: pytest.MonkeyPatch, num_in: int, num_out: int, degree: int
) -> None:
    monkeypatch.setattr(biregular_module, "_REPAIR_ROUNDS", 0)
    graph = biregular_graph(num_in, num_out, degree=degree)
    assert graph.is_biregular
    assert graph.degree == degree
    assert graph != biregular_graph(num_in, num_out, degree=degree, seed=1)


PINNED = {
    (96, 64, 24): "99a72fb7164688fb",
    (96, 64, 80): "62e0ed8bab499384",
    (512, 512, 8): "8be46d05daa29907",
}


@pytest.mark.parametrize("size", PINNED)
def test_a_seed_names_the_same_graph_everywhere(size: tuple[int, int, int]) -> None:
    graph = biregular_graph(size[0], size[1], degree=size[2], seed=2018)
    assert graph.fingerprint()[:16] == PINNED[size]


def test_seeds() -> None:
    generator = np.random.default_rng(5)
    first = biregular_graph(32, 32, degree=4, seed=generator)
    assert first != biregular_graph(32, 32, degree=4, seed=generator)
    assert first == biregular_graph(32, 32, degree=4, seed=np.random.default_rng(5))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"`degree` \(=9\) must be at most `num_in` \(=8\)"):
        biregular_graph(8, 8, degree=9)
    with pytest.raises(ValueError, match="exactly one of `degree` and `compression`"):
        biregular_graph(8, 8)
