"""Every figure that the Triton backend should reach on a GPU, in one call.

    python -m xnets.bench.gpu --out results

Layers against the best dense layer (both memory layouts, eager and compiled), grouped convolution,
torch's BSR and 2:4 sparsity; training steps of whole networks; each beside what was asked for and
beside the device's own ceilings, measured in the same run. Ends within `--budget` seconds: what did
not fit is listed, not guessed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from xnets._errors import UserError
from xnets.bench._gpu_networks import Network, NetworkRow, time_network
from xnets.bench._gpu_parts import (
    Ceilings,
    captured,
    compiled,
    copies_beyond_cache,
    measure_ceilings,
    sparse_linear_peers,
    work,
)
from xnets.bench._gpu_report import report
from xnets.bench._gpu_tiles import compare_tiles
from xnets.bench._output import write_rows
from xnets.bench.cases import STEPS, GraphChoice, Setup, compare, read_shapes
from xnets.bench.memory import peak_memory
from xnets.bench.peers import Competitor, dense_layers, expander_layers, grouped_layer
from xnets.bench.timer import Run, time_interleaved
from xnets.ops._triton import config

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


def run_figures(
    out: Path | None,
    *,
    plan: Plan = FULL,
    device: str = "cuda",
    budget: float = 450,
    seconds: float,
) -> str:
    """Measure a plan, write the rows, and return the report.

    Args:
        out: Folder for the CSV files, or None.
        plan: What to measure.
        device: "cuda"; "cpu" runs the kernels in Triton's interpreter, whose times mean nothing.
        budget: After so many seconds no further case is begun.
        seconds: How long to time each competitor of a case, about.

    Returns:
        Ceilings, tables, and each figure asked for beside the one found.

    Raises:
        UserError: If there is no such device.
    """
    _check(device)
    torch.backends.cudnn.benchmark = True
    end = time.monotonic() + budget
    ceilings = measure_ceilings(device, plan.dtype, plan.ceiling, seconds)
    layers: list[LayerRow] = []
    networks: list[NetworkRow] = []
    skipped: list[str] = []
    # Networks after the first layers: they are worth more than the last of them.
    for case in _cases(plan):
        name = case.model if isinstance(case, Network) else " ".join(map(str, case[:3]))
        if time.monotonic() > end:
            skipped.append(name)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        if isinstance(case, Network):
            networks += time_network(case, device=device, seconds=5 * seconds)
        else:
            layers += _time_layer(*case, plan, ceilings, device, seconds)
        if out is not None:  # at once: what was measured outlives a time limit
            _write(out, layers, networks)
        if device == "cuda":
            torch.cuda.empty_cache()
    return report(layers, networks, ceilings, skipped, on_gpu=device == "cuda")


def _compare_tiles(
    out: Path | None, *, plan: Plan, device: str, budget: float, seconds: float
) -> str:
    _check(device)
    few = [config.Tile(64, 128, 32, 4, 2)] if device == "cpu" else None
    return compare_tiles(
        plan.shapes[:2],
        plan.graphs[:3],
        dtype=plan.dtype,
        device=device,
        seconds=seconds / 5,
        budget=budget,
        tiles=few,
    )


def _check(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("`device` (=cuda): torch finds no CUDA device")


def _cases(plan: Plan) -> Iterator[Network | tuple[str, int, str, bool]]:
    """(shape, batch, step, as CUDA graphs), or a network."""
    for shape, batch in plan.shapes[:2]:
        yield from ((shape, batch, step, False) for step in STEPS)
    yield from plan.networks
    for shape, batch in plan.shapes[2:]:
        yield from ((shape, batch, step, False) for step in STEPS)
    yield from ((shape, batch, "forward", True) for shape, batch in plan.small)


def _time_layer(
    label: str,
    batch: int,
    step: str,
    graphs: bool,
    plan: Plan,
    ceilings: Ceilings,
    device: str,
    seconds: float,
) -> list[LayerRow]:
    [shape] = read_shapes(label)
    setup = Setup(shape, batch, training=step == "training", device=device, dtype=plan.dtype)
    launch = "graph" if graphs and device == "cuda" else "eager"
    rows: list[LayerRow] = []
    ready: dict[str, tuple[LayerRow, list[Run], int]] = {}
    for competitor in _competitors(setup, plan, device):
        row = LayerRow(label, batch, step, launch, "")
        if isinstance(competitor, tuple):
            rows.append(replace(row, competitor=competitor[0], note=competitor[1]))
            continue
        graph = competitor.graph
        row = replace(
            row,
            competitor=competitor.name,
            layout=competitor.layout,
            compression=graph.compression if graph else 1,
            block=f"{graph.block[0]}x{graph.block[1]}" if graph else "",
        )
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False):
                expected = competitor.expected()  # in float64: not worth a search for its kernel
            error, wrong = compare(competitor.results(), expected, device)
            runs = _rotating(competitor, copies_beyond_cache(setup))
            if launch == "graph":
                runs = [captured(run) for run in runs]
        except RuntimeError as problem:  # a peer that does not work here is no reason to stop
            rows.append(replace(row, note=str(problem).partition("\n")[0]))
            continue
        peak = peak_memory(runs[0], device) if device == "cuda" else None
        row = replace(row, error=error, note=wrong, peak_bytes=peak)
        ready[str(len(ready))] = (row, runs, competitor.edges)
    times = time_interleaved(
        {key: runs for key, (_, runs, _) in ready.items()}, seconds=seconds, device=device
    )
    dense = min(
        times[key].median for key, (row, *_) in ready.items() if row.competitor.startswith("dense")
    )
    itemsize = plan.dtype.itemsize
    for key, (row, _, edges) in ready.items():
        least = ceilings.seconds(*work(shape, batch, edges, itemsize, training=setup.training))
        timing = times[key]
        rows.append(
            replace(
                row,
                ms=timing.median,
                low=timing.low,
                high=timing.high,
                speedup=dense / timing.median,
                roofline=1e3 * least / timing.median,
            )
        )
    return rows


def _competitors(setup: Setup, plan: Plan, device: str) -> Iterator[Competitor | tuple[str, str]]:
    for dense in dense_layers(setup):
        yield dense
        if device == "cuda" and (dense.layout or not setup.shape.kernel):
            yield compiled(dense)
    for compression in dict.fromkeys(compression for compression, _ in plan.graphs):
        grouped = grouped_layer(setup, GraphChoice(compression, "grouped", (1, 1)))
        yield ("grouped", grouped) if isinstance(grouped, str) else _channels_last(grouped)
    for compression, block in plan.graphs:
        graph = GraphChoice(compression, "biregular", block)
        name = f"C={compression} {block[0]}x{block[1]}"
        try:
            for ours in expander_layers(setup, graph, ["triton"], []):
                if isinstance(ours, tuple):
                    yield "triton", f"{name}: {ours[1]}"
                    continue
                yield _channels_last(ours)
                if device == "cuda":
                    yield from sparse_linear_peers(setup, ours, graph)
        except ValueError as error:  # no such graph
            yield "triton", f"{name}: {error}"


def _channels_last(competitor: Competitor) -> Competitor:
    if competitor.input.dim() != 4:
        return competitor
    last = torch.channels_last
    grad = competitor.grad_output
    return replace(
        competitor,
        module=competitor.module.to(memory_format=last),
        input=competitor.input.contiguous(memory_format=last),
        grad_output=None if grad is None else grad.contiguous(memory_format=last),
        layout="channels_last",
    )


def _rotating(competitor: Competitor, copies: int) -> list[Run]:
    """Calls on inputs of their own and the same weights."""
    inputs = [competitor.input] + [competitor.input.clone() for _ in range(copies - 1)]
    return [replace(competitor, input=x).runs(1)[0] for x in inputs]


def _write(out: Path, layers: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> None:
    name = torch.cuda.get_device_name().replace(" ", "-") if torch.cuda.is_available() else "cpu"
    version = torch.__version__.partition("+")[0]
    for kind, rows in (("layers", layers), ("networks", networks)):
        if rows:
            write_rows(rows, out / f"gpu-{kind}_{name}_torch-{version}.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and print the report."""
    parser = argparse.ArgumentParser(prog="python -m xnets.bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for CSV files")
    parser.add_argument("--budget", type=float, default=420, help="seconds; no case begins later")
    parser.add_argument("--seconds", type=float, default=0.15, help="timing of each competitor")
    parser.add_argument("--tiles", action="store_true", help="instead: compare tile sizes")
    parser.add_argument("--tiny", action="store_true", help="tiny layers on the CPU, interpreted")
    given = parser.parse_args(arguments)
    plan, device = (TINY, "cpu") if given.tiny else (FULL, "cuda")
    try:
        text = (_compare_tiles if given.tiles else run_figures)(
            given.out, plan=plan, device=device, budget=given.budget, seconds=given.seconds
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
