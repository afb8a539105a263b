"""Butterfly and RadiX-Net: graphs that are one stage of a fast transform.

A single stage is no expander: of a butterfly it is not even connected. The claim is about all
stages in a row: every output of the last sees every input of the first, by equally many paths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray, check_block, check_size
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._size import base_size, divisors, nearest


def butterfly_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
    stage: int | None = None,
) -> BipartiteGraph:
    """Return one stage of a butterfly, the graph of the fast Fourier transform.

    Write the n vertices of each side in base D. In stage s, an output reads the D inputs that agree
    with it in every digit but the s-th. The graphs of all log_D(n) stages in a row join every input
    to every output by exactly one path, the fewest edges that can (Cooley, Tukey, 1965; Dao et al.,
    "Learning fast algorithms for linear transforms using butterfly factorizations", ICML 2019).
    Where n is no power of D, the last two stages overlap in part, and the paths are more than one
    but still equally many. Rectangles are made by the Kronecker product with a complete graph, as
    in RadiX-Net. Stage 0 is `grouped`, the last stage is `shuffled`, up to the order of outputs:
    n / D separate complete graphs, so the second singular value equals the first.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output D. Give this or `compression`.
        compression: How many times fewer edges than dense.
        block: (b_out, b_in); the butterfly is made between blocks.
        seed: Chooses the stage if none is given, so that layers with consecutive seeds run through
            all stages: seed modulo the number of stages; from a numpy Generator, a random one.
        stage: Which stage, from 0, or None.

    Returns:
        A graph of fan-in D.

    Raises:
        ValueError: If the sizes and D admit no butterfly, or there is no such stage.

    Examples:
        >>> butterfly_graph(4, 4, degree=2, stage=1).mask().astype(int)
        array([[1, 0, 1, 0],
               [0, 1, 0, 1],
               [1, 0, 1, 0],
               [0, 1, 0, 1]])
    """
    square = _Square.between(num_in, num_out, block)
    radix, places = square.divide("butterfly", degree, compression)
    place = places[_choose_stage(stage, len(places), seed)]
    vertex = np.arange(square.vertices)
    digit = vertex // place % radix
    neighbors = (vertex - digit * place)[:, None] + place * np.arange(radix)
    return square.spread(neighbors)


def radix_graph(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
    stage: int | None = None,
    radices: tuple[int, ...] | None = None,
) -> BipartiteGraph:
    """Return one layer of a RadiX-Net, a circulant stage of a mixed-radix system.

    Let n = N_1 N_2 ... N_k and v_s = N_1 ... N_s. In stage s, output j reads the inputs j - t v_s
    mod n, for t = 0, ..., N_(s+1) - 1. The graphs of all stages in a row join every input to every
    output by exactly one path (Robinett, Kepner, "RadiX-Net: structured sparse matrices for deep
    neural networks", 2019, arXiv 1905.00416), and by equally many where n is no power of the
    degree. Rectangles are made by the Kronecker product with a complete graph, as there. The
    singular values of a stage are |sin(pi k r v / n) / sin(pi k v / n)|, k = 0, ..., n - 1, where r
    is the radix and v the place value: the gap is small.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Inputs per output D. Give this, `compression`, or `radices`.
        compression: How many times fewer edges than dense.
        block: (b_out, b_in); the stage is made between blocks.
        seed: Chooses the stage if none is given: seed modulo the number of stages; from a numpy
            Generator, a random one.
        stage: Which stage, from 0, or None.
        radices: The mixed radices, (D, D, ...) if not given. Their product must be n, the greatest
            common divisor of num_in and num_out (in blocks); stage s has radix radices[s].

    Returns:
        A graph of constant fan-in, D or as the radix of the stage says.

    Raises:
        ValueError: If the sizes and D, or the radices, admit no such graph, or there is no such
        stage.

    Examples:
        >>> radix_graph(6, 6, radices=(2, 3), stage=1).mask().astype(int)
        array([[1, 0, 1, 0, 1, 0],
               [0, 1, 0, 1, 0, 1],
               [1, 0, 1, 0, 1, 0],
               [0, 1, 0, 1, 0, 1],
               [1, 0, 1, 0, 1, 0],
               [0, 1, 0, 1, 0, 1]])
    """
    square = _Square.between(num_in, num_out, block)
    if radices is None:
        radix, places = square.divide("radix", degree, compression)
        place = places[_choose_stage(stage, len(places), seed)]
    else:
        if degree is not None or compression is not None:
            raise ValueError("give `radices`, or one of `degree` and `compression`, not both")
        checked = square.check_radices(radices)
        number = _choose_stage(stage, len(checked), seed)
        radix, place = checked[number], math.prod(checked[:number])
    vertex = np.arange(square.vertices)
    neighbors = (vertex[:, None] - place * np.arange(radix)) % square.vertices
    return square.spread(neighbors)


@dataclass(frozen=True)
class _Square:
    """The square graph inside a rectangle: both are counted in blocks.

    The rectangle is the Kronecker product of a graph on `vertices` a side, their greatest common
    divisor, with the complete graph on `inner` = (outputs, inputs) vertices.
    """

    num_in: int
    num_out: int
    block: tuple[int, int]
    vertices: int
    inner: tuple[int, int]

    @classmethod
    def between(cls, num_in: int, num_out: int, block: tuple[int, int]) -> _Square:
        num_in, num_out = check_size("num_in", num_in), check_size("num_out", num_out)
        block = check_block(block, num_in, num_out)
        rows, columns = num_out // block[0], num_in // block[1]
        vertices = math.gcd(rows, columns)
        return cls(num_in, num_out, block, vertices, (rows // vertices, columns // vertices))

    def divide(
        self, family: str, degree: int | None, compression: float | None
    ) -> tuple[int, list[int]]:
        """The radix that the degree means, and the place values of the stages."""
        base = base_size(self.num_in, self.num_out, degree, compression, self.block).degree
        radix, rest = divmod(base, self.inner[1])
        places = [] if rest else _places(self.vertices, radix)
        if not places:
            inner = self.inner[1] * self.block[1]
            fitting = [r * inner for r in divisors(self.vertices) if _places(self.vertices, r)]
            base *= self.block[1]
            asked = f"`degree` (={degree})"
            if degree is None:
                asked = f"`compression` (={compression}), that is degree {base},"
            raise ValueError(
                f"{asked} gives no {family} graph between {self.num_in} inputs and {self.num_out} "
                f"outputs: stages of radix degree / {inner} must cover {self.vertices} vertices "
                f"evenly; the nearest degrees that fit are {nearest(fitting, base)}"
            )
        return radix, places

    def check_radices(self, radices: tuple[int, ...]) -> tuple[int, ...]:
        """The radices as ints, or an error unless their product is the number of vertices."""
        checked = tuple(check_size("radices", radix) for radix in radices)
        if math.prod(checked) != self.vertices or not checked:
            raise ValueError(
                f"`radices` (={checked}) must have the product {self.vertices}, the greatest "
                f"common divisor of `num_in` and `num_out` in blocks, not {math.prod(checked)}"
            )
        return checked

    def spread(self, neighbors: IntArray) -> BipartiteGraph:
        """The rectangle made of a square graph."""
        whole = (self.inner[0] * self.block[0], self.inner[1] * self.block[1])
        graph = BipartiteGraph.from_neighbors(neighbors, self.num_in, block=whole)
        return graph.with_block(self.block)


def _places(vertices: int, radix: int) -> list[int]:
    """Place values 1, D, D^2, ... of stages that cover the vertices evenly; none if there are none.

    If the last power does not fit, the last stage has place n / D. The stages before reach equally
    often every vertex of a run of D^k, hence every residue modulo n / D if n / D divides D^k.
    """
    if radix == 1:
        return [1] if vertices == 1 else []
    if vertices % radix:
        return []
    places = [1]
    while vertices % (places[-1] * radix**2) == 0:
        places.append(places[-1] * radix)
    covered = places[-1] * radix
    if covered == vertices:
        return places
    last = vertices // radix
    return [*places, last] if covered % last == 0 else []


def _choose_stage(stage: int | None, stages: int, seed: Seed) -> int:
    if stage is None:
        stream = Stream(seed)  # checks the seed
        if isinstance(seed, np.random.Generator):
            return int(stream.below(stages, 1)[0])
        return int(seed) % stages
    if isinstance(stage, bool) or not isinstance(stage, (int, np.integer)):
        raise TypeError(f"`stage` (={stage!r}) must be an int or None")
    if not 0 <= stage < stages:
        raise ValueError(f"`stage` (={stage}) must be in [0, {stages}): there are {stages} stages")
    return int(stage)
