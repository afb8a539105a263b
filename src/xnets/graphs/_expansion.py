"""How much sets of outputs see (expansion), and how evenly edges spread (mixing, theorem 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray
from xnets.graphs._seed import Seed, Stream
from xnets.graphs._spectral import is_exactly_biregular

_MASK_LIMIT = 1 << 26  # entries of a base mask that is written out for the search of small sets
_SUBSETS_WORK = 1 << 21  # bytes of sets of neighbours that the search may hold
_BITS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Expansion:
    """What is known of the neighbours of sets S of outputs, all of one size.

    Args:
        size: The number of outputs in S.
        at_least: No such set has fewer neighbours: the bound that the spectrum proves.
        exact: The fewest neighbours of any such set, found by looking at all; None if too many.
    """

    size: int
    at_least: int
    exact: int | None


@dataclass(frozen=True)
class Mixing:
    """How far edge counts between sets of inputs and outputs are from |S| |T| |E| / (n m).

    Args:
        constant: No pair of sets deviates by more than constant * sqrt(|S| |T|), even times
            sqrt(1 - |S|/n) if all fan-ins are equal, and sqrt(1 - |T|/m) if all fan-outs are.
        sampled: The largest constant that the sampled pairs of sets needed.
        sampled_half: The largest deviation where both sets were half of their sides, as a share
            of the expected edges.
        samples: The number of pairs that were sampled.
    """

    constant: float
    sampled: float
    sampled_half: float
    samples: int


def mixing_bound(
    graph: BipartiteGraph, constant: float, num_inputs: int, num_outputs: int
) -> float:
    """Bound | e(S, T) - |S| |T| |E| / (n m) | over all S of inputs and T of outputs of given sizes.

    The bipartite expander mixing lemma, theorem 2 of the paper with its constant: at most
    sigma_2 sqrt(|S| |T| (1 - |S|/n) (1 - |T|/m)) if the graph is biregular (Haemers, "Interlacing
    eigenvalues and graphs", 1995, theorem 5.1); in any graph, at most the norm of A - c J times
    sqrt(|S| |T|), where c is the density and J all ones. If all fan-ins are equal, A - c J maps the
    all-ones vector of the inputs to 0, which saves the factor of S alone; so do fan-outs that of T.

    Args:
        graph: The graph.
        constant: `Leading.deviation` of the graph, equal to sigma_2 if it is biregular.
        num_inputs: |S|.
        num_outputs: |T|.

    Returns:
        The bound on the deviation, in edges.

    Examples:
        >>> from xnets.graphs import leading_singular_values, make_graph
        >>> graph = make_graph("biregular", 64, 64, degree=8)
        >>> constant = leading_singular_values(graph).deviation
        >>> round(mixing_bound(graph, constant, 16, 16) / constant, 6)  # 16 * (1 - 16/64)
        12.0
    """
    product = float(num_inputs) * num_outputs
    if graph.fan_in.min() == graph.fan_in.max():
        product *= 1 - num_inputs / graph.num_in
    if graph.fan_out.min() == graph.fan_out.max():
        product *= 1 - num_outputs / graph.num_out
    return constant * math.sqrt(product)


def expansion_bound(graph: BipartiteGraph, constant: float, size: int) -> int:
    """Bound from below how many inputs any `size` outputs see together.

    In a biregular graph of fan-in D and fan-out F (Tanner, "Explicit concentrators from generalized
    N-gons", 1984): |N(S)| >= D^2 |S| / (sigma_2^2 + (D F - sigma_2^2) |S| / m). In any graph, the
    mixing bound of S against N(S), which receives all edges of S, solved for |N(S)|.

    Args:
        graph: The graph.
        constant: `Leading.deviation` of the graph, equal to sigma_2 if it is biregular.
        size: The number of outputs.

    Returns:
        The largest whole number that is proved.

    Examples:
        >>> from xnets.graphs import leading_singular_values, make_graph
        >>> graph = make_graph("array_code", 15, 25)
        >>> expansion_bound(graph, leading_singular_values(graph).deviation, 2)
        4
    """
    least = int(graph.fan_in.min())
    if is_exactly_biregular(graph):
        squared = constant**2
        ways = least * int(graph.fan_out[0])
        bound = least**2 * size / (squared + (ways - squared) * size / graph.num_out)
    elif least == 0:
        bound = 0.0
    else:
        # D <= c t + d sqrt(t / s), solved for t = |N(S)|.
        density, spread = graph.density, constant / math.sqrt(size)
        root = (math.sqrt(spread**2 + 4 * density * least) - spread) / (2 * density)
        bound = root**2
    # A single output sees all of its inputs; rounding must not lift a whole number.
    return max(least, math.ceil(bound * (1 - 1e-9)))


def exact_expansion(graph: BipartiteGraph) -> list[int]:
    """Find the fewest inputs that any 1, 2, 3, ... outputs see together, as far as that is cheap.

    Outputs of one block see the same, so sets that fill whole blocks see least.

    Args:
        graph: The graph.

    Returns:
        The minima for sets of size 1, 2, ..., up to the largest size that was searched.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> exact_expansion(make_graph("grouped", 8, 8, compression=2))[:5]
        [4, 4, 4, 4, 8]
    """
    b_out, b_in = graph.block
    base = graph.base
    minima = [int(graph.fan_in.min())] * b_out
    if base.num_in * base.num_out > _MASK_LIMIT:
        return minima
    rows = np.packbits(base.mask(), axis=1)
    last, union = np.arange(base.num_out), rows
    for size in range(2, base.num_out + 1):
        if math.comb(base.num_out, size) * rows.shape[1] > _SUBSETS_WORK:
            break
        # Extend every set by every output after its last one.
        more = base.num_out - 1 - last
        which = np.repeat(np.arange(len(last)), more)
        last = _runs_after(last, more)
        union = union[which] | rows[last]
        minima += [int(_BITS[union].sum(axis=1).min()) * b_in] * b_out
    return minima


def _runs_after(last: IntArray, more: IntArray) -> IntArray:
    """For each entry the numbers last + 1, ..., last + more, one run after the other."""
    ends = np.cumsum(more)
    run_start = np.repeat(ends - more, more)
    numbers: IntArray = np.arange(int(more.sum())) - run_start + np.repeat(last + 1, more)
    return numbers


def expansion_table(graph: BipartiteGraph, constant: float) -> tuple[Expansion, ...]:
    """List the expansion of small sets, and of 1/16, 1/8, 1/4 and 1/2 of the outputs.

    Args:
        graph: The graph.
        constant: `Leading.deviation` of the graph.

    Returns:
        One entry per size, increasing.
    """
    exact = exact_expansion(graph)
    small = range(1, min(4, len(exact)) + 1)
    shares = [graph.num_out // part for part in (16, 8, 4, 2) if graph.num_out >= part]
    return tuple(
        Expansion(
            size,
            expansion_bound(graph, constant, size),
            exact[size - 1] if size <= len(exact) else None,
        )
        for size in sorted({*small, *shares})
    )


def sample_mixing(
    graph: BipartiteGraph, constant: float, *, samples: int = 64, seed: Seed = 0
) -> Mixing:
    """Measure the deviation of theorem 2 on random pairs of sets of many sizes.

    Args:
        graph: The graph.
        constant: `Leading.deviation` of the graph, for the record beside the measurement.
        samples: How many pairs to draw.
        seed: An int or a numpy Generator.

    Returns:
        The provable constant and the measured one.

    Examples:
        >>> from xnets.graphs import leading_singular_values, make_graph
        >>> graph = make_graph("random", 64, 64, degree=8)
        >>> mixing = sample_mixing(graph, leading_singular_values(graph).deviation)
        >>> mixing.sampled < mixing.constant
        True
    """
    stream = Stream(seed)
    b_out, b_in = graph.block
    base_out = np.repeat(np.arange(graph.base_shape[0]), np.diff(graph.indptr))
    sampled = sampled_half = 0.0
    for sample in range(samples):
        share = 2.0 ** -(1 + sample % 4)
        sizes = [max(1, int(n * share)) for n in (graph.num_in, graph.num_out)]
        inputs = np.bincount(
            stream.permutation(graph.num_in)[: sizes[0]] // b_in, minlength=graph.base_shape[1]
        )
        outputs = np.bincount(
            stream.permutation(graph.num_out)[: sizes[1]] // b_out, minlength=graph.base_shape[0]
        )
        edges = int((inputs[graph.indices] * outputs[base_out]).sum())
        expected = graph.density * sizes[0] * sizes[1]
        deviation = abs(edges - expected)
        unit = mixing_bound(graph, 1.0, *sizes)
        # Where the sets are everything, unit and deviation are both 0.
        sampled = max(sampled, deviation / unit if unit else 0.0)
        if share == 0.5 and expected:
            sampled_half = max(sampled_half, deviation / expected)
    return Mixing(constant, sampled, sampled_half, samples)
