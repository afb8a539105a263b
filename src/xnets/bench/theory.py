"""Run the experiments on the theorems, write them down, and draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from xnets._errors import UserError
from xnets._progress import track
from xnets._table import format_table
from xnets.bench._output import check_choices, check_counts, finite, span, write_rows
from xnets.bench._sizes import nearest_size
from xnets.bench.depth import DepthRow, depth_cases, fit_growth, measure_depth
from xnets.bench.mixing import BlockRow, MixingRow, measure_block, measure_mixing
from xnets.graphs import NotRamanujanError, list_families

Row = TypeVar("Row")

DEGREES = (4, 8, 16)
SIZES = tuple(2**k for k in range(4, 14))
MIXING_SIZE = 1024
MIXING_DEGREES = (2, 4, 8, 16, 32, 64, 128)
LAYER = (256, 256)
COMPRESSIONS = (4, 8, 16)
BLOCKS = ((1, 1), (4, 1), (8, 1), (16, 1), (32, 1), (4, 4), (8, 8), (16, 16), (32, 32))
EXPERIMENTS = ("depth", "mixing", "blocks")


@dataclass(frozen=True)
class TheoryReport:
    """What `run_theory` measured, and the files that hold it.

    Args:
        depth: Theorem 1.
        mixing: Theorem 2.
        blocks: The price of blocks.
        files: The CSV files and pictures.
    """

    depth: tuple[DepthRow, ...] = ()
    mixing: tuple[MixingRow, ...] = ()
    blocks: tuple[BlockRow, ...] = ()
    files: tuple[Path, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python data."""
        return {
            "depth": [asdict(row) for row in self.depth],
            "growth": [
                {"family": family, "degree": degree, **finite(asdict(fit_growth(rows)))}
                for (family, degree), rows in _grouped(self.depth).items()
            ],
            "mixing": [asdict(row) for row in self.mixing],
            "blocks": [asdict(row) for row in self.blocks],
            "files": [str(path) for path in self.files],
        }

    def __str__(self) -> str:
        """What came out, as tables."""
        parts = []
        if self.depth:
            parts.append(_growth_table(self.depth))
        if self.mixing:
            parts.append(_mixing_table(self.mixing))
        if self.blocks:
            parts.append(block_table(self.blocks))
        return "\n\n".join([*parts, "\n".join(f"wrote {path}" for path in self.files)])


def run_theory(
    out: str | Path,
    *,
    experiments: Sequence[str] = EXPERIMENTS,
    degrees: Sequence[int] = DEGREES,
    sizes: Sequence[int] = SIZES,
    seeds: int = 3,
    families: Sequence[str] = (),
) -> TheoryReport:
    """Measure the two theorems of the paper and the price of blocks, for every family.

    Args:
        out: The folder for CSV files and pictures; their names hold the conditions.
        experiments: Some of "depth", "mixing" and "blocks".
        degrees: The degrees D of the stacks of theorem 1.
        sizes: The widths n of the stacks.
        seeds: How many stacks and graphs of a family that draws.
        families: Which families, all by default.

    Returns:
        The measurements.

    Raises:
        UserError: If an argument is out of range, or there is nothing to measure. A ValueError.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = run_theory(
        ...         folder, experiments=["depth"], degrees=[4], sizes=[16, 32], seeds=1,
        ...         families=["random"],
        ...     )
        >>> [row.n for row in report.depth]
        [16, 32]
    """
    check_choices("experiment", experiments, EXPERIMENTS)
    check_choices("family", families, list_families())
    check_counts(2, degrees=degrees, sizes=sizes)
    check_counts(1, seeds=[seeds])
    out, report = Path(out), TheoryReport()
    out.mkdir(parents=True, exist_ok=True)  # what cannot be written is no use measuring
    if "depth" in experiments:
        cases = depth_cases(degrees, sizes, seeds=seeds, families=families)
        depth = tuple(_measured(measure_depth, track(cases, "depth of stacks")))
        name = f"theory-depth_degrees-{span(degrees)}_n-{span(sizes)}_seeds-{seeds}"
        report = _add(report, out / name, depth=depth)
    if "mixing" in experiments:
        wanted = [
            (family, own, degree, seed)
            for degree in MIXING_DEGREES
            for family in families or list_families()
            if (own := nearest_size(family, MIXING_SIZE, degree)) is not None
            for seed in range(seeds)
        ]
        mixing = tuple(_measured(measure_mixing, track(wanted, "mixing of layers")))
        name = f"theory-mixing_n-{MIXING_SIZE}_degrees-{span(MIXING_DEGREES)}_seeds-{seeds}"
        report = _add(report, out / name, mixing=mixing)
    if "blocks" in experiments:
        blocks = tuple(run_blocks(families, seeds=seeds))
        name = f"theory-blocks_{LAYER[0]}x{LAYER[1]}_compressions-{span(COMPRESSIONS)}"
        report = _add(report, out / f"{name}_seeds-{seeds}", blocks=blocks)
    return report


def _measured(measure: Callable[..., Row], cases: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    """The rows of all cases that could be drawn."""
    for family, n, degree, seed in cases:
        # Rare, and what is missing is missing from the file: no other case needs it.
        with suppress(NotRamanujanError):
            yield measure(family, n, degree, seed=seed)


def run_blocks(families: Sequence[str] = (), *, seeds: int) -> list[BlockRow]:
    """Measure every family in every block at a typical layer, 256 to 256.

    Args:
        families: Which families, all by default.
        seeds: How many graphs to draw of each.

    Returns:
        A row for each that exists.
    """
    rows = []
    cases = [(c, b, f) for c in COMPRESSIONS for b in BLOCKS for f in families or list_families()]
    for compression, block, family in track(cases, "price of blocks"):
        try:
            rows.append(measure_block(family, *LAYER, compression, block, seeds=seeds))
        except ValueError:  # the family has no such graph
            continue
    return rows


def block_table(rows: Sequence[BlockRow]) -> str:
    """Gap, second singular value over its bound, and vertices without an edge.

    Args:
        rows: Measurements of one layer size.

    Returns:
        A Markdown table with a column per compression.

    Examples:
        >>> row = measure_block("biregular", 64, 64, 4, (4, 1), seeds=1)
        >>> print(block_table([row]))
        | family | block | C = 4 |
        | --- | --- | --- |
        | biregular | (4, 1) | 0.37 / 1.30 / 0 |
    """
    compressions = sorted({row.compression for row in rows})
    cells: dict[tuple[str, str], dict[float, str]] = {}
    for row in rows:
        ratio = "-" if row.second_over_bound is None else f"{row.second_over_bound:.2f}"
        alone = row.unused_inputs + row.dead_outputs
        lost = f"{alone:.1f}" if alone else "0"
        key = (row.family, f"({row.block_out}, {row.block_in})")
        cells.setdefault(key, {})[row.compression] = f"{row.gap:.2f} / {ratio} / {lost}"
    header = ["family", "block", *(f"C = {c:g}" for c in compressions)]
    lines = [header, ["---"] * len(header)]
    lines += [[*key, *(found.get(c, "-") for c in compressions)] for key, found in cells.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _add(report: TheoryReport, stem: Path, **rows: tuple[Any, ...]) -> TheoryReport:
    from xnets.bench import _theory_pictures

    [(kind, found)] = rows.items()
    if not found:
        raise UserError(f"no family has a graph of these sizes and degrees: no {kind} to measure")
    files = [write_rows(found, stem.with_name(stem.name + ".csv"))]
    picture = stem.with_name(stem.name + ".png")
    getattr(_theory_pictures, f"draw_{kind}")(found, picture)
    known = {name: getattr(report, name) for name in EXPERIMENTS}
    return TheoryReport(**{**known, kind: found}, files=(*report.files, *files, picture))


def _grouped(rows: Sequence[DepthRow]) -> dict[tuple[str, int], list[DepthRow]]:
    groups: dict[tuple[str, int], list[DepthRow]] = {}
    for row in sorted(rows, key=lambda row: row.degree):
        groups.setdefault((row.family, row.degree), []).append(row)
    return groups


def _growth_table(rows: Sequence[DepthRow]) -> str:
    header = ["family", "D", "layers per log_D n", "worst off the line", "over bound", "never"]
    body = []
    for (family, degree), own in _grouped(rows).items():
        growth = fit_growth(own)
        fitted = not math.isnan(growth.slope)
        body.append(
            [
                family,
                str(degree),
                f"{growth.slope:.2f}" if fitted else "-",
                f"{growth.worst:.2f}" if fitted else "-",
                f"+{growth.over_bound}" if growth.stacks > growth.unconnected else "-",
                f"{growth.unconnected} of {growth.stacks}",
            ]
        )
    return "Theorem 1: depth of full sensitivity\n" + format_table(header, body, right="lrrrrr")


def _mixing_table(rows: Sequence[MixingRow]) -> str:
    header = ["family", "D", "proved", "found", "random halves"]
    groups: dict[tuple[str, float], list[MixingRow]] = {}
    for row in rows:
        groups.setdefault((row.family, row.degree), []).append(row)
    body = [
        [
            family,
            f"{degree:g}",
            *(
                f"{max(getattr(row, name) for row in own):.4f}"
                for name in ("bound", "found", "sampled")
            ),
        ]
        for (family, degree), own in groups.items()
    ]
    title = "Theorem 2: largest deviation of edge counts between halves, as a share\n"
    return title + format_table(header, body, right="lrrrr")
