"""From which compression an expander layer pays, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from xnets._progress import track
from xnets._table import format_table
from xnets.bench._options import (
    check_device,
    check_layer_options,
    graph_names,
    machine_of,
    shape_names,
)
from xnets.bench._output import finite, span, write_rows
from xnets.bench.cases import BATCHES, STEPS, GraphChoice, read_shapes
from xnets.bench.layer_report import BLOCKS
from xnets.bench.layers import LayerRow, measure_layers
from xnets.bench.peers import PEERS

SHAPES = "1x1:64@56,1x1:256@14,1x1:512@7,3x3:64@56,3x3:256@14,3x3:512@7,linear:1024,linear:4096"
COMPRESSIONS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)


@dataclass(frozen=True)
class Breakeven:
    """From which compression one kind of layer is faster than dense.

    Args:
        step: "forward" or "training".
        kind: "linear", "1x1", "3x3"...
        shape: The size, as 64@56.
        batch: Images, or rows of features.
        threads: How many.
        backend: Which of ours.
        family: Of the graphs.
        block_out: Of the graphs.
        block_in: Of the graphs.
        compression: The least C measured from which on every C is faster than dense; None if the
            largest is not.
        speedup: The speed-up there.
        most: The largest C measured.
        speedup_at_most: The speed-up there.
    """

    step: str
    kind: str
    shape: str
    batch: int
    threads: int
    backend: str
    family: str
    block_out: int
    block_in: int
    compression: float | None
    speedup: float | None
    most: float
    speedup_at_most: float


def find_breakeven(rows: Sequence[LayerRow]) -> list[Breakeven]:
    """Read off timed rows from which compression each layer is faster than dense.

    Args:
        rows: Rows of our backends at several compressions; others are passed over.

    Returns:
        One entry for each case, backend and kind of graph.
    """
    groups: dict[tuple[object, ...], list[LayerRow]] = {}
    for row in rows:
        if row.speedup and row.family and row.competitor not in PEERS:
            case = (row.step, row.threads, row.kind, row.shape, row.batch)
            groups.setdefault((*case, row.competitor, row.family, row.block), []).append(row)
    found = []
    for group in groups.values():
        ordered = sorted(group, key=lambda row: row.compression)
        first = ordered[-1]
        pays = None
        for row in reversed(ordered):
            if (row.speedup or 0) <= 1:
                break
            pays = row
        found.append(
            Breakeven(
                step=first.step,
                kind=first.kind,
                shape=first.shape,
                batch=first.batch,
                threads=first.threads,
                backend=first.competitor,
                family=first.family or "",
                block_out=first.block_out or 1,
                block_in=first.block_in or 1,
                compression=pays.compression if pays else None,
                speedup=pays.speedup if pays else None,
                most=first.compression,
                speedup_at_most=first.speedup or 0.0,
            )
        )
    return found


@dataclass(frozen=True)
class BreakevenReport:
    """What `run_breakeven` found.

    Args:
        entries: One for each layer, step and kind of graph.
        rows: The measurements.
        files: The CSV files.
    """

    entries: tuple[Breakeven, ...]
    rows: tuple[LayerRow, ...]
    files: tuple[Path, ...]

    @property
    def wrong(self) -> list[LayerRow]:
        """The competitors that failed, or computed something else than the definition."""
        return [row for row in self.rows if row.status.startswith(("wrong", "failed"))]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        return {
            "breakeven": [finite(asdict(entry)) for entry in self.entries],
            "rows": [finite(asdict(row)) for row in self.rows],
            "files": [str(path) for path in self.files],
        }

    def __str__(self) -> str:
        """A line a layer, a column for each step and kind of graph."""
        columns: dict[tuple[Any, ...], str] = {}
        lines: dict[tuple[Any, ...], dict[tuple[Any, ...], str]] = {}
        most = max((entry.most for entry in self.entries), default=0)
        for e in self.entries:
            column = (e.step, e.backend, e.family, e.block_out, e.block_in)
            graph = f"{e.family} {e.block_out}x{e.block_in}"
            columns[column] = f"{e.step} {graph}" + (f" {e.backend}" if e.backend != "auto" else "")
            if e.compression is None:
                shown = f"- ({e.speedup_at_most:.2f} at {e.most:g})"
            else:
                shown = f"{e.compression:g} ({e.speedup:.2f})"
            lines.setdefault((e.kind, e.shape, e.batch, e.threads), {})[column] = shown
        header = ["kind", "shape", "batch", "threads", *columns.values()]
        body = [
            [*map(str, line), *(cells.get(column, "") for column in columns)]
            for line, cells in lines.items()
        ]
        return "\n".join(
            [
                "least C from which on the layer is faster than dense, and how many times there;",
                f"-: not at C = {most:g}",
                format_table(header, body, right="llrr" + "r" * len(columns)),
                *(f"NOT TIMED: {r.competitor}, {r.kind}:{r.shape}: {r.status}" for r in self.wrong),
                "",
                *(f"wrote {path}" for path in self.files),
            ]
        )


def run_breakeven(
    out: str | Path,
    *,
    shapes: str = SHAPES,
    batches: Sequence[int] = (),
    compressions: Sequence[float] = COMPRESSIONS,
    families: Sequence[str] = ("random",),
    blocks: Sequence[tuple[int, int]] = BLOCKS,
    steps: Sequence[str] = STEPS,
    threads: Sequence[int] = (),
    backends: Sequence[str] = ("auto",),
    seconds: float = 0.03,
    device: str = "cpu",
) -> BreakevenReport:
    """Find from which compression layers are faster than the faster of torch's dense layouts.

    Args:
        out: The folder for the CSV files, whose names hold the conditions.
        shapes: As `read_shapes` reads them.
        batches: Batch sizes; by default 1 and 16 for convolutions, 1 and 128 for linear layers.
        compressions: C to try.
        families: Families of graphs.
        blocks: (b_out, b_in).
        steps: "forward", "training".
        threads: Numbers of threads; torch's own number by default.
        backends: "auto", or others to look at by themselves.
        seconds: How long to time each competitor, about.
        device: "cpu" or "cuda".

    Returns:
        The table and the measurements.

    Raises:
        UserError: If an argument is unknown or out of range. A ValueError.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = run_breakeven(
        ...         folder, shapes="linear:64", batches=[1], compressions=[2.0, 4.0],
        ...         blocks=[(4, 1)], steps=["forward"], seconds=0.001,
        ...     )
        >>> len(report.entries), len(report.files)
        (1, 2)
    """
    wanted = read_shapes(shapes)
    threads = threads or [torch.get_num_threads()]
    check_layer_options(compressions, families, steps, threads, batches, backends, None)
    check_device(device, "float32", seconds)
    graphs = [GraphChoice(c, f, b) for c, f, b in product(compressions, families, blocks)]
    cases = [
        (step, many, shape, batch)
        for step, many, shape in product(steps, threads, wanted)
        for batch in batches or BATCHES["conv" if shape.kernel else "linear"]
    ]
    rows: list[LayerRow] = []
    for step, many, shape, batch in track(cases, "break-even"):
        rows += measure_layers(
            shape,
            batch,
            graphs,
            step=step,
            threads=many,
            backends=backends,
            peers=(),
            seconds=seconds,
            device=device,
            memory=False,
        )
    entries = find_breakeven(rows)
    name = (
        f"breakeven_{'-'.join(steps)}_{shape_names(wanted)}_C-{span(compressions)}_"
        f"{graph_names(families, blocks)}_"
        f"batch-{span([case[3] for case in cases])}_threads-{span(threads)}_{machine_of(device)}"
    )
    files = [write_rows(rows, Path(out) / f"{name}_times.csv")]
    if entries:
        files.insert(0, write_rows(entries, Path(out) / f"{name}.csv"))
    return BreakevenReport(tuple(entries), tuple(rows), tuple(files))
