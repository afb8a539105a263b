"""What `xnets bench layers` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xnets._table import format_table
from xnets.bench.peers import PEERS
from xnets.bench.summary import Summary, geometric_mean

if TYPE_CHECKING:
    from xnets.bench.layers import LayerRow

# "auto" is said to have chosen badly if another backend is faster by this much.
_CLOSE = 1.1


def case_table(rows: Sequence[LayerRow]) -> str:
    """A line for each case and graph: speed-ups of the foremost competitor, C by C."""
    ours = [row for row in rows if row.family and row.competitor not in PEERS]
    names = list(dict.fromkeys(row.competitor for row in ours))
    lead = "auto" if "auto" in names else next(iter(names), "")
    ours = [row for row in ours if row.competitor == lead]
    compressions = sorted({row.compression for row in ours})
    dense = dense_times(rows)
    lines: dict[tuple[object, ...], dict[float, str]] = {}
    for row in ours:
        key = (*case(row), row.family, row.block)
        shown = f"{row.speedup:.2f}" if row.speedup else row.status.partition(":")[0]
        if row.took:
            shown += f" {row.took}"
        lines.setdefault(key, {})[row.compression] = shown
    body = []
    for key, cells in lines.items():
        step, threads, kind, shape, batch, family, block = key
        ms, layout = dense[key[:5]]
        body.append(
            [str(step), str(threads), str(kind), str(shape), str(batch)]
            + [f"{ms:.3f} {layout}", f"{family} {_block(block)}"]
            + [cells.get(c, "") for c in compressions]
        )
    header = ["step", "threads", "kind", "shape", "batch", "dense ms", f"{lead} on"]
    header += [f"C={c:g}" for c in compressions]
    return format_table(header, body, right="lrlrr")


def details_table(rows: Sequence[LayerRow]) -> str:
    """A line for each competitor."""
    header = ["step", "threads", "kind", "shape", "batch", "competitor", "C", "graph", "ms"]
    header += ["spread", "speed-up", "GMAC/s", "roofline", "peak MiB", "error", "status"]
    body = []
    for row in rows:
        name = row.competitor + (f" {row.layout}" if row.layout else "")
        name += f" ({row.took})" if row.took else ""
        name += ", graph" if row.launch == "graph" else ""
        spread = None
        if row.ms and row.ms_high is not None and row.ms_low is not None:
            spread = (row.ms_high - row.ms_low) / row.ms
        graph = f"{row.family} {_block(row.block)}" if row.family else ""
        body.append(
            [
                *(row.step, str(row.threads), row.kind, row.shape, str(row.batch), name),
                *(f"{row.compression:g}", graph, _number(row.ms, 4), _number(spread, 2, "%")),
                *(_number(row.speedup, 2), _number(row.gmacs, 1), _number(row.roofline, 2, "%")),
                _number(None if row.peak_bytes is None else row.peak_bytes / 2**20, 2),
                *(f"{row.error:.0e}" if row.error is not None else "", row.status),
            ]
        )
    return format_table(header, body, right="lrlrrlrlrrrrrrr")


def summary_table(summary: Sequence[Summary]) -> str:
    """A line for each competitor and kind of graph, a column for each kind of layer."""
    columns = list(dict.fromkeys((s.kind, s.batch) for s in summary if s.batch is None))
    columns.sort(key=lambda column: column[0] == "all")
    lines: dict[tuple[str, int, str, str, tuple[int, int]], dict[object, Summary]] = {}
    for entry in summary:
        block = (entry.block_out, entry.block_in)
        of_graph = (entry.step, entry.threads, entry.competitor, entry.family, block)
        lines.setdefault(of_graph, {})[entry.kind, entry.batch] = entry
    header = ["step", "threads", "competitor", "graph", *(kind for kind, _ in columns)]
    header += ["least", "grouped", "csr", "sparselab"]
    body = []
    for of_graph, entries in lines.items():
        step, threads, competitor, family, shown_block = of_graph
        last = list(entries.values())[-1]  # over all kinds
        body.append(
            [str(step), str(threads), str(competitor), f"{family} {_block(shown_block)}"]
            + [_number(entries[c].per_c if c in entries else None, 3) for c in columns]
            + [_number(last.least, 2), _number(last.over_grouped, 2)]
            + [_number(last.over_csr, 2), _number(last.over_sparselab, 2)]
        )
    return format_table(header, body, right="lrll" + "r" * (len(columns) + 4))


def worse_than_fastest(rows: Sequence[LayerRow]) -> list[str]:
    """What "auto" loses against the fastest backend; nothing if it was not measured."""
    best: dict[tuple[object, ...], LayerRow] = {}
    for row in rows:
        if row.ms and row.family and row.competitor not in ("auto", *PEERS):
            key = _graph_case(row)
            if key not in best or row.ms < (best[key].ms or 0):
                best[key] = row
    losses = [
        (row, best[_graph_case(row)])
        for row in rows
        if row.competitor == "auto" and row.ms and _graph_case(row) in best
    ]
    if not losses:
        return []
    ratios = [row.ms / other.ms for row, other in losses if row.ms and other.ms]
    worse = [
        (row, other)
        for (row, other), ratio in zip(losses, ratios, strict=True)
        if ratio > _CLOSE and row.took != other.competitor
    ]
    lines = [
        f"\nauto takes {geometric_mean(ratios):.3f} times the fastest backend's time (geometric "
        f"mean); over {_CLOSE - 1:.0%} slower, by a wrong choice, in {len(worse)} of {len(losses)} "
        "cases"
    ]
    for row, other in worse:
        lines.append(
            f"  {row.step} {row.kind}:{row.shape} batch {row.batch} threads {row.threads} "
            f"C={row.compression:g} {row.family} {_block(row.block)}: took {row.took} "
            f"{row.ms:.3f} ms, {other.competitor} {other.ms:.3f} ms"
        )
    return lines


def dense_times(rows: Iterable[LayerRow]) -> dict[tuple[object, ...], tuple[float, str]]:
    """Milliseconds of the faster dense layout of each case, and which it was."""
    found: dict[tuple[object, ...], tuple[float, str]] = {}
    for row in rows:
        if row.competitor.startswith("dense") and row.ms:
            layout = row.layout or ("NCHW" if row.kind != "linear" else "")
            entry = (row.ms, f"{layout} {row.competitor.removeprefix('dense')}".strip())
            found[case(row)] = min(found.get(case(row), entry), entry)
    return found


def case(row: LayerRow) -> tuple[object, ...]:
    """What all competitors that were timed together have in common."""
    return (row.step, row.threads, row.kind, row.shape, row.batch)


def _graph_case(row: LayerRow) -> tuple[object, ...]:
    return (*case(row), row.compression, row.family, row.block)


def _block(block: object) -> str:
    b_out, b_in = block if isinstance(block, tuple) else (1, 1)
    return f"{b_out}x{b_in}"


def _number(value: float | None, digits: int, unit: str = "") -> str:
    if value is None:
        return ""
    return f"{value:.{digits - 2}%}" if unit == "%" else f"{value:.{digits}f}"
