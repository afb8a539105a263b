"""The body of `xnets compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from xnets._bench_command import names, numbers
from xnets._errors import UserError
from xnets._train_options import (
    BackendName,
    BatchSize,
    DataDir,
    Device,
    Epochs,
    Json,
    LearningRate,
    Model,
    Settings,
    Threads,
    Workers,
    chosen_recipe,
)
from xnets.bench.cases import read_blocks
from xnets.compare import compare as run_comparison
from xnets.compare._compare import COMPRESSIONS, KINDS

_COMPRESSIONS = ",".join(f"{number:g}" for number in COMPRESSIONS)


def compare(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="See `xnets list recipes`.")] = "digits",
    kinds: Annotated[
        str, typer.Option(help="Kinds of networks, with commas between; see `xnets list kinds`.")
    ] = ",".join(KINDS),
    compression: Annotated[
        str, typer.Option(help="How many times fewer edges than dense, with commas between.")
    ] = _COMPRESSIONS,
    block: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time, also under Python 3.10
        typer.Option(
            help="Outputs and inputs that share one edge, such as 4x1; may be repeated. 1x1 by "
            "default.",
            metavar="OUTxIN",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many runs of each network.")] = 3,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of runs and report; comparisons/RECIPE by default."),
    ] = None,
    known: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            help="The trials.csv of a comparison made elsewhere, whose trials are not trained "
            "again; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
    ray: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Train on this Ray cluster; local starts one on this machine."),
    ] = None,
    timed: Annotated[
        bool,
        typer.Option(
            "--time/--no-time", help="Time a forward pass of each network at the end, in turns."
        ),
    ] = True,
    model: Model = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="The first seed."),
    ] = None,
    backend: BackendName = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train a recipe's network in several kinds and compressions; report accuracy against cost.

    What is finished is not trained again; what was cut off goes on. A trial that fails does not
    stop the others.
    """
    chosen = chosen_recipe(
        recipe,
        settings,
        varied={"compression": "--compression", "family": "--kinds", "block": "--block"},
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        backend=backend,
        threads=threads,
    )
    found = run_comparison(
        chosen,
        kinds=names(kinds),
        compressions=numbers("--compression", compression, float),
        blocks=[pair for text in block or ["1x1"] for pair in read_blocks(text, "--block")],
        seeds=seeds,
        out=out,
        known=known or (),
        data_dir=data_dir,
        device=device,
        workers=workers,
        ray=ray,
        timed=timed,
        command=ctx.meta["xnets.command"],
    )
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    elif found.rows:
        typer.echo(f"{found}\n\nreport: {found.folder / 'report.md'}")
    if found.failures:
        name, reason = next(iter(found.failures.items()))
        total = len(found.rows) + len(found.failures)
        raise UserError(f"{len(found.failures)} of {total} trials failed; {name}: {reason}")
