"""How fast whole networks are, dense and converted, in one run, interleaved."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xnets._errors import UserError
from xnets.bench._gpu_parts import captured, cudnn_benchmark
from xnets.bench._model_competitor import ModelCompetitor as ModelCompetitor
from xnets.bench._model_parity import (
    check_against_dense,
    compare_outputs,
    exact_float32,
    without_zeros,
)
from xnets.bench._options import DTYPES
from xnets.bench.cases import GraphChoice
from xnets.bench.memory import peak_memory, resident_memory
from xnets.bench.model_peers import (
    CannotTakePart,
    dense_peers,
    grouped_peers,
    optimized_peer,
)
from xnets.bench.roofline import Ceilings, NetworkWork, network_work
from xnets.bench.timer import Run, time_interleaved
from xnets.count import count
from xnets.files import save
from xnets.models import build_model

STEPS = ("inference", "training")


@dataclass(frozen=True)
class ModelRow:
    """One network in one case.

    Args:
        step: "inference" (eval mode) or "training" (train mode, forward and all gradients).
        model: The network's name.
        input: Shape of one input, as 3x224x224.
        batch: How many inputs.
        threads: How many.
        competitor: "dense" or "expander", or a peer: "compiled", "onnxruntime" and "openvino" are
            the dense network in other runtimes, "grouped" and "grouped-onnxruntime" the one with
            groups, "optimized" is the expander network after `xnets.optimize`.
        layout: "channels_last" or nothing.
        compression: C as asked for; 1 for dense.
        family: Of the graphs.
        block_out: Of the graphs.
        block_in: Of the graphs.
        backend: As asked for.
        status: "ok", or why there is no time: "cannot: ...", "wrong: ...", "failed: ...".
        error: Largest relative difference from the same network with dense layers; of a peer, from
            the same network in torch.
        ms: Median time of a step, milliseconds.
        ms_low: First quartile over the rounds.
        ms_high: Third quartile.
        rounds: How many rounds.
        images_per_second: Inputs a second.
        speedup: Time of the faster dense layout over this one's; on a GPU of the fastest dense
            network, compiled and as a CUDA graph included.
        params: Number of parameters.
        macs: Multiply-accumulates of one input's forward pass.
        bytes: Of parameters and buffers, index tables included.
        file_bytes: Size of the file that ships the network: of `xnets.save`, or ONNX.
        held_bytes: Memory that the loaded network holds before it runs.
        peak_bytes: Memory that a step adds at most; see `peak_memory`.
        roofline: The least time that the ceilings allow, as a share of `ms`; see `NetworkWork`.
        launch: "eager", or "graph" (a CUDA graph).
        dtype: "float32", or what autocast computes in.
    """

    step: str
    model: str
    input: str
    batch: int
    threads: int
    competitor: str
    layout: str = ""
    compression: float = 1
    family: str | None = None
    block_out: int | None = None
    block_in: int | None = None
    backend: str | None = None
    status: str = "ok"
    error: float | None = None
    ms: float | None = None
    ms_low: float | None = None
    ms_high: float | None = None
    rounds: int | None = None
    images_per_second: float | None = None
    speedup: float | None = None
    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    file_bytes: int | None = None
    held_bytes: int | None = None
    peak_bytes: int | None = None
    roofline: float | None = None
    launch: str = "eager"
    dtype: str = "float32"


def model_competitors(
    name: str,
    size: Sequence[int],
    graphs: Sequence[GraphChoice],
    backends: Sequence[str],
    device: str = "cpu",
    peers: Sequence[str] = (),
) -> list[ModelCompetitor]:
    """The dense network in both layouts, its expander versions, and their peers.

    Args:
        name: As `xnets.models.full_name` takes it.
        size: Shape of one input.
        graphs: What graphs to draw.
        backends: "auto" or other backends.
        device: Where to.
        peers: Some of `xnets.bench.model_peers.MODEL_PEERS`.

    Returns:
        The competitors, the dense ones first.

    Raises:
        UserError: If the network cannot take such an input.
    """
    found = []
    for layout in ("", "channels_last"):
        torch.manual_seed(0)
        model = without_zeros(build_model(name, compression=1)).to(device)
        if layout:
            model = model.to(memory_format=torch.channels_last)
        try:
            sizes = _sizes(model, size, device)
        except RuntimeError as error:
            raise UserError(
                f"model {name!r} cannot take an input of {'x'.join(map(str, size))}, give another "
                f"by `--input`: {error}"
            ) from error
        row: dict[str, Any] = {"competitor": "dense", "layout": layout, **sizes}
        needed = network_work(model, torch.zeros(1, *size, device=device))
        found.append(ModelCompetitor(row, model, work=needed))
    first = found[0].model
    assert first is not None
    if device == "cpu":
        found += dense_peers(first, found[0].row, peers)
    elif "compiled" in peers:  # in training too, channels last; the other runtimes are the CPU's
        compiled: Any = torch.compile(copy.deepcopy(model), dynamic=False)
        found.append(ModelCompetitor({**row, "competitor": "compiled"}, compiled, work=needed))
    with_groups = set()
    for graph, backend in product(graphs, backends):
        b_out, b_in = graph.block
        row = {
            "competitor": "expander",
            "compression": graph.compression,
            "family": graph.family,
            "block_out": b_out,
            "block_in": b_in,
            "backend": backend,
        }
        torch.manual_seed(0)
        try:
            sparse = build_model(
                name,
                compression=graph.compression,
                family=graph.family,
                block=graph.block,
                backend=backend,
            ).to(device)
        except ValueError as error:
            found.append(ModelCompetitor({**row, "status": f"cannot: {error}"}))
            continue
        sparse = without_zeros(sparse)
        try:
            row |= _sizes(sparse, size, device)
        except ValueError as error:  # the backend cannot run one of the layers
            found.append(ModelCompetitor({**row, "status": f"cannot: {error}"}))
            continue

        def check(x: Tensor, step: str, sparse: nn.Module = sparse) -> tuple[float, str]:
            return check_against_dense(sparse, x, training=step == "training")

        if device != "cpu":
            sparse = sparse.to(memory_format=torch.channels_last)
            row["layout"] = "channels_last"
        needed = network_work(sparse, torch.zeros(1, *size, device=device))
        found.append(ModelCompetitor(row, sparse, check, work=needed))
        if "optimized" in peers:
            found.append(optimized_peer(sparse, row))
        if "grouped" in peers and graph.compression not in with_groups:
            with_groups.add(graph.compression)
            found += grouped_peers(
                name, sparse, graph.compression, peers, lambda net: _sizes(net, size, device)
            )
    return found


def _sizes(model: nn.Module, size: Sequence[int], device: str) -> dict[str, int]:
    counted = count(model.to(device), torch.zeros(1, *size, device=device))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The grouped twin is not what create_model made, and need not be.
        warnings.filterwarnings("ignore", message="the model is no longer what create_model made")
        path = Path(folder) / "model.safetensors"
        save(model, path)
        file_bytes = path.stat().st_size
    return {
        "params": counted.params,
        "macs": counted.macs,
        "bytes": counted.bytes,
        "file_bytes": file_bytes,
        "held_bytes": counted.bytes,
    }


def measure_models(
    competitors: Sequence[ModelCompetitor],
    x: Tensor,
    *,
    step: str = "inference",
    seconds: float = 1.0,
    device: str = "cpu",
    dtype: str = "float32",
    memory: bool = True,
    ceilings: Ceilings | None = None,
    **conditions: Any,
) -> list[ModelRow]:
    """Check and time competing networks on one batch, interleaved.

    On a GPU each is timed eagerly, on inputs that take turns, and as a CUDA graph.

    Args:
        competitors: The networks.
        x: The batch.
        step: "inference" or "training".
        seconds: How long to time each, about; at least three rounds.
        device: "cpu" or "cuda".
        dtype: "float32", or "bfloat16" or "float16" by autocast; checked in float32 always.
        memory: Whether to measure the peak of memory too.
        ceilings: Of the device, for the roofline; none without.
        conditions: Further fields of the rows.

    Returns:
        A row for each.
    """
    taking_part = [c for c in competitors if step == "inference" or c.start is None]
    rows: list[ModelRow] = []
    runs: dict[str, list[Run]] = {}
    works: list[NetworkWork] = []
    on_gpu = device != "cpu"
    with cudnn_benchmark(on_gpu):
        for competitor in taking_part:
            row = ModelRow(step=step, batch=len(x), dtype=dtype, **conditions, **competitor.row)
            calls: list[Run] = []
            if competitor.model is not None:
                row, calls = _prepare(row, competitor, x, step, device, memory)
            rows.append(row)
            works.append(competitor.work)
            if not calls:
                continue
            runs[str(len(rows) - 1)] = calls
            if memory and row.peak_bytes is None:
                rows[-1] = replace(row, peak_bytes=peak_memory(calls[0], device, tries=1))
            if on_gpu:
                rows.append(replace(rows[-1], launch="graph"))
                works.append(competitor.work)
                try:
                    runs[str(len(rows) - 1)] = [captured(calls[0])]
                except Exception as problem:
                    rows[-1] = replace(rows[-1], status=f"cannot: be captured: {_short(problem)}")
        timings = time_interleaved(runs, seconds=seconds, device=device)
    for key, timing in timings.items():
        i = int(key)
        least = None
        if ceilings is not None and works[i].layers:
            itemsize = DTYPES[dtype].itemsize
            least = works[i].seconds(ceilings, len(x), itemsize, training=step == "training")
        rows[i] = replace(
            rows[i],
            ms=timing.median,
            ms_low=timing.low,
            ms_high=timing.high,
            rounds=timing.rounds,
            images_per_second=1e3 * len(x) / timing.median,
            roofline=None if least is None else 1e3 * least / timing.median,
        )
    names = ("dense", "compiled") if on_gpu else ("dense",)
    dense = min((r.ms for r in rows if r.competitor in names and r.ms), default=None)
    return [replace(r, speedup=dense / r.ms) if dense and r.ms else r for r in rows]


def _prepare(
    row: ModelRow, competitor: ModelCompetitor, x: Tensor, step: str, device: str, memory: bool
) -> tuple[ModelRow, list[Run]]:
    """Check one competitor: its row so far, and its calls if they may be timed."""
    try:
        if competitor.start is None:
            with exact_float32():
                error, wrong = competitor.check(x, step)
            assert competitor.model is not None
            competitor.model.train(step == "training")
            inputs = [x] + [x.clone() for _ in range(_copies(x) - 1)]
            calls: list[Run] = [competitor.run(one, step, DTYPES[row.dtype]) for one in inputs]
            for call in calls:
                call()
        else:
            row, run, error, wrong = _start(row, competitor, x, device, memory)
            calls = [run]
    except CannotTakePart as problem:
        return replace(row, status=f"cannot: {problem}"), []
    except Exception as problem:  # one broken competitor is no reason to lose the others
        return replace(row, status=f"failed: {_short(problem)}"), []
    row = replace(row, error=error, status=f"wrong: {wrong}" if wrong else "ok")
    return row, [] if wrong else calls


def _copies(x: Tensor) -> int:
    """How many inputs take turns, so that a GPU's cache holds none of them."""
    if x.device.type == "cpu":
        return 1
    cache = torch.cuda.get_device_properties(x.device).L2_cache_size
    return min(8, 1 + 2 * cache // (x.numel() * x.element_size()))


def _short(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200]


def _start(
    row: ModelRow, competitor: ModelCompetitor, x: Tensor, device: str, memory: bool
) -> tuple[ModelRow, Run, float, str]:
    """Load a network into another runtime, look at its memory, and compare it with torch's."""
    assert competitor.start is not None
    assert competitor.model is not None
    model = competitor.model.eval()
    with torch.inference_mode():
        expected = model(x)
    load = competitor.start(x)
    before = resident_memory() if memory else None
    started = load()
    held = None
    if before is not None and started.held_is_known:
        held = max(0, (resident_memory() or 0) - before)
    row = replace(row, held_bytes=held)
    if started.file_bytes is not None:
        row = replace(row, file_bytes=started.file_bytes)
    if memory and started.keeps_scratch:  # a later call would seem to need nothing
        row = replace(row, peak_bytes=peak_memory(started.run, device, tries=1))
    error, wrong = compare_outputs(started.run(), expected)
    return row, started.run, error, wrong
