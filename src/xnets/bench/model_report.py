"""`xnets bench models` as a whole: cases, table and CSV file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from xnets._errors import asked_by_user
from xnets._progress import track
from xnets._table import format_table
from xnets.bench._options import (
    DTYPES,
    check_device,
    check_layer_options,
    graph_names,
    machine_of,
    several,
)
from xnets.bench._output import check_choices, check_counts, finite, span, write_rows
from xnets.bench.cases import GraphChoice
from xnets.bench.model_peers import MODEL_PEERS, default_model_peers
from xnets.bench.models import STEPS, ModelCompetitor, ModelRow, measure_models, model_competitors
from xnets.bench.roofline import Ceilings, measure_ceilings
from xnets.bench.summary import geometric_mean
from xnets.bench.timer import threads_set
from xnets.models import full_name, input_size, read_size

MODELS = ("torchvision:resnet50", "torchvision:vgg16")  # vgg16 alone is ours, for CIFAR
BATCHES = (1, 16)


@dataclass(frozen=True)
class ModelsReport:
    """What `run_models` measured.

    Args:
        rows: One for each network of each case.
        files: The CSV file.
        ceilings: Of the device, by number of threads.
    """

    rows: tuple[ModelRow, ...]
    files: tuple[Path, ...]
    ceilings: Mapping[int, Ceilings] = field(default_factory=dict)

    @property
    def wrong(self) -> list[ModelRow]:
        """The networks that computed something else than the definition."""
        return [row for row in self.rows if row.status.startswith("wrong")]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        rows = [finite(asdict(row)) for row in self.rows]
        ceilings = {str(many): asdict(found) for many, found in self.ceilings.items()}
        files = [str(path) for path in self.files]
        return {"rows": rows, "means": self.means(), "files": files, "ceilings": ceilings}

    def means(self) -> list[dict[str, Any]]:
        """Geometric means over all models and batches, of the thinned networks and those in groups.

        Returns:
            One for each of them: `speedup` over the faster dense layout, its `least`, and `over_X`,
            how many times longer peer X takes in the same case at the same compression.
        """
        eager = [r for r in self.rows if r.ms and r.launch == "eager"]
        peers = {(*_case(r), r.competitor, _cost(r)): r.ms for r in eager if r.ms}
        groups: dict[tuple[Any, ...], list[ModelRow]] = {}
        for r in self.rows:
            if r.speedup and r.family and r.launch == "eager":
                groups.setdefault(tuple(getattr(r, name) for name in _KIND), []).append(r)
        return [
            {
                **dict(zip(_KIND, kind, strict=True)),
                "cases": len(rows),
                "speedup": geometric_mean(r.speedup for r in rows if r.speedup),
                "least": min(r.speedup for r in rows if r.speedup),
                **{f"over_{peer.replace('-', '_')}": _over(peer, rows, peers) for peer in _OTHERS},
            }
            for kind, rows in groups.items()
        ]

    def __str__(self) -> str:
        header = ["step", "model", "batch", "threads", "network", "ms", "spread", "speed-up"]
        header += ["roofline", "params", "MACs", "file MB", "held MiB", "peak MiB", ""]
        body = [_cells(row) for row in self.rows]
        lines = [f"ceilings, threads {many}: {found}" for many, found in self.ceilings.items()]
        lines += [format_table(header, body, right="llrrlrrrrrrrrr"), ""]
        lines += [_sentence(mean) for mean in self.means()]
        return "\n".join([*lines, "", *(f"wrote {path}" for path in self.files)])


_KIND = (
    "competitor", "step", "threads", "compression", "family", "block_out", "block_in", "backend",
)  # fmt: skip
_OTHERS = ("compiled", "onnxruntime", "openvino", "grouped", "grouped-onnxruntime")
_TITLES = {
    "compiled": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "grouped-onnxruntime": "grouped in ONNX Runtime",
}


def _case(row: ModelRow) -> tuple[Any, ...]:
    return row.step, row.model, row.input, row.batch, row.threads


def _cost(row: ModelRow) -> float | None:
    """The compression, of what has groups: such a peer stands beside networks of the same only."""
    return row.compression if row.family == "grouped" and row.backend is None else None


def _over(peer: str, rows: Sequence[ModelRow], peers: dict[tuple[Any, ...], float]) -> float | None:
    if rows[0].competitor == peer:
        return None
    ratios = []
    for row in rows:
        cost = row.compression if peer.startswith("grouped") else None
        theirs = peers.get((*_case(row), peer, cost))
        if theirs and row.ms:
            ratios.append(theirs / row.ms)
    return geometric_mean(ratios)


def _sentence(mean: dict[str, Any]) -> str:
    over = [
        f"{ratio:.2f} as {_TITLES.get(peer, peer)}"
        for peer in _OTHERS
        if (ratio := mean[f"over_{peer.replace('-', '_')}"])
    ]
    text = (
        f"{mean['step']}, {mean['threads']} threads, C={mean['compression']:g} {_network(mean)}: "
        f"{mean['speedup']:.2f} times as fast as the faster dense layout"
    )
    if mean["cases"] > 1:
        text += f" (geometric mean of {mean['cases']}; at least {mean['least']:.2f})"
    return ", ".join([text, *over])


def _network(row: dict[str, Any]) -> str:
    """What a thinned network is, without its compression."""
    if row["competitor"] == "grouped":
        return "grouped, torch"
    if row["competitor"] == "grouped-onnxruntime":
        return "grouped, ONNX Runtime"
    text = f"{row['family']} {row['block_out']}x{row['block_in']} {row['backend']}"
    return f"{text}, optimized" if row["competitor"] == "optimized" else text


def _cells(row: ModelRow) -> list[str]:
    network = f"dense {row.layout or 'NCHW'}"
    if row.family:
        network = f"C={row.compression:g} {_network(asdict(row))}"
    elif row.competitor != "dense":
        network = f"dense {_TITLES[row.competitor]}"
    network += ", graph" if row.launch == "graph" else ""
    cells = [row.step, row.model, str(row.batch), str(row.threads), network]
    if row.ms is None or row.ms_low is None or row.ms_high is None:
        cells += ["", "", "", ""]
    else:
        spread = (row.ms_high - row.ms_low) / row.ms
        cells += [f"{row.ms:.1f}", f"{spread:.0%}", f"{row.speedup:.2f}" if row.speedup else ""]
        cells += [f"{row.roofline:.0%}" if row.roofline else ""]
    cells += ["" if n is None else f"{n:,}" for n in (row.params, row.macs)]
    cells += ["" if row.file_bytes is None else f"{row.file_bytes / 1e6:.1f}"]
    cells += ["" if n is None else f"{n / 2**20:.0f}" for n in (row.held_bytes, row.peak_bytes)]
    return [*cells, "" if row.status == "ok" else row.status]


def run_models(
    out: str | Path,
    *,
    models: Sequence[str] = MODELS,
    size: str | None = None,
    batches: Sequence[int] = BATCHES,
    compressions: Sequence[float] = (4.0,),
    families: Sequence[str] = ("random",),
    blocks: Sequence[tuple[int, int]] = ((4, 1),),
    steps: Sequence[str] = STEPS,
    threads: Sequence[int] = (),
    backends: Sequence[str] = ("auto",),
    seconds: float = 1.0,
    device: str = "cpu",
    dtype: str = "float32",
    memory: bool = True,
    peers: Sequence[str] | None = None,
) -> ModelsReport:
    """Check and time whole networks, dense and converted, and what a user would pick instead.

    Args:
        out: The folder for the CSV file, whose name holds the conditions.
        models: Names as `xnets.models.full_name` takes them.
        size: Shape of one input, as 3x64x64; by default what the model takes.
        batches: Batch sizes.
        compressions: C.
        families: Families of graphs; "grouped" is the same network with groups.
        blocks: (b_out, b_in).
        steps: "inference", "training".
        threads: Numbers of threads; torch's own number by default.
        backends: "auto" or others.
        seconds: How long to time each, about; at least three rounds.
        device: "cpu" or "cuda".
        dtype: "float32", or "bfloat16" or "float16" by autocast.
        memory: Whether to measure memory too.
        peers: Some of MODEL_PEERS, or none; all by default.

    Returns:
        The rows.

    Raises:
        UserError: If an argument is unknown or out of range. A ValueError.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = run_models(
        ...         folder, models=["mlp"], batches=[1], steps=["inference"], peers=[],
        ...         seconds=0.001, memory=False,
        ...     )
        >>> [row.competitor for row in report.rows]
        ['dense', 'dense', 'expander']
    """
    threads = threads or [torch.get_num_threads()]
    check_choices("step", steps, STEPS)
    check_counts(1, batches=batches)
    check_layer_options(compressions, families, (), threads, batches, backends, None)
    check_device(device, dtype, seconds)
    peers = default_model_peers() if peers is None else peers
    check_choices("peer", peers, MODEL_PEERS)
    with asked_by_user():
        sizes = {full_name(name): read_size(size) if size else input_size(name) for name in models}
    graphs = [GraphChoice(c, f, b) for c, f, b in product(compressions, families, blocks)]
    ceilings = {}
    for many in threads:
        with threads_set(many):
            ceilings[many] = measure_ceilings(device, DTYPES[dtype], seconds=min(seconds, 0.1))
    rows: list[ModelRow] = []
    cases = list(product(sizes, steps, threads, batches))
    built: dict[str, list[ModelCompetitor]] = {}
    for name, step, many, batch in track(cases, "models"):
        if name not in built:
            with asked_by_user():
                built = {
                    name: model_competitors(name, sizes[name], graphs, backends, device, peers)
                }
        x = torch.randn(batch, *sizes[name], generator=torch.Generator().manual_seed(0)).to(device)
        with threads_set(many):
            rows += measure_models(
                built[name],
                x,
                step=step,
                seconds=seconds,
                device=device,
                dtype=dtype,
                memory=memory,
                ceilings=ceilings[many],
                model=name.rpartition(":")[2],
                input="x".join(map(str, sizes[name])),
                threads=many,
            )
    names = [name.rpartition(":")[2] for name in sizes]
    parts = [
        "models",
        several(names, "models"),
        *([size] if size else []),
        "-".join(steps),
        f"C-{span(compressions)}",
        graph_names(families, blocks),
        f"batch-{span(batches)}",
        f"threads-{span(threads)}",
        *([dtype] if dtype != "float32" else []),
        machine_of(device),
    ]
    path = write_rows(rows, Path(out) / f"{'_'.join(parts)}.csv")
    return ModelsReport(tuple(rows), (path,), ceilings)
