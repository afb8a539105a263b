"""Butterflies and RadiX-Nets: all stages together connect everything, evenly."""

from functools import reduce

import numpy as np
import pytest

from xnets.graphs import butterfly_graph, make_graph, radix_graph, singular_values

# n, D, number of stages: powers, and sizes that are none.
SQUARES = [(8, 2, 3), (16, 4, 2), (64, 4, 3), (64, 8, 2), (64, 16, 2), (12, 6, 2), (9, 9, 1)]


@pytest.mark.parametrize("family", ["butterfly", "radix"])
@pytest.mark.parametrize(
    ("size", "degree", "stages"), [*SQUARES, (32, 8, 2), (24, 12, 2), (1, 1, 1)]
)
def test_all_stages_connect_everything_evenly(
    family: str, size: int, degree: int, stages: int
) -> None:
    masks = []
    for stage in range(stages):
        graph = make_graph(family, size, size, degree=degree, stage=stage)
        assert graph.degree == degree
        assert set(graph.fan_out.tolist()) == {degree}
        masks.append(graph.mask().astype(int))
    paths = reduce(np.matmul, masks)
    # The theorem: the number of paths is the same for all pairs; one where n is a power of D.
    assert set(paths.reshape(-1).tolist()) == {degree**stages // size}
    if stages > 1:
        assert (reduce(np.matmul, masks[:-1]) == 0).any()
    with pytest.raises(ValueError, match=rf"`stage` \(={stages}\) must be in \[0, {stages}\)"):
        make_graph(family, size, size, degree=degree, stage=stages)


@pytest.mark.parametrize(("size", "degree", "stages"), SQUARES)
def test_spectrum_of_a_butterfly(size: int, degree: int, stages: int) -> None:
    for stage in range(stages):
        values = singular_values(butterfly_graph(size, size, degree=degree, stage=stage))
        expected = [degree] * (size // degree) + [0] * (size - size // degree)
        np.testing.assert_allclose(values, expected, atol=1e-9)


def test_first_and_last_stage() -> None:
    assert butterfly_graph(64, 64, degree=8, stage=0) == make_graph("grouped", 64, 64, degree=8)
    last = butterfly_graph(64, 64, degree=8, stage=1)
    shuffled = make_graph("shuffled", 64, 64, degree=8)
    rows = {tuple(row) for row in last.indices.reshape(64, 8).tolist()}
    assert rows == {tuple(row) for row in shuffled.indices.reshape(64, 8).tolist()}


def dirichlet(size: int, radix: int, place: int) -> np.ndarray:
    """The singular values of a circulant: the transform of its first column."""
    column = np.zeros(size)
    column[place * np.arange(radix) % size] = 1
    return np.sort(np.abs(np.fft.fft(column)))[::-1]


@pytest.mark.parametrize("radices", [(2, 3), (3, 2, 5), (4, 4), (24,), (2, 2, 2, 2)])
def test_radix_nets(radices: tuple[int, ...]) -> None:
    size = int(np.prod(radices))
    paths = np.eye(size, dtype=int)
    for stage, radix in enumerate(radices):
        graph = radix_graph(size, size, radices=radices, stage=stage)
        assert graph.degree == radix
        np.testing.assert_allclose(
            singular_values(graph), dirichlet(size, radix, int(np.prod(radices[:stage]))), atol=1e-9
        )
        paths = graph.mask().astype(int) @ paths
    np.testing.assert_array_equal(paths, np.ones((size, size)))


@pytest.mark.parametrize("family", ["butterfly", "radix"])
@pytest.mark.parametrize(("num_in", "num_out"), [(64, 128), (128, 64), (96, 64), (48, 32)])
def test_rectangles_are_kronecker_products(family: str, num_in: int, num_out: int) -> None:
    size = int(np.gcd(num_in, num_out))
    wide, tall = num_in // size, num_out // size
    graph = make_graph(family, num_in, num_out, degree=4 * wide, stage=1)
    square = make_graph(family, size, size, degree=4, stage=1)
    np.testing.assert_array_equal(graph.mask(), np.kron(square.mask(), np.ones((tall, wide))))
    assert graph.block == (1, 1)
    np.testing.assert_allclose(
        singular_values(graph)[:size], singular_values(square) * (wide * tall) ** 0.5, atol=1e-9
    )


@pytest.mark.parametrize("family", ["butterfly", "radix"])
def test_the_seed_chooses_the_stage(family: str) -> None:
    stages = [make_graph(family, 64, 64, degree=4, stage=stage) for stage in range(3)]
    for seed in range(6):
        assert make_graph(family, 64, 64, degree=4, seed=seed) == stages[seed % 3]
    generator = np.random.default_rng(0)
    drawn = [stages.index(make_graph(family, 64, 64, degree=4, seed=generator)) for _ in range(30)]
    assert set(drawn) == {0, 1, 2}


@pytest.mark.parametrize(
    ("sizes", "arguments", "message"),
    [
        ((64, 64), {"degree": 10}, r"`degree` \(=10\) gives no butterfly.* fit are 8 and 16"),
        ((24, 24), {"degree": 4}, r"the nearest degrees that fit are 12"),
        ((24, 24), {"degree": 16}, r"the nearest degrees that fit are 12 and 24"),
        ((64, 48), {"degree": 10}, r"radix degree / 4 must cover 16 vertices.* are 8 and 16"),
        ((64, 64), {"compression": 5}, r"\(=5\), that is degree 12, gives no .* are 8 and 16"),
        ((64, 64), {"degree": 12, "block": (2, 2)}, r"radix degree / 2 .* are 8 and 16"),
        ((8, 8), {"degree": 2, "stage": -1}, r"`stage` \(=-1\) must be in \[0, 3\)"),
    ],
)
def test_bad_sizes(sizes: tuple[int, int], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        butterfly_graph(*sizes, **arguments)


def test_the_nearest_degrees_do_fit() -> None:
    for num_in, num_out, block, degrees in [
        (64, 64, (1, 1), (8, 16)),
        (24, 24, (1, 1), (12, 24)),
        (64, 48, (1, 1), (8, 16)),
        (64, 64, (2, 2), (8, 16)),
    ]:
        for degree in degrees:
            graph = radix_graph(num_in, num_out, degree=degree, block=block)
            assert (graph.degree, graph.block) == (degree, block)


def test_bad_radices() -> None:
    with pytest.raises(ValueError, match=r"\(=\(2, 3\)\) must have the product 8, .* not 6"):
        radix_graph(8, 8, radices=(2, 3))
    with pytest.raises(ValueError, match="must have the product 8"):
        radix_graph(8, 8, radices=())
    with pytest.raises(ValueError, match="give `radices`, or one of"):
        radix_graph(8, 8, radices=(2, 4), degree=2)
    with pytest.raises(TypeError, match=r"`stage` \(=1.0\) must be an int or None"):
        radix_graph(8, 8, degree=2, stage=1.0)  # type: ignore[arg-type]
