"""`xnets bench layers` as a whole: cases, table, CSV files and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from xnets._progress import track
from xnets.bench._layer_tables import case_table, details_table, summary_table, worse_than_fastest
from xnets.bench._options import (
    DTYPES,
    check_device,
    check_layer_options,
    graph_names,
    machine_of,
    shape_names,
)
from xnets.bench._output import finite, span, write_rows
from xnets.bench.cases import BATCHES, STANDARD, STEPS, GraphChoice, read_shapes
from xnets.bench.layers import LayerRow, measure_layers
from xnets.bench.peers import PEERS
from xnets.bench.roofline import Ceilings, measure_ceilings
from xnets.bench.summary import Summary, summarise
from xnets.bench.timer import threads_set

COMPRESSIONS = (2.0, 4.0, 8.0)
BLOCKS = ((1, 1), (4, 1), (4, 4))


@dataclass(frozen=True)
class LayersReport:
    """What `run_layers` measured.

    Args:
        rows: One for each competitor of each case.
        summary: Geometric means of speed-up / C.
        files: The CSV files and the picture.
        details: Whether to print every competitor.
        ceilings: Of the device, by number of threads.
    """

    rows: tuple[LayerRow, ...]
    summary: tuple[Summary, ...]
    files: tuple[Path, ...]
    details: bool = False
    ceilings: Mapping[int, Ceilings] = field(default_factory=dict)

    @property
    def wrong(self) -> list[LayerRow]:
        """The competitors that failed, or computed something else than the definition."""
        return [row for row in self.rows if row.status.startswith(("wrong", "failed"))]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        return {
            "rows": [finite(asdict(row)) for row in self.rows],
            "summary": [finite(asdict(row)) for row in self.summary],
            "files": [str(path) for path in self.files],
            "ceilings": {str(count): asdict(ceiling) for count, ceiling in self.ceilings.items()},
        }

    def __str__(self) -> str:
        """Speed-ups, then their geometric means, then whatever went wrong."""
        parts = [
            *(f"ceilings, threads {count}: {found}" for count, found in self.ceilings.items()),
            "speed-up over the fastest dense layer",
            details_table(self.rows) if self.details else case_table(self.rows),
            "\ngeometric means of speed-up / C, the least speed-up, and times of others over ours",
            summary_table(self.summary),
        ]
        parts += worse_than_fastest(self.rows)
        spreads = sorted(
            (r.ms_high - r.ms_low) / r.ms for r in self.rows if r.ms and r.ms_high and r.ms_low
        )
        if spreads and spreads[len(spreads) // 2] > 0.1:
            parts.append(
                f"the machine was busy: times vary by {spreads[len(spreads) // 2]:.0%} from round "
                "to round (median interquartile range)"
            )
        absent = {r.competitor: r.status for r in self.rows if r.status.startswith("cannot")}
        parts += [f"{name} {status}" for name, status in absent.items()]
        for row in self.wrong:
            graph = f" C={row.compression:g} {row.family} {row.block}" if row.family else ""
            where = f"{row.step} {row.kind}:{row.shape} batch {row.batch}"
            parts.append(f"NOT TIMED: {row.competitor}{graph}, {where}: {row.status}")
        return "\n".join([*parts, "", *(f"wrote {path}" for path in self.files)])


def run_layers(
    out: str | Path,
    *,
    shapes: str = ",".join(STANDARD),
    batches: Sequence[int] = (),
    compressions: Sequence[float] = COMPRESSIONS,
    families: Sequence[str] = ("random",),
    blocks: Sequence[tuple[int, int]] = BLOCKS,
    steps: Sequence[str] = STEPS,
    threads: Sequence[int] = (),
    backends: Sequence[str] = (),
    peers: Sequence[str] | None = None,
    seconds: float = 0.1,
    device: str = "cpu",
    dtype: str = "float32",
    memory: bool = True,
    details: bool = False,
) -> LayersReport:
    """Check and time layers over shapes, batches, compressions, graphs and numbers of threads.

    Args:
        out: The folder for the CSV files and the picture; their names hold the conditions.
        shapes: As `read_shapes` reads them; the standard shapes by default.
        batches: Batch sizes; by default 1 and 16 for convolutions, 1 and 128 for linear layers.
        compressions: C.
        families: Families of graphs.
        blocks: (b_out, b_in).
        steps: "forward", "training".
        threads: Numbers of threads; torch's own number by default.
        backends: Which of ours; "auto" and all but the reference by default.
        peers: Some of "grouped", "csr", "sparselab", and on a GPU "compiled", "bsr" and "2:4"; all
            that are installed by default.
        seconds: How long to time each competitor, about.
        device: "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "float16".
        memory: Whether to measure the peak of memory too.
        details: Whether to print every competitor.

    Returns:
        The rows and their summary.

    Raises:
        UserError: If an argument is unknown or out of range. A ValueError.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = run_layers(
        ...         folder, shapes="linear:64", batches=[1], compressions=[4.0], blocks=[(4, 1)],
        ...         steps=["forward"], backends=["auto"], peers=[], seconds=0.001, memory=False,
        ...     )
        >>> [(row.competitor, row.status) for row in report.rows]
        [('dense', 'ok'), ('auto', 'ok')]
    """
    from xnets.bench._speed_picture import draw_speedups

    wanted = read_shapes(shapes)
    threads = threads or [torch.get_num_threads()]
    check_layer_options(compressions, families, steps, threads, batches, backends, peers)
    check_device(device, dtype, seconds)
    graphs = [GraphChoice(c, f, b) for c, f, b in product(compressions, families, blocks)]
    cases = [
        (step, count, shape, batch)
        for step, count, shape in product(steps, threads, wanted)
        for batch in batches or BATCHES["conv" if shape.kernel else "linear"]
    ]
    ceilings = {}
    for count in threads:
        with threads_set(count):
            ceilings[count] = measure_ceilings(device, DTYPES[dtype], seconds=seconds)
    rows: list[LayerRow] = []
    for step, count, shape, batch in track(cases, "layers"):
        rows += measure_layers(
            shape,
            batch,
            graphs,
            step=step,
            threads=count,
            backends=backends,
            peers=PEERS if peers is None else peers,
            seconds=seconds,
            device=device,
            dtype=dtype,
            memory=memory,
            ceilings=ceilings[count],
        )
    summary = summarise(rows)
    name = "_".join(
        [
            "layers",
            "-".join(steps),
            "standard-shapes" if shapes == ",".join(STANDARD) else shape_names(wanted),
            f"C-{span(compressions)}",
            graph_names(families, blocks),
            f"batch-{span(sorted({case[3] for case in cases}))}",
            f"threads-{span(threads)}",
            *([dtype] if dtype != "float32" else []),
            machine_of(device),
        ]
    )
    folder = Path(out)
    files = [write_rows(rows, folder / f"{name}.csv")]
    if summary:
        files.append(write_rows(summary, folder / f"{name}_summary.csv"))
        files.append(draw_speedups(rows, folder / f"{name}.png"))
    return LayersReport(tuple(rows), tuple(summary), tuple(files), details, ceilings)
