"""Certificates: what is proved, by computation, about one graph."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._checks import IntArray
from xnets.graphs._expansion import Expansion, Mixing, expansion_table, sample_mixing
from xnets.graphs._paths import Range, count_components, diameter, girth
from xnets.graphs._spectral import (
    Leading,
    is_exactly_biregular,
    is_within,
    leading_singular_values,
    ramanujan_bound,
)


@dataclass(frozen=True)
class Degrees:
    """The degrees on one side.

    Args:
        low: The smallest.
        mean: The mean.
        high: The largest.
    """

    low: int
    mean: float
    high: int

    @classmethod
    def of(cls, degrees: IntArray) -> Degrees:
        """Summarise an array of degrees."""
        return cls(int(degrees.min()), float(degrees.mean()), int(degrees.max()))

    def __str__(self) -> str:
        if self.low == self.high:
            return str(self.low)
        return f"{self.low} to {self.high}, mean {self.mean:.2f}"


@dataclass(frozen=True)
class Certificate:
    """What was proved by computation about one graph. Made by `certify`.

    Args:
        num_in: Number of inputs.
        num_out: Number of outputs.
        num_edges: Number of edges.
        block: (b_out, b_in).
        fingerprint: Which graph this is about, `BipartiteGraph.fingerprint()`.
        fan_in: Degrees of the outputs.
        fan_out: Degrees of the inputs.
        unused_inputs: Inputs that no output reads.
        dead_outputs: Outputs that read no input.
        components: Connected components, every isolated vertex one of its own.
        diameter: The longest shortest path; None if the graph is not connected.
        girth: The shortest cycle; None if there is none.
        first: The largest singular value of the biadjacency matrix.
        second: The second, counted with multiplicity.
        error: A bound on the distance of `first` and `second` from true singular values.
        method: "dense" or "iterative", how the singular values were found.
        gap: 1 - second / first.
        bound: The biregular Ramanujan bound sqrt(d1 - 1) + sqrt(d2 - 1); None unless all fan-ins
            are one number d1 and all fan-outs one number d2.
        is_ramanujan: Whether second <= bound, even if off by `error`, but for a relative 1e-9 as
            many explicit graphs meet it exactly, and the graph is connected; None without a bound.
        base_is_ramanujan: The same for the base graph, of which every block is one vertex.
        expansion: How many inputs sets of outputs see, for some sizes.
        mixing: How evenly edges spread over pairs of sets.
    """

    num_in: int
    num_out: int
    num_edges: int
    block: tuple[int, int]
    fingerprint: str
    fan_in: Degrees
    fan_out: Degrees
    unused_inputs: int
    dead_outputs: int
    components: int
    diameter: Range | None
    girth: Range | None
    first: float
    second: float
    error: float
    method: str
    gap: float
    bound: float | None
    is_ramanujan: bool | None
    base_is_ramanujan: bool | None
    expansion: tuple[Expansion, ...]
    mixing: Mixing
    graph: BipartiteGraph

    def to_dict(self) -> dict[str, Any]:
        """All fields but the graph, as plain Python data."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "graph"}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def plot(self, path: str | PathLike[str]) -> None:
        """Draw the biadjacency matrix and the singular values, with first, second and bound marked.

        Args:
            path: Where to write the picture; its suffix (.png, .svg, .pdf) chooses the format.
        """
        from xnets.graphs._picture import draw_certificate

        draw_certificate(self, path)

    def __str__(self) -> str:
        """A report to read, one fact a line."""
        about = f"error below {max(self.error, 1e-15):.0e}, {self.method}"
        lines = [
            ("inputs, outputs", f"{self.num_in}, {self.num_out}"),
            ("edges", f"{self.num_edges}, compression {self.graph.compression:.4g}"),
            ("fan-in", str(self.fan_in)),
            ("fan-out", str(self.fan_out)),
            ("unused inputs", str(self.unused_inputs)),
            ("dead outputs", str(self.dead_outputs)),
            ("components", str(self.components)),
            ("diameter", "infinite" if self.diameter is None else str(self.diameter)),
            ("girth", "no cycle" if self.girth is None else str(self.girth)),
            ("singular values", f"{self.first:.6g}, {self.second:.6g} ({about})"),
            ("spectral gap", f"{self.gap:.4f}"),
            ("Ramanujan bound", self._verdict()),
        ]
        if self.block != (1, 1):
            lines.insert(1, ("block", str(self.block)))
        for row in self.expansion:
            sees = f"{row.at_least} inputs at least"
            if row.exact is not None:
                sees = f"{row.exact} inputs at least (exact; by the bound {row.at_least})"
            lines.append((f"any {row.size} see", sees))
        mixing = self.mixing
        lines.append(
            (
                "mixing",
                f"constant {mixing.constant:.6g}; {mixing.samples} samples need "
                f"{mixing.sampled:.4g}; halves deviate by {mixing.sampled_half:.2%}",
            )
        )
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)

    def _verdict(self) -> str:
        base = ""
        if self.base_is_ramanujan is not None and self.block != (1, 1):
            base = f"; the base graph {'meets' if self.base_is_ramanujan else 'misses'} its own"
        if self.bound is None:
            return "none: defined only if all fan-ins are equal and all fan-outs are equal" + base
        if self.is_ramanujan:
            return f"{self.bound:.6g}, met" + base
        why = "the graph is not connected" if self.components > 1 else "missed"
        return f"{self.bound:.6g}, {why}" + base


def certify(graph: BipartiteGraph, *, exact: bool | None = None) -> Certificate:
    """Prove by computation how well connected a graph is.

    Blocks cost nothing: the work is done on the base graph, and carried over by exact identities.
    Up to 1024 base vertices on the smaller side, all singular values are computed; of larger
    graphs, the two that matter, with an error bound. Nothing is assumed about the family.

    Args:
        graph: The graph.
        exact: True to compute all singular values whatever the size, False to never do so.

    Returns:
        The certificate, which prints itself, turns into JSON, and draws itself.

    Examples:
        >>> from xnets.graphs import make_graph
        >>> certificate = certify(make_graph("array_code", 15, 25))
        >>> print(certificate)
        inputs, outputs  15, 25
        edges            75, compression 5
        fan-in           3
        fan-out          5
        unused inputs    0
        dead outputs     0
        components       1
        diameter         4
        girth            6
        singular values  3.87298, 2.23607 (error below ..., dense)
        spectral gap     0.4226
        Ramanujan bound  3.41421, met
        any 1 see        3 inputs at least (exact; by the bound 3)
        any 2 see        5 inputs at least (exact; by the bound 4)
        ...
    """
    leading = leading_singular_values(graph, exact=exact)
    components = count_components(graph)
    bound, is_ramanujan = _judge(graph, leading, components)
    base_is_ramanujan = is_ramanujan
    if graph.block != (1, 1):
        scale = (graph.block[0] * graph.block[1]) ** 0.5
        base = Leading(
            leading.first / scale,
            leading.second / scale,
            leading.deviation / scale,
            leading.error / scale,
            leading.method,
        )
        _, base_is_ramanujan = _judge(graph.base, base, components)
    constant = leading.deviation + leading.error
    return Certificate(
        num_in=graph.num_in,
        num_out=graph.num_out,
        num_edges=graph.num_edges,
        block=graph.block,
        fingerprint=graph.fingerprint(),
        fan_in=Degrees.of(graph.fan_in),
        fan_out=Degrees.of(graph.fan_out),
        unused_inputs=int((graph.fan_out == 0).sum()),
        dead_outputs=int((graph.fan_in == 0).sum()),
        components=components,
        diameter=diameter(graph),
        girth=girth(graph),
        first=leading.first,
        second=leading.second,
        error=leading.error,
        method=leading.method,
        gap=leading.gap,
        bound=bound,
        is_ramanujan=is_ramanujan,
        base_is_ramanujan=base_is_ramanujan,
        expansion=expansion_table(graph, constant),
        mixing=sample_mixing(graph, constant),
        graph=graph,
    )


def _judge(
    graph: BipartiteGraph, leading: Leading, components: int
) -> tuple[float | None, bool | None]:
    """(the Ramanujan bound, whether it is met), (None, None) where it is not defined."""
    if not is_exactly_biregular(graph):
        return None, None
    bound = ramanujan_bound(int(graph.fan_in[0]), int(graph.fan_out[0]))
    return bound, components == 1 and is_within(leading.second + leading.error, bound)


def _plain(value: Any) -> Any:
    if isinstance(value, (Degrees, Expansion, Mixing)):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Range):
        return {"low": value.low, "high": value.high}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value
