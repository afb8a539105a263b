"""How fast single layers are: every backend and every peer of a case in one run, interleaved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from xnets import ops
from xnets.bench._gpu_parts import (
    captured,
    compiled,
    cudnn_benchmark,
    in_channels_last,
    sparse_linear_peers,
)
from xnets.bench._options import DTYPES
from xnets.bench.cases import GraphChoice, Setup, Shape, compare
from xnets.bench.memory import peak_memory
from xnets.bench.peers import (
    ANY_GRAPH,
    NOT_BY_DEFAULT,
    PEERS,
    Competitor,
    dense_layers,
    expander_layers,
    grouped_layer,
)
from xnets.bench.roofline import Ceilings, work
from xnets.bench.timer import Run, threads_set, time_interleaved

_MOST_COPIES = 8
# Below so many milliseconds a GPU waits for launches: layers are timed as CUDA graphs.
_SMALL = 0.1


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
        competitor: A backend, "auto", "dense", "dense compiled", or one of `PEERS`.
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
        speedup: Time of the fastest dense layer over this one's.
        gmacs: Multiply-accumulates on edges, billions a second.
        peak_bytes: Memory that a call adds at most; see `peak_memory`.
        roofline: The least time that the ceilings allow, as a share of `ms`.
        launch: "eager", or "graph": small layers on a GPU, as CUDA graphs.
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
    roofline: float | None = None
    launch: str = "eager"

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
    ceilings: Ceilings | None = None,
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
        ceilings: Of the device, for the roofline; none without.

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
    with threads_set(threads), cudnn_benchmark(device != "cpu"):
        setup = Setup(shape, batch, training=step == "training", device=device, dtype=DTYPES[dtype])
        rows: list[LayerRow] = []
        ready: dict[int, Competitor] = {}
        found = _competitors(setup, graphs, backends or default_backends(device, graphs), peers)
        for who, graph, reason in found:
            row = _row(common, who, graph)
            if isinstance(who, Competitor):
                row = _check(row, who, device)
                if row.status == "ok":
                    ready[len(rows)] = who
            else:
                row = replace(row, status=f"cannot: {reason}")
            rows.append(row)
        runs, failed, launch = _prepare(ready, _copies(setup), device)
        for i, problem in failed.items():
            rows[i] = replace(rows[i], status=f"failed: {problem}")
        if memory:
            for i in runs:
                rows[i] = replace(rows[i], peak_bytes=peak_memory(runs[i][0], device))
        if launch == "graph":
            runs, failed = _as_graphs(runs)
            for i, problem in failed.items():
                rows[i] = replace(rows[i], status=f"failed: {problem}")
        named = {str(i): calls for i, calls in runs.items()}
        timings = time_interleaved(named, seconds=seconds, device=device)
    for i in runs:
        timing = timings[str(i)]
        rows[i] = replace(
            rows[i],
            ms=timing.median,
            ms_low=timing.low,
            ms_high=timing.high,
            rounds=timing.rounds,
            launch=launch,
        )
    dense = min((r.ms for r in rows if r.competitor.startswith("dense") and r.ms), default=math.nan)
    return [_with_ratios(row, dense, shape, batch, ceilings) for row in rows]


Calls = dict[int, list[Run]]


def _prepare(
    ready: dict[int, Competitor], copies: int, device: str
) -> tuple[Calls, dict[int, str], str]:
    """The calls of each competitor, each made once; who fails then; and how to launch them."""
    runs: Calls = {}
    failed: dict[int, str] = {}
    for i, who in ready.items():
        try:
            calls: list[Run] = list(who.runs(copies))
            if copies > 1:  # the first has run before
                for call in calls:
                    call()
            runs[i] = calls
        except Exception as problem:  # compilers and kernels have errors of their own
            failed[i] = _one_line(problem)
    dense = {str(i): runs[i] for i in runs if ready[i].name.startswith("dense")}
    if device == "cpu" or not dense:
        return runs, failed, "eager"
    quick = time_interleaved(dense, seconds=0.01, device=device)
    small = min(timing.median for timing in quick.values()) < _SMALL
    return runs, failed, "graph" if small else "eager"


def _as_graphs(runs: Calls) -> tuple[Calls, dict[int, str]]:
    """CUDA graphs of the calls, and who cannot be captured."""
    found: Calls = {}
    failed: dict[int, str] = {}
    for i, calls in runs.items():
        try:
            found[i] = [captured(call) for call in calls]
        except Exception as problem:
            failed[i] = f"as a CUDA graph: {_one_line(problem)}"
    return found, failed


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__


_IN_GROUPS = ("grouped", "shuffled", "complete")


def default_backends(device: str, graphs: Sequence[GraphChoice]) -> list[str]:
    """List "auto" and every backend but the reference, and those that these cases are not for.

    These are GPU kernels (interpreted) on a CPU, and `groups` where no family is made of groups.
    """
    left_out = {*NOT_BY_DEFAULT, *(() if torch.device(device).type == "cuda" else ("triton",))}
    if not any(graph.family in _IN_GROUPS for graph in graphs):
        left_out.add("groups")
    return ["auto", *(name for name in ops.list_backends() if name not in left_out)]


def _competitors(
    setup: Setup, graphs: Sequence[GraphChoice], backends: Sequence[str], peers: Sequence[str]
) -> Iterator[tuple[Competitor | str, GraphChoice | None, str]]:
    """A competitor, or its name and why it cannot run, with its graph."""
    on_gpu = setup.device != "cpu"
    best = in_channels_last if on_gpu else _as_it_is
    dense = list(dense_layers(setup))
    for layer in dense:
        yield layer, None, ""
    if on_gpu and "compiled" in peers:
        yield compiled(dense[-1]), None, ""  # the last: channels last
    if "grouped" in peers:
        for compression in dict.fromkeys(graph.compression for graph in graphs):
            graph = GraphChoice(compression, "grouped", (1, 1))
            grouped = grouped_layer(setup, graph)
            if isinstance(grouped, Competitor):
                yield best(grouped), graph, ""
            elif setup.shape.kernel:
                yield "grouped", graph, grouped
    any_graph = [name for name in peers if name in ANY_GRAPH]
    seen: set[tuple[float, str]] = set()
    for graph in graphs:
        # Peers do not know blocks: one graph of each compression and family is enough for them.
        first = (graph.compression, graph.family) not in seen
        ours: Competitor | None = None
        try:
            for found in expander_layers(setup, graph, backends, any_graph if first else ()):
                if isinstance(found, Competitor):
                    ours = ours or found
                    yield (found if found.name in ANY_GRAPH else best(found)), graph, ""
                else:
                    yield found[0], graph, found[1]
        except ValueError as error:  # the family has no such graph
            yield "auto", graph, str(error)
        if on_gpu and ours is not None:
            for peer in sparse_linear_peers(setup, ours, graph, two_of_four=not seen):
                name, reason = (peer.name, "") if isinstance(peer, Competitor) else peer
                if name in peers:
                    of = GraphChoice(2, "2:4", (1, 1)) if name == "2:4" else graph
                    yield (peer if isinstance(peer, Competitor) else name), of, reason
        seen.add((graph.compression, graph.family))


def _as_it_is(competitor: Competitor) -> Competitor:
    return competitor


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
    except Exception as problem:  # one broken competitor is no reason to lose the others
        return replace(row, status=f"failed: {_one_line(problem)}")
    return replace(row, error=error, status=f"wrong: {wrong}" if wrong else "ok")


def _copies(setup: Setup) -> int:
    """How many sets of tensors to rotate through, so that a GPU's cache holds none of them."""
    if setup.device == "cpu":
        return 1
    size = setup.input.numel() + setup.shape.num_in * setup.shape.num_out
    cache = torch.cuda.get_device_properties(setup.device).L2_cache_size
    return min(_MOST_COPIES, 1 + 2 * cache // (size * setup.input.element_size()))


def _with_ratios(
    row: LayerRow, dense_ms: float, shape: Shape, batch: int, ceilings: Ceilings | None
) -> LayerRow:
    ms, edges = row.ms, row.edges
    if not ms or not edges:
        return row
    macs = shape.macs(batch) * edges / (shape.num_in * shape.num_out)
    training = row.step == "training"
    row = replace(row, speedup=dense_ms / ms, gmacs=macs * (3 if training else 1) / ms / 1e6)
    if ceilings is None:
        return row
    itemsize = DTYPES[row.dtype].itemsize
    least = ceilings.seconds(*work(shape, batch, edges, itemsize, training=training))
    return replace(row, roofline=1e3 * least / ms)
