"""The bodies of `xnets train` and `xnets eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

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
from xnets.train import Result, evaluate
from xnets.train import train as run_recipe
from xnets.train._distributed import find_world


def train(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="See `xnets list recipes`.")] = "digits",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Run folder, new or empty; runs/RECIPE/N, the next free number, by default."
        ),
    ] = None,
    resume: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="auto: go on in --out, or else in the newest unfinished run of this recipe.",
            metavar="auto",
        ),
    ] = None,
    model: Model = None,
    compression: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How many times fewer edges than dense; 1 trains the dense network."),
    ] = None,
    family: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="How graphs are drawn; see `xnets list families`."),
    ] = None,
    block: Annotated[
        Optional[tuple[int, int]],  # noqa: UP045
        typer.Option(help="Outputs and inputs that share one edge of the graph.", metavar="OUT IN"),
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulate: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Pieces that a process cuts its part of a batch into, to save memory."),
    ] = None,
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="32-true, bf16-mixed or 16-mixed."),
    ] = None,
    image_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Height and width that the network sees, of image folders."),
    ] = None,
    lr: LearningRate = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Seed of graphs, weights and shuffle."),
    ] = None,
    backend: BackendName = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train a network by a recipe and leave a run folder.

    Values that are not given are the recipe's own.
    """
    chosen = chosen_recipe(
        recipe,
        settings,
        model=model,
        compression=compression,
        family=family,
        block=block,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        precision=precision,
        image_size=image_size,
        lr=lr,
        seed=seed,
        backend=backend,
        threads=threads,
    )
    result = run_recipe(
        chosen,
        out=out,
        data_dir=data_dir,
        device=device,
        resume=resume,
        workers=workers,
        command=ctx.meta["xnets.command"],
    )
    if find_world().rank > 0:
        return  # the first of the processes that trained together speaks for all
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        _print_result(result)


def eval_(
    run: Annotated[Path, typer.Argument(help="A run folder or a checkpoint file.")],
    data_dir: DataDir = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    ten_crop: Annotated[
        bool,
        typer.Option("--ten-crop", help="Average over ten windows of each image."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure the test accuracy of a trained network anew."""
    accuracy = evaluate(
        run,
        data_dir=data_dir,
        device=device,
        threads=threads,
        ten_crop=ten_crop,
        workers=workers,
    )
    if as_json:
        values = {"run": str(run), "test_accuracy": accuracy, "ten_crop": ten_crop}
        typer.echo(json.dumps(values))
    else:
        typer.echo(f"test accuracy {accuracy:.2%}")


def _print_result(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", title=result.recipe.name)
    for heading in ("this net", "dense twin", "ratio"):
        table.add_column(heading, justify="right")
    table.add_row("test accuracy", f"{result.test_accuracy:.2%}", "-", "")
    for label, name in (("parameters", "params"), ("MACs per image", "macs"), ("bytes", "bytes")):
        ours, dense = getattr(result.size, name), getattr(result.dense, name)
        table.add_row(label, f"{ours:,}", f"{dense:,}", f"{dense / ours:.2f}")
    table.add_row(
        "expander layers",
        *(f"{size.expander_layers} of {size.layers}" for size in (result.size, result.dense)),
    )
    console = Console()
    console.print(table)
    console.print(f"run folder: {result.folder}", markup=False, highlight=False, soft_wrap=True)
