"""The bodies of `xnets bench theory` and `xnets bench graphs`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional, overload

import typer

from xnets._errors import UserError
from xnets.bench import EXPERIMENTS, run_graph_speed, run_theory
from xnets.bench.speed_of_graphs import SIZES as SPEED_SIZES
from xnets.bench.theory import DEGREES, SIZES

Out = Annotated[
    Path, typer.Option(help="Folder for CSV files and pictures; names hold the conditions.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
Families = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this at run time, also under Python 3.10
    typer.Option(help="Which families, as random,biregular; all by default."),
]


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def theory(
    out: Out = Path("results"),
    only: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Some of depth,mixing,blocks; all by default."),
    ] = None,
    degrees: Annotated[str, typer.Option(help="Degrees of the stacks.")] = _joined(DEGREES),
    sizes: Annotated[str, typer.Option(help="Widths of the stacks.")] = _joined(SIZES),
    seeds: Annotated[int, typer.Option(help="Draws of each random graph.")] = 3,
    families: Families = None,
    as_json: Json = False,
) -> None:
    """Measure the paper's two theorems: depth of full sensitivity, and mixing.

    Every family at every size that it can have, and the price of blocks.
    """
    report = run_theory(
        out,
        experiments=names(only) or EXPERIMENTS,
        degrees=numbers("--degrees", degrees),
        sizes=numbers("--sizes", sizes),
        seeds=seeds,
        families=names(families),
    )
    typer.echo(json.dumps(report.to_dict()) if as_json else str(report))


def graphs(
    out: Out = Path("results"),
    sizes: Annotated[str, typer.Option(help="Inputs and outputs.")] = _joined(SPEED_SIZES),
    degree: Annotated[int, typer.Option(help="Inputs per output.")] = 64,
    repeats: Annotated[int, typer.Option(help="Repetitions; the least time counts.")] = 3,
    families: Families = None,
    as_json: Json = False,
) -> None:
    """Time drawing and certifying of every family, and how it grows with the size."""
    report = run_graph_speed(
        out,
        sizes=numbers("--sizes", sizes),
        degree=degree,
        repeats=repeats,
        families=names(families),
    )
    typer.echo(json.dumps(report.to_dict()) if as_json else str(report))


@overload
def numbers(name: str, text: str) -> list[int]: ...


@overload
def numbers(name: str, text: str | None) -> list[int] | None: ...


@overload
def numbers(name: str, text: str, kind: type[float]) -> list[float]: ...


@overload
def numbers(name: str, text: str | None, kind: type[float]) -> list[float] | None: ...


def numbers(name: str, text: str | None, kind: type[float] = int) -> Any:
    """The numbers of an option, with commas between; None if it was not given."""
    if text is None:
        return None
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"{name} (={text}) must be {what}, as 4,8,16") from None


def names(text: str | None) -> list[str]:
    """The names of an option, with commas between; none if it was not given."""
    return [] if text is None else [part.strip() for part in text.split(",")]
