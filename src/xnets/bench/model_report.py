"""`xnets bench models` as a whole: cases, table and CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from xnets._errors import asked_by_user
from xnets._progress import track
from xnets._table import format_table
from xnets.bench._options import (
    check_device,
    check_layer_options,
    graph_names,
    machine_of,
    several,
)
from xnets.bench._output import check_choices, check_counts, finite, span, write_rows
from xnets.bench.cases import GraphChoice
from xnets.bench.models import STEPS, ModelCompetitor, ModelRow, measure_models, model_competitors
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
    """

    rows: tuple[ModelRow, ...]
    files: tuple[Path, ...]

    @property
    def wrong(self) -> list[ModelRow]:
        """The networks that computed something else than the definition."""
        return [row for row in self.rows if row.status.startswith("wrong")]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        rows = [finite(asdict(row)) for row in self.rows]
        return {"rows": rows, "means": self.means(), "files": [str(path) for path in self.files]}

    def means(self) -> list[dict[str, Any]]:
        """Geometric means of the speed-up over all models and batches."""
        groups: dict[tuple[Any, ...], list[float]] = {}
        for r in self.rows:
            if r.speedup and r.family:
                key = (r.step, r.threads, r.compression, r.family, r.block_out, r.block_in)
                groups.setdefault((*key, r.backend), []).append(r.speedup)
        names = ("step", "threads", "compression", "family", "block_out", "block_in", "backend")
        return [
            {
                **dict(zip(names, key, strict=True)),
                "cases": len(values),
                "speedup": geometric_mean(values),
                "least": min(values),
            }
            for key, values in groups.items()
        ]

    def __str__(self) -> str:
        header = ["step", "model", "batch", "threads", "network", "ms", "spread", "speed-up"]
        header += ["params", "MACs", "peak MiB", ""]
        body = [_cells(row) for row in self.rows]
        lines = [format_table(header, body, right="llrrlrrrrrr")]
        for mean in self.means():
            if mean["cases"] > 1:
                lines.append(
                    f"{mean['step']}, {mean['threads']} threads, C={mean['compression']:g} "
                    f"{mean['family']} {mean['block_out']}x{mean['block_in']} {mean['backend']}: "
                    f"{mean['speedup']:.2f} times the faster dense layout (geometric mean of "
                    f"{mean['cases']}), at least {mean['least']:.2f}"
                )
        return "\n".join([*lines, "", *(f"wrote {path}" for path in self.files)])


def _cells(row: ModelRow) -> list[str]:
    network = f"dense {row.layout or 'NCHW'}"
    if row.family:
        network = f"C={row.compression:g} {row.family} {row.block_out}x{row.block_in} {row.backend}"
    cells = [row.step, row.model, str(row.batch), str(row.threads), network]
    if row.ms is None or row.ms_low is None or row.ms_high is None:
        cells += ["", "", ""]
    else:
        spread = (row.ms_high - row.ms_low) / row.ms
        cells += [f"{row.ms:.1f}", f"{spread:.0%}", f"{row.speedup:.2f}" if row.speedup else ""]
    cells += ["" if n is None else f"{n:,}" for n in (row.params, row.macs)]
    cells += ["" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}"]
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
    memory: bool = True,
) -> ModelsReport:
    """Check and time whole networks, dense and converted.

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
        memory: Whether to measure the peak of memory too.

    Returns:
        The rows.

    Raises:
        UserError: If an argument is unknown or out of range. A ValueError.
    """
    threads = threads or [torch.get_num_threads()]
    check_choices("step", steps, STEPS)
    check_counts(1, batches=batches)
    check_layer_options(compressions, families, (), threads, batches, backends, None)
    check_device(device, "float32", seconds)
    with asked_by_user():
        sizes = {full_name(name): read_size(size) if size else input_size(name) for name in models}
    graphs = [GraphChoice(c, f, b) for c, f, b in product(compressions, families, blocks)]
    rows: list[ModelRow] = []
    cases = list(product(sizes, steps, threads, batches))
    built: dict[str, list[ModelCompetitor]] = {}
    for name, step, many, batch in track(cases, "models"):
        if name not in built:
            with asked_by_user():
                built = {name: model_competitors(name, sizes[name], graphs, backends, device)}
        x = torch.randn(batch, *sizes[name], generator=torch.Generator().manual_seed(0)).to(device)
        with threads_set(many):
            rows += measure_models(
                built[name],
                x,
                step=step,
                seconds=seconds,
                device=device,
                memory=memory,
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
        machine_of(device),
    ]
    path = write_rows(rows, Path(out) / f"{'_'.join(parts)}.csv")
    return ModelsReport(tuple(rows), (path,))
