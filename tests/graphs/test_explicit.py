"""Explicit families: the theorem's spectrum, degrees, and sizes that they cannot have."""

import math
import re

import numpy as np
import pytest

from xnets.graphs import (
    array_code_graph,
    count_components,
    diameter,
    girth,
    leading_singular_values,
    lps_graph,
    make_graph,
    margulis_graph,
    ramanujan_bound,
    singular_values,
)

# --- Margulis-Gabber-Galil -----------------------------------------------------------------------


def margulis_with_repetition(side: int) -> np.ndarray:
    """The definition, one vertex at a time: T1 v, T2 v, T1 v + e1, T2 v + e2 and the inverses."""
    matrix = np.zeros((side * side, side * side), dtype=int)
    for x in range(side):
        for y in range(side):
            for u, v in ((x + 2 * y, y), (x + 2 * y + 1, y), (x, y + 2 * x), (x, y + 2 * x + 1)):
                there, here = u % side * side + v % side, x * side + y
                matrix[there, here] += 1
                matrix[here, there] += 1
    return matrix


@pytest.mark.parametrize("side", [5, 6, 7, 8, 11, 16, 21])
def test_margulis(side: int) -> None:
    graph = margulis_graph(side * side, side * side)
    counted = margulis_with_repetition(side)
    assert set(counted.sum(axis=0).tolist()) == {8}
    # The theorem is about the graph with its repetitions; ours keeps each edge once.
    np.testing.assert_array_equal(graph.mask(), counted > 0)
    assert np.linalg.svd(counted, compute_uv=False)[1] <= 5 * math.sqrt(2)
    assert graph.fan_in.max() == graph.fan_out.max() == 8
    assert graph.num_edges >= 8 * side**2 - 16 * side - 8
    leading = leading_singular_values(graph)
    assert leading.second <= 5 * math.sqrt(2)
    assert count_components(graph) == 1


def test_margulis_gap_does_not_close() -> None:
    gaps = [leading_singular_values(margulis_graph(m * m, m * m)).gap for m in (10, 20, 30, 50)]
    assert min(gaps) > 0.2
    assert leading_singular_values(make_graph("radix", 1000, 1000, degree=10, stage=0)).gap < 0.01


@pytest.mark.parametrize("block", [(2, 2), (1, 4)])
def test_margulis_blocks(block: tuple[int, int]) -> None:
    graph = make_graph("margulis", 49 * block[1], 49 * block[0], degree=8 * block[1], block=block)
    assert graph.base == margulis_graph(49, 49)
    assert graph.block == block


# --- LPS -----------------------------------------------------------------------------------------

# Primes p < q^2 / 4: every remainder modulo 4, squares and not.
LPS = [(3, 5), (3, 7), (5, 7), (11, 7), (3, 11), (5, 11), (7, 11), (13, 11), (29, 11), (3, 13)]


@pytest.mark.parametrize(("p", "q"), LPS)
def test_lps_is_ramanujan(p: int, q: int) -> None:
    size = q * (q * q - 1) // 2
    graph = lps_graph(size, size, degree=p + 1)
    assert set(graph.fan_in.tolist()) == set(graph.fan_out.tolist()) == {p + 1}
    leading = leading_singular_values(graph)
    assert leading.first == pytest.approx(p + 1)
    assert leading.second <= 2 * math.sqrt(p) + 1e-9
    assert count_components(graph) == 1
    is_square = p % q in {x * x % q for x in range(1, q)}
    if not is_square:
        assert girth(graph).low >= 4 * math.log(q, p) - math.log(4, p)


def test_lps_large() -> None:
    graph = lps_graph(2448, 2448, degree=6)  # p = 5, q = 17
    leading = leading_singular_values(graph)
    assert leading.method == "iterative"
    assert leading.second + leading.error <= 2 * math.sqrt(5) + 1e-9


def test_lps_compression_and_block() -> None:
    assert lps_graph(60, 60, compression=15).degree == 4
    graph = lps_graph(120, 240, degree=8, block=(4, 2))
    assert graph.base == lps_graph(60, 60, degree=4)


# --- array codes ---------------------------------------------------------------------------------

ARRAY = [(2, 2), (2, 5), (3, 2), (3, 3), (3, 4), (5, 2), (5, 5), (5, 13), (7, 3), (7, 14), (11, 4)]


@pytest.mark.parametrize(("order", "width"), ARRAY)
def test_array_codes_have_the_theorems_spectrum(order: int, width: int) -> None:
    graph = array_code_graph(width * order, order * order)
    assert set(graph.fan_in.tolist()) == {width}
    assert set(graph.fan_out.tolist()) == {order}
    more, least = width % order, width // order
    squares = (
        [order * width]
        + [order * (least + 1)] * (more * (order - 1))
        + [order * least] * ((order - more) * (order - 1))
    )
    expected = np.zeros(min(graph.num_in, graph.num_out))
    expected[: len(squares)] = np.sqrt(squares)[: len(expected)]
    np.testing.assert_allclose(singular_values(graph), expected, atol=1e-9)
    assert leading_singular_values(graph).second <= ramanujan_bound(width, order) + 1e-9
    assert count_components(graph) == 1
    expected_girth = 4 if width > order else 6 if min(width, order) > 2 else 8
    assert girth(graph).low == expected_girth
    assert diameter(graph).low <= 4


@pytest.mark.parametrize(("order", "width"), ARRAY)
def test_array_codes_transposed(order: int, width: int) -> None:
    wide = array_code_graph(width * order, order * order)
    tall = array_code_graph(order * order, width * order, degree=order)
    assert tall.degree == order
    if width != order:
        assert tall == wide.transpose()


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "sizes", "arguments"),
    [
        ("margulis", (100, 90), {}),
        ("margulis", (16, 16), {}),
        ("margulis", (100, 100), {"degree": 9}),
        ("margulis", (200, 220), {"block": (2, 2)}),
        ("lps", (1000, 1000), {"degree": 8}),
        ("lps", (168, 60), {"degree": 4}),
        ("lps", (60, 60), {"degree": 6}),  # p = q
        ("lps", (168, 168), {"degree": 10}),  # p is no prime
        ("lps", (168, 168), {"degree": 14}),  # q < 2 sqrt(p)
        ("lps", (500, 500), {"compression": 20}),
        ("lps", (10, 10), {"degree": 4}),
        ("array_code", (64, 48), {}),
        ("array_code", (15, 25), {"degree": 4}),
        ("array_code", (5, 25), {}),  # l = 1
        ("array_code", (32, 16), {}),  # 4 is no prime
        ("array_code", (120, 100), {"block": (2, 4)}),
    ],
)
def test_impossible_sizes_name_possible_ones(
    family: str, sizes: tuple[int, int], arguments: dict
) -> None:
    with pytest.raises(ValueError, match=f"there is no {family} graph of num_in=") as caught:
        make_graph(family, *sizes, **arguments)
    named = re.findall(r"\(num_in=(\d+), num_out=(\d+), degree=(\d+)\)", str(caught.value))
    assert len(named) == 3
    for num_in, num_out, degree in named:
        block = arguments.get("block", (1, 1))
        graph = make_graph(family, int(num_in), int(num_out), degree=int(degree), block=block)
        assert graph.fan_in.max() == int(degree)


def test_lps_needs_a_degree() -> None:
    with pytest.raises(ValueError, match="exactly one of `degree` and `compression`, got neither"):
        lps_graph(60, 60)
