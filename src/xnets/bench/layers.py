"""How fast single layers are: every backend and every peer of a case in one run, interleaved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from xnets import ops
from xnets.bench._options import DTYPES
from xnets.bench.cases import GraphChoice, Setup, Shape, compare
from xnets.bench.memory import peak_memory
from xnets.bench.peers import (
    NOT_BY_DEFAULT,
    PEERS,
    Competitor,
    dense_layers,
    expander_layers,
    grouped_layer,
)
from xnets.bench.timer import threads_set, time_interleaved

_MOST_COPIES = 8


@dataclass(frozen=True)
class LayerRow:
    """One competitor of one case.

    Args:
        step: "forward" or "training" (forward, and the gradients to input and weight).
        kind: "linear", "1x1", "3x3"...
        shape: The size, as 64@56.
        batch: Images, or rows of features.
        threads: How many.
        dtype: Of input and weight.
        competitor: A backend, "auto", "dense", "grouped", "csr" or "sparselab".
        layout: "channels_last" or nothing.
        compression: C as asked for; 1 for dense.
        family: Of the graph.
        block_out: Of the graph.
        block_in: Of the graph.
        edges: Of the graph.
        took: What "auto" took.
        status: "ok", or why there is no time: "cannot: ...", "wrong: ...", "failed: ...".
        error: Largest difference from the definition, relative to its largest value.
        ms: Median time of a call, milliseconds.
        ms_low: First quartile over the rounds.
        ms_high: Third quartile.
        rounds: How many rounds.
        speedup: Time of the faster dense layout over this one's.
        gmacs: Multiply-accumulates on edges, billions a second.
        peak_bytes: Memory that a call adds at most; see `peak_memory`.
    """

    step: str
    kind: str
    shape: str
    batch: int
    threads: int
    dtype: str
    competitor: str
    layout: str
    compression: float
    family: str | None
    block_out: int | None
    block_in: int | None
    edges: int | None
    took: str
    status: str
    error: float | None = None
    ms: float | None = None
    ms_low: float | None = None
    ms_high: float | None = None
    rounds: int | None = None
    speedup: float | None = None
    gmacs: float | None = None
    peak_bytes: int | None = None

    @property
    def block(self) -> tuple[int, int] | None:
        """(b_out, b_in)."""
        return (self.block_out, self.block_in) if self.block_out and self.block_in else None


def measure_layers(
    shape: Shape,
    batch: int,
    graphs: Sequence[GraphChoice],
    *,
    step: str = "forward",
    threads: int = 1,
    backends: Sequence[str] = (),
    peers: Sequence[str] = PEERS,
    seconds: float = 0.1,
    device: str = "cpu",
    dtype: str = "float32",
    memory: bool = True,
) -> list[LayerRow]:
    """Check and time all competitors of one case, interleaved.

    Args:
        shape: The layer's shape.
        batch: Images, or rows of features.
        graphs: The graphs of the expander layers.
        step: "forward" or "training".
        threads: How many.
        backends: Which of ours; "auto" and all but the reference by default.
        peers: Which others, beside torch's dense layers.
        seconds: How long to time each, about.
        device: "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "float16".
        memory: Whether to measure the peak of memory too.

    Returns:
        A row for each competitor, those that cannot run or are wrong included.

    Examples:
        >>> shape = Shape(16, 16)
        >>> rows = measure_layers(shape, 2, [GraphChoice(2, "random", (1, 1))], peers=[],
        ...                       backends=["masked"], seconds=0.001)
        >>> [(row.competitor, row.edges, row.status) for row in rows]
        [('dense', 256, 'ok'), ('masked', 128, 'ok')]
    """
    common = {"step": step, "kind": shape.kind, "shape": str(shape), "batch": batch}
    common |= {"threads": threads, "dtype": dtype}
    with threads_set(threads):
        setup = Setup(shape, batch, training=step == "training", device=device, dtype=DTYPES[dtype])
        rows: list[LayerRow] = []
        ready: dict[int, Competitor] = {}
        found = _competitors(setup, graphs, backends or default_backends(device), peers)
        for who, graph, reason in found:
            row = _row(common, who, graph)
            if isinstance(who, Competitor):
                row = _check(row, who, device)
                if row.status == "ok":
                    ready[len(rows)] = who
            else:
                row = replace(row, status=f"cannot: {reason}")
            rows.append(row)
        copies = _copies(setup)
        runs = {str(i): who.runs(copies) for i, who in ready.items()}
        if memory:
            for i in ready:
                rows[i] = replace(rows[i], peak_bytes=peak_memory(runs[str(i)][0], device))
        timings = time_interleaved(runs, seconds=seconds, device=device)
    for i in ready:
        timing = timings[str(i)]
        rows[i] = replace(
            rows[i],
            ms=timing.median,
            ms_low=timing.low,
            ms_high=timing.high,
            rounds=timing.rounds,
        )
    dense = [row.ms for row in rows if row.competitor == "dense" and row.ms]
    return [_with_ratios(row, min(dense, default=math.nan), shape, batch, step) for row in rows]


def default_backends(device: str) -> list[str]:
    """List "auto" and every backend but the reference, and GPU kernels (interpreted) on a CPU."""
    left_out = {*NOT_BY_DEFAULT, *(() if torch.device(device).type == "cuda" else ("triton",))}
    return ["auto", *(name for name in ops.list_backends() if name not in left_out)]


def _competitors(
    setup: Setup, graphs: Sequence[GraphChoice], backends: Sequence[str], peers: Sequence[str]
) -> Iterator[tuple[Competitor | str, GraphChoice | None, str]]:
    """A competitor, or its name and why it cannot run, with its graph."""
    for dense in dense_layers(setup):
        yield dense, None, ""
    if "grouped" in peers:
        for compression in dict.fromkeys(graph.compression for graph in graphs):
            graph = GraphChoice(compression, "grouped", (1, 1))
            grouped = grouped_layer(setup, graph)
            if isinstance(grouped, Competitor):
                yield grouped, graph, ""
            elif setup.shape.kernel:
                yield "grouped", graph, grouped
    any_graph = [name for name in peers if name != "grouped"]
    seen = set()
    for graph in graphs:
        # Peers do not know blocks: one graph of each compression and family is enough for them.
        first = (graph.compression, graph.family) not in seen
        seen.add((graph.compression, graph.family))
        try:
            for found in expander_layers(setup, graph, backends, any_graph if first else ()):
                if isinstance(found, Competitor):
                    yield found, graph, ""
                else:
                    yield found[0], graph, found[1]
        except ValueError as error:  # the family has no such graph
            yield "auto", graph, str(error)


def _row(common: dict[str, Any], who: Competitor | str, graph: GraphChoice | None) -> LayerRow:
    runs = isinstance(who, Competitor)
    return LayerRow(
        **common,
        competitor=who.name if isinstance(who, Competitor) else who,
        layout=who.layout if isinstance(who, Competitor) else "",
        compression=graph.compression if graph else 1,
        family=graph.family if graph else None,
        block_out=graph.block[0] if graph else None,
        block_in=graph.block[1] if graph else None,
        edges=who.edges if isinstance(who, Competitor) else None,
        took=who.note if isinstance(who, Competitor) else "",
        status="ok" if runs else "cannot",
    )


def _check(row: LayerRow, who: Competitor, device: str) -> LayerRow:
    """The row with its error, and what is wrong if something is."""
    try:
        error, wrong = compare(who.results(), who.expected(), device)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as problem:
        return replace(row, status=f"failed: {' '.join(str(problem).split())[:200]}")
    return replace(row, error=error, status=f"wrong: {wrong}" if wrong else "ok")


def _copies(setup: Setup) -> int:
    """How many sets of tensors to rotate through, so that a GPU's cache holds none of them."""
    if setup.device == "cpu":
        return 1
    size = setup.input.numel() + setup.shape.num_in * setup.shape.num_out
    cache = torch.cuda.get_device_properties(setup.device).L2_cache_size
    return min(_MOST_COPIES, 1 + 2 * cache // (size * setup.input.element_size()))


def _with_ratios(row: LayerRow, dense_ms: float, shape: Shape, batch: int, step: str) -> LayerRow:
    if not row.ms or not row.edges:
        return row
    macs = shape.macs(batch) * row.edges / (shape.num_in * shape.num_out)
    passes = 3 if step == "training" else 1
    return replace(row, speedup=dense_ms / row.ms, gmacs=macs * passes / row.ms / 1e6)
