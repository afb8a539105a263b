"""Every figure that the Triton backend should reach on a GPU, in one call.

    python -m xnets.bench.gpu --out results

Layers against the best dense layer (both memory layouts, eager and compiled), grouped convolution,
torch's BSR and 2:4 sparsity; training steps of whole networks; each beside what was asked for and
beside the device's own ceilings, measured in the same run. No case begins after `--budget` seconds
and all ends within `--limit`: what did not fit is listed, not guessed. The measuring runs in a
process of its own: what breaks, hangs or kills it is named and passed over, and the rest goes on.
The CSV files are written after every case.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from xnets._errors import UserError
from xnets.bench._gpu_cases import FULL, TINY, Plan
from xnets.bench._gpu_report import report
from xnets.bench._gpu_tiles import compare_tiles
from xnets.bench._gpu_worker import Findings, measure, measure_apart
from xnets.bench._output import write_rows
from xnets.ops._triton import config


def run_figures(
    out: Path | None,
    *,
    plan: Plan = FULL,
    device: str = "cuda",
    budget: float = 400,
    limit: float = 465,
    seconds: float,
    apart: bool = True,
) -> str:
    """Measure a plan, write the rows, and return the report.

    Args:
        out: Folder for the CSV files, or None.
        plan: What to measure.
        device: "cuda"; "cpu" runs the kernels in Triton's interpreter, whose times mean nothing.
        budget: After so many seconds no further case is begun.
        limit: After so many seconds all ends.
        seconds: How long to time each competitor of a case, about.
        apart: Measure in another process, which may die without losing the rest.

    Returns:
        Ceilings, tables, and each figure asked for beside the one found.

    Raises:
        UserError: If there is no such device.
    """
    _check(device)
    start = time.monotonic()
    findings = Findings(save=lambda found: _write(out, found))
    if apart:
        measure_apart(
            plan,
            findings,
            device=device,
            seconds=seconds,
            until=start + budget,
            limit=start + limit,
        )
    else:
        measure(plan, findings.receive, device=device, seconds=seconds, until=start + budget)
    return report(
        findings.layers,
        findings.networks,
        findings.ceilings,
        findings.skipped,
        findings.problems,
        on_gpu=device == "cuda",
    )


def _compare_tiles(
    out: Path | None, *, plan: Plan, device: str, budget: float, seconds: float
) -> str:
    _check(device)
    few = [config.Tile(64, 128, 32, 4, 2)] if device == "cpu" else None
    return compare_tiles(
        plan.shapes[:2],
        plan.graphs[:3],
        dtype=plan.dtype,
        device=device,
        seconds=seconds / 5,
        budget=budget,
        tiles=few,
    )


def _check(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("`device` (=cuda): torch finds no CUDA device")


def _write(out: Path | None, findings: Findings) -> None:
    if out is None:
        return
    name = torch.cuda.get_device_name().replace(" ", "-") if torch.cuda.is_available() else "cpu"
    version = torch.__version__.partition("+")[0]
    for kind, rows in (("layers", findings.layers), ("networks", findings.networks)):
        if rows:
            write_rows(rows, out / f"gpu-{kind}_{name}_torch-{version}.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and print the report."""
    parser = argparse.ArgumentParser(prog="python -m xnets.bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for CSV files")
    parser.add_argument("--budget", type=float, default=400, help="seconds; no case begins later")
    parser.add_argument("--limit", type=float, default=465, help="seconds; all ends")
    parser.add_argument("--seconds", type=float, default=0.15, help="timing of each competitor")
    parser.add_argument("--tiles", action="store_true", help="instead: compare tile sizes")
    parser.add_argument("--tiny", action="store_true", help="tiny layers on the CPU, interpreted")
    parser.add_argument("--together", action="store_true", help="in this process, to debug it")
    given = parser.parse_args(arguments)
    plan, device = (TINY, "cpu") if given.tiny else (FULL, "cuda")
    common = {"plan": plan, "device": device, "budget": given.budget, "seconds": given.seconds}
    try:
        if given.tiles:
            text = _compare_tiles(given.out, **common)
        else:
            text = run_figures(given.out, limit=given.limit, apart=not given.together, **common)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
