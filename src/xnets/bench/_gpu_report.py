"""The report of `xnets.bench.gpu`: tables, and each figure asked for beside the one found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from xnets._table import format_table
from xnets.bench._gpu_networks import NetworkRow
from xnets.bench.roofline import Ceilings

if TYPE_CHECKING:
    from xnets.bench._gpu_cases import LayerRow


def report(
    layers: Sequence[LayerRow],
    networks: Sequence[NetworkRow],
    ceilings: Ceilings | None,
    skipped: Sequence[str],
    problems: Sequence[str] = (),
    *,
    on_gpu: bool,
) -> str:
    """All that a run found, as text.

    Args:
        layers: Rows of single layers.
        networks: Rows of whole networks.
        ceilings: Of the device.
        skipped: Cases for which no time was left.
        problems: Cases that failed as a whole, and why.
        on_gpu: Whether the times mean anything.

    Returns:
        Tables, the figures asked for last.
    """
    parts = [
        f"ceilings: {ceilings or 'not measured'}",
        _layer_table(layers),
        _network_table(networks),
        *(f"FAILED: {problem}" for problem in problems),
        *([f"no time was left for: {'; '.join(skipped)}"] if skipped else []),
        _target_table(layers, networks) if on_gpu else "interpreted: no figure of a GPU",
    ]
    return "\n\n".join(parts)


def _layer_table(rows: Sequence[LayerRow]) -> str:
    cells = [
        [
            f"{row.shape} x{row.batch}",
            row.step if row.launch == "eager" else f"{row.step}, graph",
            " ".join(filter(None, (row.competitor, row.layout))),
            f"{row.compression:g}",
            row.block,
            _number(row.ms, ".4g"),
            _number(row.speedup, ".2f"),
            _number(row.roofline, ".0%"),
            row.note,
        ]
        for row in rows
    ]
    header = ["layer", "step", "competitor", "C", "block", "ms", "x dense", "roofline", "note"]
    return format_table(header, cells, right="lllrrrrrl")


def _network_table(rows: Sequence[NetworkRow]) -> str:
    cells = [
        [
            row.network,
            " ".join(filter(None, (row.competitor, row.block, row.launch))),
            _number(row.ms, ".4g"),
            _number(row.speedup, ".2f"),
            f"{row.weights:,}",
            f"{row.state_bytes / 2**20:,.1f}",
            row.note,
        ]
        for row in rows
    ]
    header = ["training step", "competitor", "ms", "x dense", "weights", "state MiB", "note"]
    return format_table(header, cells, right="llrrrrl")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


# (what, wanted, the figures of the rows)
_Figures = Callable[["Sequence[LayerRow]", Sequence[NetworkRow]], Iterator[float]]


def _layer_figures(step: str, compression: float, what: str = "speedup") -> _Figures:
    """The best block of each shape; the smallest of these is what was reached everywhere."""

    def figures(layers: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> Iterator[float]:
        best: dict[str, float] = {}
        for row in layers:
            value = getattr(row, what)
            ours = row.competitor == "triton" and row.compression == compression
            if ours and row.step == step and row.launch == "eager" and value and not row.note:
                best[row.shape] = max(value, best.get(row.shape, 0.0))
        yield from best.values()

    return figures


def _over_bsr(layers: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> Iterator[float]:
    for bsr in layers:
        if bsr.competitor != "bsr" or not bsr.ms:
            continue
        for row in layers:
            same = (row.shape, row.step, row.compression, row.block) == (
                bsr.shape,
                bsr.step,
                bsr.compression,
                bsr.block,
            )
            if row.competitor == "triton" and same and row.ms:
                yield bsr.ms / row.ms


def _network_speed(layers: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> Iterator[float]:
    best: dict[str, float] = {}
    for row in networks:
        if row.competitor == "expander" and row.speedup:
            best[row.network] = max(row.speedup, best.get(row.network, 0.0))
    yield from best.values()


def _fewer_weights(layers: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> Iterator[float]:
    dense = {row.network: row.weights for row in networks if row.competitor == "dense"}
    for row in networks:
        if row.competitor == "expander" and row.weights:
            yield dense[row.network] / row.weights


TARGETS: tuple[tuple[str, float, _Figures], ...] = (
    ("forward, C = 4: times the best dense", 2.5, _layer_figures("forward", 4)),
    ("forward, C = 8: times the best dense", 4.0, _layer_figures("forward", 8)),
    ("training step, C = 4: times the best dense", 2.0, _layer_figures("training", 4)),
    ("forward, C = 4: share of the roofline", 0.6, _layer_figures("forward", 4, "roofline")),
    ("forward: times torch's BSR of the same block", 1.5, _over_bsr),
    ("networks, C = 4, training step: times dense", 1.5, _network_speed),
    # Gradient and momentum have the shape of the weight.
    ("converted layers: times fewer weights", 4.0, _fewer_weights),
)


def _target_table(layers: Sequence[LayerRow], networks: Sequence[NetworkRow]) -> str:
    rows = []
    for what, wanted, figures in TARGETS:
        found = sorted(figures(layers, networks))
        shown = f"{found[0]:.2f} to {found[-1]:.2f}" if found else ""
        verdict = "not measured" if not found else "yes" if found[0] >= wanted else "no"
        rows.append([what, f"{wanted:g}", shown, str(len(found)), verdict])
    header = ["figure", "wanted", "found, worst to best case", "cases", "met"]
    return format_table(header, rows, right="lrrrl")
