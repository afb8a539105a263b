"""Geometric means of speed-ups over cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xnets.bench.peers import PEERS

if TYPE_CHECKING:
    from xnets.bench.layers import LayerRow


@dataclass(frozen=True)
class Summary:
    """One competitor with one kind of graph, over the shapes and compressions of one kind.

    Args:
        step: "forward" or "training".
        threads: How many.
        competitor: The backend or peer.
        family: Of the graphs.
        block_out: Of the graphs.
        block_in: Of the graphs.
        kind: "1x1", "linear"..., or "all".
        batch: Batch size; None for all together.
        cases: How many were timed.
        per_c: Geometric mean of speed-up / C.
        speedup: Geometric mean of the speed-up over the faster dense layout.
        least: The least speed-up.
        over_grouped: Geometric mean of the time of torch's grouped convolution over this one's.
        over_csr: The same of torch.sparse CSR.
        over_sparselab: The same of SparseLab.
    """

    step: str
    threads: int
    competitor: str
    family: str
    block_out: int
    block_in: int
    kind: str
    batch: int | None
    cases: int
    per_c: float
    speedup: float
    least: float
    over_grouped: float | None
    over_csr: float | None
    over_sparselab: float | None


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean, or None of nothing.

    Examples:
        >>> round(geometric_mean([2.0, 8.0]), 9)
        4.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def summarise(rows: Sequence[LayerRow]) -> list[Summary]:
    """Summarise timed rows: by kind and batch, by kind, and over all.

    Args:
        rows: Rows of any number of cases; those that are not timed are passed over.

    Returns:
        One entry for each competitor and kind of graph, the kinds in order, then "all".
    """
    timed = [row for row in rows if row.speedup and row.family]
    peers = {(*_case(row), row.competitor): row.ms for row in timed if row.competitor in PEERS}
    groups: dict[tuple[object, ...], list[LayerRow]] = {}
    for row in timed:
        groups.setdefault(
            (row.step, row.threads, row.competitor, row.family, row.block), []
        ).append(row)
    found = []
    for group in groups.values():
        kinds = list(dict.fromkeys(row.kind for row in group))
        for kind in kinds:
            own = [row for row in group if row.kind == kind]
            batches = list(dict.fromkeys(row.batch for row in own))
            if len(batches) > 1:
                for batch in batches:
                    of_batch = [row for row in own if row.batch == batch]
                    found.append(_entry(of_batch, kind, batch, peers))
            found.append(_entry(own, kind, None, peers))
        if len(kinds) > 1:
            found.append(_entry(group, "all", None, peers))
    return found


def _case(row: LayerRow) -> tuple[object, ...]:
    return (row.step, row.threads, row.kind, row.shape, row.batch, row.compression)


def _entry(
    rows: Sequence[LayerRow],
    kind: str,
    batch: int | None,
    peers: dict[tuple[object, ...], float | None],
) -> Summary:
    speedups = [row.speedup for row in rows if row.speedup]
    over: dict[str, float | None] = {}
    for name in PEERS:
        pairs = [(peers.get((*_case(row), name)), row.ms) for row in rows]
        over[name] = geometric_mean(theirs / ours for theirs, ours in pairs if theirs and ours)
        if rows[0].competitor == name:
            over[name] = None
    first = rows[0]
    return Summary(
        step=first.step,
        threads=first.threads,
        competitor=first.competitor,
        family=first.family or "",
        block_out=first.block_out or 1,
        block_in=first.block_in or 1,
        kind=kind,
        batch=batch,
        cases=len(rows),
        per_c=geometric_mean(row.speedup / row.compression for row in rows if row.speedup) or 0.0,
        speedup=geometric_mean(speedups) or 0.0,
        least=min(speedups),
        over_grouped=over["grouped"],
        over_csr=over["csr"],
        over_sparselab=over["sparselab"],
    )
