"""The families: degrees, determinism, sizes they cannot have."""

import numpy as np
import pytest

from xnets.graphs import BipartiteGraph, list_families, make_graph, random_graph

FEW_SIZES = ("margulis", "lps", "array_code")  # explicit families, in test_explicit.py
SIZES = [(1, 1), (7, 5), (16, 16), (64, 256), (256, 64), (33, 9)]


@pytest.mark.parametrize("compression", [1, 2, 3.5, 8])
@pytest.mark.parametrize(("num_in", "num_out"), SIZES)
def test_random_has_the_papers_degree(num_in: int, num_out: int, compression: float) -> None:
    graph = make_graph("random", num_in, num_out, compression=compression)
    assert graph.degree == max(1, int(num_in / compression))
    assert graph.num_edges == graph.degree * num_out


@pytest.mark.parametrize(("num_in", "num_out"), SIZES)
def test_random_fan_out_is_the_mirror(num_in: int, num_out: int) -> None:
    graph = make_graph("random_fan_out", num_in, num_out, compression=2)
    assert set(graph.fan_out.tolist()) == {max(1, num_out // 2)}


def test_released_rule() -> None:
    # The original's argument e: fan-in where in > out, else fan-out (equal sizes: fan-out).
    wide_in = make_graph("released", 64, 32, degree=8)
    assert wide_in.degree == 8
    for num_out in (64, 256):
        graph = make_graph("released", 64, num_out, degree=8)
        assert set(graph.fan_out.tolist()) == {8}
        assert graph.num_edges == 8 * 64
    # A bottleneck's last convolution keeps 1/8 at compression 2, as counted in its released code.
    assert make_graph("released", 64, 256, compression=2).compression == 8
    blocked = make_graph("released", 64, 256, compression=2, block=(4, 2))
    assert set(blocked.fan_out.tolist()) == {32}  # the same rule in blocks
    assert blocked.compression == 8


@pytest.mark.parametrize("family", [f for f in list_families() if f not in FEW_SIZES])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), (2, 4), (8, 8)])
def test_blocks(family: str, block: tuple[int, int]) -> None:
    compression = 1 if family == "complete" else 2
    graph = make_graph(family, 32, 64, compression=compression, block=block)
    base = make_graph(family, 32 // block[1], 64 // block[0], compression=compression)
    if family not in ("random_fan_out", "released"):  # whose compression counts outputs
        assert graph.degree == 32 // compression
        np.testing.assert_array_equal(graph.base.mask(), base.mask())
    assert graph.block == block
    np.testing.assert_array_equal(
        graph.mask(), np.kron(graph.base.mask(), np.ones(block, dtype=bool))
    )


def test_grouped_and_shuffled() -> None:
    from torch import nn, ones_like

    conv = nn.Conv2d(12, 24, 1, groups=3)
    expected = np.kron(np.eye(3), np.ones((8, 4)))
    grouped = make_graph("grouped", 12, 24, compression=3)
    np.testing.assert_array_equal(grouped.mask(), expected)
    assert grouped.num_edges == ones_like(conv.weight).sum()
    # Shuffling channels, then grouping: output group k sees the inputs congruent to k.
    shuffled = make_graph("shuffled", 12, 24, compression=3)
    order = np.arange(12).reshape(4, 3).T.reshape(-1)
    np.testing.assert_array_equal(shuffled.mask()[:, order], expected)


def test_complete() -> None:
    assert make_graph("complete", 5, 3, degree=5).mask().all()
    with pytest.raises(ValueError, match=r"`compression` \(=2\) must be dense"):
        make_graph("complete", 4, 4, compression=2)
    with pytest.raises(ValueError, match=r"`degree` \(=3\) must be dense"):
        make_graph("complete", 4, 4, degree=3)


def test_random_is_uniform() -> None:
    # Each of the C(5, 2) = 10 subsets, and of the C(5, 4) = 5 drawn by complement, equally often.
    for degree, subsets in ((2, 10), (4, 5)):
        graph = random_graph(5, 20_000, degree=degree)
        _, counts = np.unique(graph.indices.reshape(-1, degree), axis=0, return_counts=True)
        assert len(counts) == subsets
        expected = 20_000 / subsets
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert chi2 < 28  # the 0.1 % point of chi-square with 9 degrees of freedom


PINNED = {
    ("random", (1, 1)): "73bd65824e84cd35",
    ("random", (4, 2)): "0e285b21d0b5aae3",
    ("random_fan_out", (1, 1)): "ba4963457baaaad5",
    ("released", (1, 1)): "73bd65824e84cd35",
    ("grouped", (1, 1)): "63ef3b37f6e2b315",
    ("shuffled", (1, 1)): "aa1f04fa869d368d",
}


@pytest.mark.parametrize(("family", "block"), PINNED)
def test_a_seed_names_the_same_graph_everywhere(family: str, block: tuple[int, int]) -> None:
    graph = make_graph(family, 96, 64, compression=4, block=block, seed=2018)
    assert graph.fingerprint()[:16] == PINNED[family, block]


def test_large_draws_do_not_depend_on_memory_layout() -> None:
    # More rows than one drawing table holds: the stream is consumed in a fixed order.
    graph = random_graph(5000, 40_000, degree=2, seed=3)
    assert graph.fingerprint()[:16] == "07bb80223de87f29"


def test_seeds() -> None:
    def draw(seed: object) -> BipartiteGraph:
        return make_graph("random", 64, 64, degree=4, seed=seed)  # type: ignore[arg-type]

    assert draw(0) == make_graph("random", 64, 64, degree=4) == draw(np.int64(0))
    assert draw(0) != draw(1)
    generator = np.random.default_rng(5)
    first, second = draw(generator), draw(generator)
    assert first != second
    assert first == draw(np.random.default_rng(5))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    draw(7)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    with pytest.raises(ValueError, match=r"`seed` \(=-1\) must be at least 0"):
        draw(-1)
    for bad in (None, "0", 0.5, True):
        with pytest.raises(TypeError, match=r"must be an int or a numpy\.random\.Generator"):
            draw(bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degree": 0}, r"`degree` \(=0\) must be at least 1"),
        ({"degree": 9}, r"`degree` \(=9\) must be at most `num_in` \(=8\)"),
        ({"compression": 0.5}, r"`compression` \(=0.5\) must be at least 1"),
        ({"compression": float("inf")}, r"must be at least 1 and finite"),
        ({"compression": float("nan")}, r"must be at least 1 and finite"),
        ({"compression": 2, "degree": 2}, "exactly one of `degree` and `compression`, got both"),
        ({}, "exactly one of `degree` and `compression`, got neither"),
        ({"degree": 2, "block": (3, 1)}, r"`num_out` \(=16\) must be a multiple of 3"),
        ({"degree": 3, "block": (1, 2)}, r"multiple of the block's side \(=2\).* are 2 and 4"),
        ({"compression": 4, "block": (1, 4)}, r"`num_in` \(=8\) has only 2 blocks of 4"),
        ({"degree": 2, "block": (0, 1)}, r"`block\[0\]` \(=0\) must be at least 1"),
    ],
)
def test_bad_sizes(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_graph("random", 8, 16, **arguments)


def test_bad_names_and_types() -> None:
    with pytest.raises(ValueError, match="unknown family 'randon'; did you mean 'random'"):
        make_graph("randon", 8, 8, degree=2)
    with pytest.raises(TypeError, match=r"`compression` \(='4'\) must be a number"):
        make_graph("random", 8, 8, compression="4")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`degree` \(=2.0\) must be an int"):
        make_graph("random", 8, 8, degree=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`degree` \(=9\) must be at most `num_out` \(=8\)"):
        make_graph("random_fan_out", 16, 8, degree=9)
    with pytest.raises(ValueError, match="nearest compressions that fit are 2 and 4"):
        make_graph("grouped", 12, 8, compression=3)
