"""The Ramanujan graphs of Lubotzky, Phillips and Sarnak, as bipartite graphs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray
from xnets.graphs._seed import Seed
from xnets.graphs._size import asked_degree, base_shape, is_prime, no_such_size


def lps_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
) -> BipartiteGraph:
    """Return the Ramanujan graph X(p, q) of Lubotzky, Phillips and Sarnak, with p = degree - 1.

    For distinct odd primes p and q with q > 2 sqrt(p), both sides have q (q^2 - 1) / 2 vertices.
    Integer quaternions of norm p give p + 1 generators of PGL(2, q). If p is no square modulo q,
    they exchange PSL(2, q), the inputs, and its complement, the outputs; if it is one, inputs and
    outputs are two copies of PSL(2, q), the double cover of the graph. Theorem: the graph is
    connected, and all singular values but the first, p + 1, are at most 2 sqrt(p): the Ramanujan
    bound (Lubotzky, Phillips, Sarnak, "Ramanujan graphs", 1988; for all odd primes in Davidoff,
    Sarnak, Valette, "Elementary number theory, group theory and Ramanujan graphs", 2003). If p is
    no square, the girth is at least 4 log_p(q) - log_p(4).

    Args:
        num_in: Number of inputs, in blocks q (q^2 - 1) / 2: 60, 168, 660, 1092, 2448, 3420, ...
        num_out: Number of outputs, the same in blocks.
        degree: p + 1 in blocks: 4, 6, 8, 12, 14, ... Give this or `compression`.
        compression: How many times fewer edges than dense; must mean such a degree.
        block: (b_out, b_in); the graph is made of whole blocks.
        seed: Not used; here so that all families are called alike.

    Returns:
        A graph of degree p + 1 blocks on both sides.

    Raises:
        ValueError: If the sizes and degree are not of this form.

    Examples:
        >>> lps_graph(168, 168, degree=4)
        BipartiteGraph(num_in=168, num_out=168, num_edges=672, degree=4)
    """
    rows, columns = base_shape(num_in, num_out, block)
    asked = asked_degree(num_in, num_out, degree, compression, block)
    if asked is None:
        raise ValueError("give exactly one of `degree` and `compression`, got neither")
    sizes = list(_sizes(2 * max(rows, columns)))
    if (columns, rows, asked) not in {(n, n, d) for n, d, _ in sizes}:
        possible = [(n, n, d) for n, d, _ in sizes]
        raise ValueError(no_such_size("lps", columns, rows, asked, block, possible))
    q = next(q for n, _, q in sizes if n == columns)
    table = _neighbors(asked - 1, q)
    return BipartiteGraph.from_neighbors(table, num_in, block=block)


def _sizes(limit: int) -> Iterator[tuple[int, int, int]]:
    """All (vertices a side, degree, q) up to this many vertices, and of the two smallest q."""
    for q in itertools.count(5, 2):
        if not is_prime(q):
            continue
        vertices = q * (q * q - 1) // 2
        if vertices > limit and q > 7:
            return
        for p in range(3, (q * q + 3) // 4, 2):  # p < q^2 / 4
            if is_prime(p) and p != q:
                yield vertices, p + 1, q


def _neighbors(p: int, q: int) -> IntArray:
    """The inputs of each output, shape (q (q^2 - 1) / 2, p + 1)."""
    number, normal = _group(q)
    squares = np.zeros(q, dtype=bool)
    squares[np.arange(1, q) ** 2 % q] = True
    determinant = (normal[:, 0] * normal[:, 3] - normal[:, 1] * normal[:, 2]) % q
    special = squares[determinant]
    inputs = np.flatnonzero(special)
    outputs = inputs if squares[p % q] else np.flatnonzero(~special)
    rank = np.empty(len(normal), dtype=np.int64)
    rank[inputs] = np.arange(len(inputs))
    a, b, c, d = normal[outputs].T
    columns = []
    for e, f, g, h in _generators(p, q):
        product = np.stack([a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h], axis=1)
        columns.append(rank[number[_normal_form(product % q, q)]])
    return np.stack(columns, axis=1)


def _group(q: int) -> tuple[IntArray, IntArray]:
    """PGL(2, q): the number of each normal form (a lookup table), and the forms by number."""
    b, c, d = (axis.reshape(-1) for axis in np.meshgrid(*[np.arange(q)] * 3, indexing="ij"))
    # First row (1, b), or (0, 1) where b stands in for nothing.
    regular = np.flatnonzero((d - b * c) % q)
    upper = np.stack([np.ones_like(b), b, c, d], axis=1)[regular]
    c, d = (axis.reshape(-1) for axis in np.meshgrid(np.arange(1, q), np.arange(q), indexing="ij"))
    lower = np.stack([np.zeros_like(c), np.ones_like(c), c, d], axis=1)
    normal = np.concatenate([upper, lower])
    number = np.full(2 * q**3, -1, dtype=np.int64)
    number[_key(normal, q)] = np.arange(len(normal))
    return number, normal


def _normal_form(matrices: IntArray, q: int) -> IntArray:
    """The key of each matrix (a, b, c, d) up to scaling: the first entry that is not 0 made 1."""
    inverse = np.array([0] + [pow(k, -1, q) for k in range(1, q)])
    lead = np.where(matrices[:, 0] != 0, matrices[:, 0], matrices[:, 1])
    return _key(matrices * inverse[lead][:, None] % q, q)


def _key(matrices: IntArray, q: int) -> IntArray:
    powers = np.array([q**3, q**2, q, 1])
    key: IntArray = matrices @ powers
    return key


def _generators(p: int, q: int) -> list[tuple[int, int, int, int]]:
    """The p + 1 matrices over F_q of the quaternions of norm p, as (a, b, c, d) rows."""
    x, y = next(
        (x, y) for x in range(q) for y in range(q) if (x * x + y * y + 1) % q == 0
    )  # exists for every odd prime
    bound = math.isqrt(p)
    span = range(-bound, bound + 1)
    found = [
        (
            (a0 + a1 * x + a3 * y) % q,
            (a2 - a1 * y + a3 * x) % q,
            (-a2 - a1 * y + a3 * x) % q,
            (a0 - a1 * x - a3 * y) % q,
        )
        for a0, a1, a2 in itertools.product(span, repeat=3)
        if (rest := p - a0 * a0 - a1 * a1 - a2 * a2) >= 0
        for a3 in sorted({math.isqrt(rest), -math.isqrt(rest)})
        if a3 * a3 == rest and _is_chosen(p, a0, a1, a2, a3)
    ]
    assert len(found) == p + 1, (p, q)  # Jacobi's four-square theorem
    return found


def _is_chosen(p: int, a0: int, a1: int, a2: int, a3: int) -> bool:
    """One of each pair plus or minus, among the quaternions with a0 of the other parity."""
    if p % 4 == 1:
        return a0 > 0 and a0 % 2 == 1
    # p = 3 mod 4: a0 even and the rest odd; where a0 = 0, the first of a1, a2, a3 decides.
    return a0 % 2 == 0 and next(a for a in (a0, a1, a2, a3) if a) > 0
