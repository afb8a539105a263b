"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="The network; see `xnets list models`."),
]
Epochs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Passes over the training images."),
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
