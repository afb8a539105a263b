"""All families at one size, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xnets._table import format_table
from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._certify import Certificate, certify
from xnets.graphs._families import list_families, list_options, make_graph
from xnets.graphs._seed import Seed
from xnets.graphs._size import base_size
from xnets.graphs._spectral import ramanujan_bound

_HEADER = (
    "family", "edges", "gap", "s2 / bound", "unused inputs", "dead outputs", "components",
    "diameter",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """The certificates of several families at one size. Made by `compare_families`.

    Args:
        certificates: Of each family that can have the size, in the order of `list_families()`.
        missing: Why each other family cannot.
    """

    certificates: dict[str, Certificate]
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        families = [
            {
                "family": name,
                "second_over_bound": second_over_bound(certificate.graph, certificate.second),
                **certificate.to_dict(),
            }
            for name, certificate in self.certificates.items()
        ]
        missing = [{"family": name, "reason": why} for name, why in self.missing.items()]
        return {"families": families, "missing": missing}

    def __str__(self) -> str:
        """A table, and a line for each family that is not in it."""
        table = format_table(
            _HEADER, [_row(*item) for item in self.certificates.items()], right="l" + "r" * 7
        )
        note = (
            "s2 / bound: the second singular value over sqrt(d1 - 1) + sqrt(d2 - 1), of the mean "
            "degrees; 1 or less is Ramanujan if the degrees are constant."
        )
        lines = [f"{name}: {why}" for name, why in self.missing.items()]
        return "\n".join([table, "", note, *([""] if lines else []), *lines])


def compare_families(
    num_in: int,
    num_out: int,
    *,
    degree: int | None = None,
    compression: float | None = None,
    block: tuple[int, int] = (1, 1),
    seed: Seed = 0,
    families: Iterable[str] | None = None,
    **options: Any,
) -> Comparison:
    """Draw and certify one graph of every family that can have a size.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        degree: Neighbours per drawing vertex. Give this or `compression`.
        compression: How many times fewer edges than dense.
        block: (b_out, b_in).
        seed: An int or a numpy Generator.
        families: Which families, all of `list_families()` by default.
        **options: What single families take, see `list_options`; given to those that take it.

    Returns:
        The certificates, and for the other families why they cannot have this size.

    Raises:
        ValueError: If no family can: the degree or the block does not fit the sizes.
        TypeError: If an argument is of the wrong type, or no family has an option.

    Examples:
        >>> print(compare_families(16, 16, degree=4, families=["biregular", "grouped", "lps"]))
        family     edges     gap  s2 / bound  unused inputs  dead outputs  components  diameter
        ---------------------------------------------------------------------------------------
        biregular     64  0.2819       0.829              0             0           1         5
        grouped       64  0.0000       1.155              0             0           4  infinite
        <BLANKLINE>
        s2 / bound: ...
        <BLANKLINE>
        lps: there is no lps graph of num_in=16, num_out=16, degree=4; the nearest are ...
    """
    base_size(num_in, num_out, degree, compression, block)  # what no family could draw
    names = list_families() if families is None else families
    known = {option for name in list_families() for option in list_options(name)}
    for option in options:
        if option not in known:
            raise TypeError(f"no family has an option `{option}`; there are {sorted(known)}")
    certificates, missing = {}, {}
    for name in names:
        own = {key: value for key, value in options.items() if key in list_options(name)}
        try:
            graph = make_graph(
                name, num_in, num_out,
                degree=degree, compression=compression, block=block, seed=seed, **own,
            )  # fmt: skip
        except ValueError as error:
            missing[name] = str(error)
            continue
        certificates[name] = certify(graph)
    return Comparison(certificates, missing)


def second_over_bound(graph: BipartiteGraph, second: float) -> float | None:
    """The second singular value over the Ramanujan bound of the mean degrees.

    Args:
        graph: The graph.
        second: Its second singular value.

    Returns:
        The ratio; None where the bound is 0 or the mean degrees are below 1.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> second_over_bound(make_graph("grouped", 8, 8, degree=2), second=2.0)
        1.0
    """
    fan_in, fan_out = graph.num_edges / graph.num_out, graph.num_edges / graph.num_in
    if min(fan_in, fan_out) < 1 or fan_in + fan_out == 2:
        return None
    return second / ramanujan_bound(fan_in, fan_out)


def _row(name: str, certificate: Certificate) -> list[str]:
    ratio = second_over_bound(certificate.graph, certificate.second)
    return [
        name,
        str(certificate.num_edges),
        f"{certificate.gap:.4f}",
        "-" if ratio is None else f"{ratio:.3f}",
        str(certificate.unused_inputs),
        str(certificate.dead_outputs),
        str(certificate.components),
        "infinite" if certificate.diameter is None else str(certificate.diameter),
    ]
