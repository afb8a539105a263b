"""The cases of `xnets.bench.gpu`: which layers and networks, and how a layer is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from xnets.bench._gpu_networks import Network
from xnets.bench._gpu_parts import (
    captured,
    compiled,
    copies_beyond_cache,
    cudnn_benchmark,
    in_channels_last,
    one_line,
    sparse_linear_peers,
    stop_if_broken,
)
from xnets.bench.cases import STEPS, GraphChoice, Setup, compare, read_shapes
from xnets.bench.memory import peak_memory
from xnets.bench.peers import Competitor, dense_layers, expander_layers, grouped_layer
from xnets.bench.roofline import Ceilings, work
from xnets.bench.timer import Run, time_interleaved

Block = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        shapes: (layer, batch), the most wanted first.
        small: The same for layers so small that launching them takes longer: as CUDA graphs.
        graphs: (compression, block) of the expander layers.
        networks: Whole networks.
        dtype: Of the layers.
        ceiling: Side of the matrices that the ceilings are measured with.
    """

    shapes: tuple[tuple[str, int], ...]
    small: tuple[tuple[str, int], ...]
    graphs: tuple[tuple[int, Block], ...]
    networks: tuple[Network, ...]
    dtype: torch.dtype
    ceiling: int


FULL = Plan(
    shapes=(
        ("3x3:256@28", 256),
        ("linear:4096-16384", 4096),
        ("3x3:512@14", 256),
        ("3x3:256@14", 256),
        ("3x3:512@28", 256),
    ),
    small=(("3x3:256@14", 1), ("linear:1024-4096", 16)),
    graphs=((4, (128, 32)), (4, (64, 64)), (4, (32, 32)), (8, (128, 32)), (8, (64, 32))),
    networks=(
        Network("wide_resnet50_2", (128, 3, 224, 224), 1000, ((64, 32), (128, 32))),
        # timm's, whose attention is made of linear layers, so that it is converted too.
        Network("timm:vit_large_patch16_224", (64, 3, 224, 224), 1000, ((128, 64), (64, 64))),
    ),
    dtype=torch.bfloat16,
    ceiling=8192,
)
TINY = Plan(
    shapes=(("3x3:32-16@2", 1), ("linear:32-16", 5)),
    small=(("linear:32-16", 2),),
    graphs=((2, (16, 16)),),
    networks=(
        Network("convnet", (2, 1, 2, 2), 10, ((16, 16),), 2, "triton", {"stages": 1, "depth": 1}),
    ),
    dtype=torch.float32,
    ceiling=64,
)


@dataclass(frozen=True)
class LayerRow:
    """One competitor in one case.

    Args:
        shape: Such as 3x3:256@28.
        batch: Images, or rows.
        step: "forward" or "training".
        launch: "eager" or "graph" (a CUDA graph).
        competitor: "dense", "dense compiled", "grouped", "bsr", "2:4" or "triton".
        layout: "channels_last" or "".
        compression: Of the graph; 1 if dense.
        block: As 64x32, or "".
        ms: Median.
        low: First quartile.
        high: Third quartile.
        speedup: Over the fastest dense competitor of the same case.
        roofline: The least time that the ceilings allow, as a share of `ms`.
        peak_bytes: Memory that one call adds.
        error: Largest difference from the definition, relative.
        note: Why it was not measured, or what is wrong with its results.
    """

    shape: str
    batch: int
    step: str
    launch: str
    competitor: str
    layout: str = ""
    compression: float = 1
    block: str = ""
    ms: float | None = None
    low: float | None = None
    high: float | None = None
    speedup: float | None = None
    roofline: float | None = None
    peak_bytes: int | None = None
    error: float | None = None
    note: str = ""


Case = Network | tuple[str, int, str, bool]


def list_cases(plan: Plan) -> Iterator[Case]:
    """What is measured, the most wanted first.

    Args:
        plan: What to measure.

    Yields:
        (shape, batch, step, as CUDA graphs), or a network.
    """
    for shape, batch in plan.shapes[:2]:
        yield from ((shape, batch, step, False) for step in STEPS)
    yield from plan.networks
    for shape, batch in plan.shapes[2:]:
        yield from ((shape, batch, step, False) for step in STEPS)
    yield from ((shape, batch, "forward", True) for shape, batch in plan.small)


def name_of(case: Case) -> str:
    """What the report calls a case."""
    return case.model if isinstance(case, Network) else " ".join(map(str, case[:3]))


def time_layer(
    case: tuple[str, int, str, bool],
    plan: Plan,
    ceilings: Ceilings,
    *,
    device: str,
    seconds: float,
    begin: Callable[[str], None] = lambda who: None,
    avoid: Mapping[str, str] | None = None,
) -> list[LayerRow]:
    """Check and time all competitors of one layer.

    Args:
        case: (shape, batch, step, as CUDA graphs).
        plan: Its graphs and dtype.
        ceilings: Of the device.
        device: "cuda" or "cpu".
        seconds: How long to time each, about.
        begin: Called with the name of each competitor before anything of it runs.
        avoid: Competitors to pass over, and why.

    Returns:
        A row for each.

    Raises:
        DeviceBrokenError: If nothing can run on the device any more in this process.
    """
    label, batch, step, graphs = case
    begin("building")
    [shape] = read_shapes(label)
    setup = Setup(shape, batch, training=step == "training", device=device, dtype=plan.dtype)
    launch = "graph" if graphs and device == "cuda" else "eager"
    blank = LayerRow(label, batch, step, launch, "")
    rows: list[LayerRow] = []
    ready: dict[str, tuple[LayerRow, list[Run], int]] = {}
    for competitor in _competitors(setup, plan, device):
        if isinstance(competitor, tuple):
            rows.append(replace(blank, competitor=competitor[0], note=competitor[1]))
            continue
        row = _row(blank, competitor)
        if reason := (avoid or {}).get(competitor.key):
            rows.append(replace(row, note=reason))
            continue
        begin(competitor.key)
        try:
            with cudnn_benchmark(False):
                expected = competitor.expected()  # in float64: not worth a search for its kernel
            error, wrong = compare(competitor.results(), expected, device)
            del expected
            runs = _rotating(competitor, copies_beyond_cache(setup) if device == "cuda" else 1)
            for run in runs:
                run()
            peak = peak_memory(runs[0], device) if device == "cuda" else None
            if launch == "graph":
                runs = [captured(run) for run in runs]
        except Exception as problem:  # whatever a compiler or kernel raises
            rows.append(replace(row, note=one_line(problem)))
            stop_if_broken(device, problem)
            continue
        row = replace(row, error=error, note=wrong, peak_bytes=peak)
        ready[str(len(ready))] = (row, runs, competitor.edges)
    begin("timing")
    times = time_interleaved(
        {key: runs for key, (_, runs, _) in ready.items()}, seconds=seconds, device=device
    )
    dense = min(
        (times[key].median for key, (r, *_) in ready.items() if r.competitor.startswith("dense")),
        default=None,
    )
    for key, (row, _, edges) in ready.items():
        needed = work(shape, batch, edges, plan.dtype.itemsize, training=setup.training)
        timing = times[key]
        rows.append(
            replace(
                row,
                ms=timing.median,
                low=timing.low,
                high=timing.high,
                speedup=dense / timing.median if dense else None,
                roofline=1e3 * ceilings.seconds(*needed) / timing.median,
            )
        )
    return rows


def _row(blank: LayerRow, competitor: Competitor) -> LayerRow:
    graph = competitor.graph
    return replace(
        blank,
        competitor=competitor.name,
        layout=competitor.layout,
        compression=graph.compression if graph else 1,
        block=f"{graph.block[0]}x{graph.block[1]}" if graph else "",
    )


def _competitors(setup: Setup, plan: Plan, device: str) -> Iterator[Competitor | tuple[str, str]]:
    for dense in dense_layers(setup):
        yield dense
        if device == "cuda" and (dense.layout or not setup.shape.kernel):
            yield compiled(dense)
    for compression in dict.fromkeys(compression for compression, _ in plan.graphs):
        grouped = grouped_layer(setup, GraphChoice(compression, "grouped", (1, 1)))
        yield ("grouped", grouped) if isinstance(grouped, str) else in_channels_last(grouped)
    for i, (compression, block) in enumerate(plan.graphs):
        graph = GraphChoice(compression, "biregular", block)
        name = f"C={compression} {block[0]}x{block[1]}"
        try:
            for ours in expander_layers(setup, graph, ["triton"], []):
                if isinstance(ours, tuple):
                    yield "triton", f"{name}: {ours[1]}"
                    continue
                yield in_channels_last(ours)
                if device == "cuda":
                    yield from sparse_linear_peers(setup, ours, graph, two_of_four=i == 0)
        except Exception as error:  # no such graph, or no memory for it
            yield "triton", f"{name}: {one_line(error)}"
            stop_if_broken(device, error)


def _rotating(competitor: Competitor, copies: int) -> list[Run]:
    """Calls on inputs of their own and the same weights."""
    inputs = [competitor.input] + [competitor.input.clone() for _ in range(copies - 1)]
    return [replace(competitor, input=x).runs(1)[0] for x in inputs]
