"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from xnets.train import Recipe, get_recipe
from xnets.train._change import change_recipe

Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="The network; see `xnets list models`."),
]
Epochs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Passes over the training images."),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        help="Another field of the recipe, such as weight_decay=5e-4, or an argument of its "
        "network, such as width=64; may be repeated.",
        metavar="NAME=VALUE",
    ),
]
BatchSize = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Images per step, in all processes together."),
]
LearningRate = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Peak learning rate."),
]
BackendName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="How expander layers compute; see `xnets list backends`."),
]
DataDir = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads this at run time, also under Python 3.10
    typer.Option(help="Folder of the data set's files; nowhere else is looked then."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU if there is one.")]
Threads = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Number of CPU threads; the recipe's by default."),
]
Workers = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Processes that read images from folders; one a core by default, at most 8."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


def chosen_recipe(
    name: str, settings: Sequence[str] | None, *, varied: dict[str, str] | None = None, **given: Any
) -> Recipe:
    """The recipe that a command line names, changed as it says.

    Args:
        name: The recipe.
        settings: What `--set` was given.
        varied: The option of each field that the command itself varies.
        given: The other fields that have options, None where they were not given.
    """
    options = {field: f"--{field.replace('_', '-')}" for field in given}
    return change_recipe(get_recipe(name, **given), settings or (), {**options, **(varied or {})})
