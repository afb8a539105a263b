"""How long graphs take to draw and to certify, and how that grows with their size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xnets._errors import UserError
from xnets._progress import track
from xnets._table import format_table
from xnets.bench._output import check_choices, check_counts, finite, machine, span, write_rows
from xnets.bench._sizes import nearest_size
from xnets.graphs import BipartiteGraph, certify, list_families, make_graph

SIZES = (512, 1024, 2048, 4096, 8192, 16384)

_ENOUGH_SECONDS = 5.0


@dataclass(frozen=True)
class GraphSpeedRow:
    """How long one graph took, in seconds of processor time.

    Args:
        family: The family.
        n: Inputs and outputs.
        degree: The degree asked for.
        edges: The number of edges.
        draw_seconds: To draw it, the least of some repetitions.
        certify_seconds: To certify it, the same.
        repeats: How many repetitions; fewer of what takes longer than five seconds.
    """

    family: str
    n: int
    degree: int
    edges: int
    draw_seconds: float
    certify_seconds: float
    repeats: int


@dataclass(frozen=True)
class TimeGrowth:
    """Exponents e of time proportional to n^e, fitted to sizes from an eighth of the largest on.

    Args:
        family: The family.
        draw: Of drawing; NaN with fewer than two sizes.
        certify: Of certifying.
    """

    family: str
    draw: float
    certify: float


def speed_cases(
    sizes: Sequence[int], degree: int, families: Sequence[str] = ()
) -> list[tuple[str, int]]:
    """List what can be timed: (family, n), smallest first.

    Args:
        sizes: Inputs and outputs; a family of special sizes takes the nearest that it can have.
        degree: Inputs per output.
        families: Which families, all by default.

    Returns:
        The cases, without repetition.

    Examples:
        >>> speed_cases([64, 128], 8, ["random", "margulis"])
        [('random', 64), ('margulis', 64), ('random', 128), ('margulis', 121)]
    """
    cases: dict[tuple[str, int], None] = {}
    for n in sorted(sizes):
        for family in families or list_families():
            own = nearest_size(family, n, degree)
            if own is not None and own > degree:
                cases[family, own] = None
    return list(cases)


def measure_speed(family: str, n: int, degree: int, *, repeats: int = 3) -> GraphSpeedRow:
    """Time drawing and certifying one graph.

    Args:
        family: One of `list_families()`.
        n: Inputs and outputs.
        degree: Inputs per output.
        repeats: How often; the least time counts, as noise only ever adds.

    Returns:
        The times.

    Raises:
        ValueError: If the family has no such graph, or `repeats` is below 1.

    Examples:
        >>> row = measure_speed("biregular", 64, 8, repeats=1)
        >>> row.edges, row.draw_seconds > 0, row.certify_seconds > 0
        (512, True, True)
    """
    if repeats < 1:
        raise ValueError(f"`repeats` (={repeats}) must be at least 1")
    graph = make_graph(family, n, n, degree=degree)

    def fresh() -> BipartiteGraph:
        # Degrees are kept once computed: every repetition starts without.
        return BipartiteGraph(n, n, graph.indptr, graph.indices)

    return GraphSpeedRow(
        family=family,
        n=n,
        degree=degree,
        edges=graph.num_edges,
        draw_seconds=_least(repeats, lambda: make_graph(family, n, n, degree=degree)),
        certify_seconds=_least(repeats, lambda: certify(fresh())),
        repeats=repeats,
    )


def fit_time_growth(rows: Sequence[GraphSpeedRow]) -> list[TimeGrowth]:
    """Fit times to powers of n, family by family, over the larger sizes, where overhead is small.

    Args:
        rows: Measurements of one degree.

    Returns:
        One entry per family, in order of appearance.

    Examples:
        >>> rows = [GraphSpeedRow("random", n, 8, 8 * n, n / 1e6, n * n / 1e9, 1) for n in (8, 16)]
        >>> [growth] = fit_time_growth(rows)
        >>> round(growth.draw, 9), round(growth.certify, 9)
        (1.0, 2.0)
    """
    found = []
    for family in dict.fromkeys(row.family for row in rows):
        own = [row for row in rows if row.family == family]
        large = [row for row in own if 8 * row.n >= max(r.n for r in own)]
        found.append(
            TimeGrowth(
                family,
                _exponent([(row.n, row.draw_seconds) for row in large]),
                _exponent([(row.n, row.certify_seconds) for row in large]),
            )
        )
    return found


def _exponent(points: list[tuple[int, float]]) -> float:
    if len({n for n, _ in points}) < 2:
        return math.nan
    sizes, times = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(sizes, times, 1)[0])


def _least(repeats: int, job: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < repeats and sum(times) < _ENOUGH_SECONDS:
        # Of this process on its one thread: whoever else uses the machine does not count.
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


# --- the whole benchmark -------------------------------------------------------------------------


@dataclass(frozen=True)
class GraphSpeedReport:
    """What `run_graph_speed` measured.

    Args:
        rows: The times.
        growth: Their growth with n.
        files: The CSV file and the picture.
    """

    rows: tuple[GraphSpeedRow, ...]
    growth: tuple[TimeGrowth, ...]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        growth = [finite(asdict(entry)) for entry in self.growth]
        rows = [asdict(row) for row in self.rows]
        return {"rows": rows, "growth": growth, "files": [str(path) for path in self.files]}

    def __str__(self) -> str:
        """A line per family: the largest graph, and the growth."""
        header = ["family", "n", "edges", "draw", "certify", "draw ~ n^", "certify ~ n^"]
        body = []
        for growth in self.growth:
            row = max((r for r in self.rows if r.family == growth.family), key=lambda r: r.n)
            times = [f"{row.draw_seconds:.3f} s", f"{row.certify_seconds:.3f} s"]
            powers = ["-" if math.isnan(e) else f"{e:.2f}" for e in (growth.draw, growth.certify)]
            body.append([row.family, str(row.n), f"{row.edges:,}", *times, *powers])
        table = format_table(header, body, right="lrrrrrr")
        return "\n".join([table, "", *(f"wrote {path}" for path in self.files)])


def run_graph_speed(
    out: str | Path,
    *,
    sizes: Sequence[int] = SIZES,
    degree: int = 64,
    repeats: int = 3,
    families: Sequence[str] = (),
) -> GraphSpeedReport:
    """Time drawing and certifying for every family over the sizes, on one thread.

    Args:
        out: The folder for the CSV file and the picture; their names hold the conditions.
        sizes: Inputs and outputs.
        degree: Inputs per output.
        repeats: How often each is timed; the least time counts.
        families: Which families, all by default.

    Returns:
        The times and their growth.

    Raises:
        UserError: If an argument is out of range, or no family has such a graph. A ValueError.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = run_graph_speed(
        ...         folder, sizes=[16, 32], degree=4, repeats=1, families=["random"]
        ...     )
        >>> [row.n for row in report.rows]
        [16, 32]
    """
    from threadpoolctl import threadpool_limits

    from xnets.bench._graph_speed_picture import draw_speed

    check_choices("family", families, list_families())
    check_counts(1, sizes=sizes, degree=[degree], repeats=[repeats])
    Path(out).mkdir(parents=True, exist_ok=True)  # what cannot be written is no use measuring
    with threadpool_limits(1):
        rows = tuple(
            measure_speed(family, n, degree, repeats=repeats)
            for family, n in track(speed_cases(sizes, degree, families), "draw and certify")
        )
    if not rows:
        raise UserError(f"no family has a graph of `sizes` (={sizes}) and `degree` (={degree})")
    name = f"graphs-speed_degree-{degree}_n-{span(sizes)}_1-thread_{machine()}"
    csv, picture = Path(out) / f"{name}.csv", Path(out) / f"{name}.png"
    write_rows(rows, csv)
    draw_speed(rows, picture)
    return GraphSpeedReport(rows, tuple(fit_time_growth(rows)), (csv, picture))
