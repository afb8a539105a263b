"""The body of `xnets graph`: certify one graph, or compare the families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer

from xnets._errors import UserError, asked_by_user
from xnets._picture_path import check_picture
from xnets._progress import track
from xnets._suggest import unknown_name
from xnets.graphs import (
    BipartiteGraph,
    certify,
    compare_families,
    list_families,
    make_graph,
)

# typer reads annotations at run time, also under Python 3.10: hence Optional.
Number = Optional[int]  # noqa: UP045
File = Optional[Path]  # noqa: UP045


def graph(
    family: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="See `xnets list families`.", show_default=False),
    ] = None,
    num_in: Annotated[Number, typer.Option(help="Number of inputs.")] = None,
    num_out: Annotated[Number, typer.Option(help="Number of outputs.")] = None,
    degree: Annotated[Number, typer.Option(help="Inputs per output.")] = None,
    compression: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How many times fewer edges than dense."),
    ] = None,
    block: Annotated[
        tuple[int, int],
        typer.Option(help="Outputs and inputs that share one edge of the graph.", metavar="OUT IN"),
    ] = (1, 1),
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of a lift: random or cyclic."),
    ] = None,
    max_draws: Annotated[Number, typer.Option(help="Of ramanujan: when to give up.")] = None,
    stage: Annotated[Number, typer.Option(help="Of butterfly and radix: which stage.")] = None,
    radices: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of radix: the mixed radices, as 4,8,2."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Table all families that can have the size.")
    ] = False,
    mask: Annotated[
        File, typer.Option(help="Certify your own graph: a .npy of zeros and ones, outputs first.")
    ] = None,
    edges: Annotated[
        File, typer.Option(help="Your own graph as a .npy or .csv of input,output pairs.")
    ] = None,
    plot: Annotated[File, typer.Option(help="Draw the certificate: .png, .svg or .pdf.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value on standard output.")
    ] = False,
) -> None:
    """Draw a graph and print what is proved about it.

    Of a family, of all families (--compare), or of a file of yours (--mask, --edges).
    """
    size: dict[str, Any] = {"degree": degree, "compression": compression, "seed": seed}
    named = {"kind": kind, "max_draws": max_draws, "stage": stage, "radices": _radices(radices)}
    options: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    sources = (
        ("FAMILY", not compare and family),
        ("--compare", compare),
        ("--mask", mask),
        ("--edges", edges),
    )
    given = [name for name, value in sources if value]
    if len(given) != 1:
        raise UserError(
            "give one of FAMILY, --compare, --mask and --edges, got "
            + (" and ".join(given) or "none")
        )
    if plot is not None:
        if compare:
            raise UserError("--plot draws one certificate; give a FAMILY instead of --compare")
        with asked_by_user():
            check_picture("--plot", plot)
    if mask is not None or edges is not None:
        drawing = {**size, **options, "seed": seed or None}
        if mask is not None:
            drawing |= {"num_in": num_in, "num_out": num_out}
        _refuse([name for name, value in drawing.items() if value is not None])
        own = _from_mask(mask, block) if mask else _from_edges(edges, num_in, num_out, block)
        _show(own, {"file": str(mask or edges)}, plot, as_json)
        return
    if num_in is None or num_out is None:
        raise UserError("give both --num-in and --num-out")
    if compare:
        names = list_families()
        if family is not None:
            _check_family(family)
            names = [family, *(name for name in names if name != family)]
        with asked_by_user():
            comparison = compare_families(
                num_in, num_out, block=block, families=track(names, "certify"), **size, **options
            )
        typer.echo(json.dumps(comparison.to_dict()) if as_json else str(comparison))
        return
    assert family is not None  # the one source that is left
    _check_family(family)
    with asked_by_user():
        drawn = make_graph(family, num_in, num_out, block=block, **size, **options)
    about = {"family": family, **size, "options": options}
    _show(drawn, about, plot, as_json)


def _show(drawn: BipartiteGraph, about: dict[str, Any], plot: Path | None, as_json: bool) -> None:
    certificate = certify(drawn)
    if plot is not None:
        certificate.plot(plot)
    if as_json:
        typer.echo(json.dumps({**about, **certificate.to_dict()}))
    else:
        typer.echo(str(certificate))


def _check_family(name: str) -> None:
    if name not in list_families():
        raise UserError(unknown_name("family", name, list_families()))


def _radices(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--radices (={text}) must be whole numbers, as 4,8,2") from None


def _refuse(names: list[str]) -> None:
    if names:
        flags = " and ".join("--" + name.replace("_", "-") for name in names)
        raise UserError(f"{flags}: only for graphs that are drawn; the file says what its graph is")


# --- the user's own graph ------------------------------------------------------------------------


def _load(path: Path) -> Any:
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path} is no .npy file of numbers: {error}") from error
    if path.suffix == ".csv":
        try:
            return np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} must hold lines `input,output`: {reason}") from error
    raise UserError(f"{path} must end in .npy or .csv")


def _from_mask(path: Path, block: tuple[int, int]) -> BipartiteGraph:
    if path.suffix != ".npy":
        raise UserError(f"--mask (={path}) must end in .npy; a .csv lists --edges")
    with asked_by_user():
        return BipartiteGraph.from_mask(_load(path), block=block)


def _from_edges(
    path: Path | None, num_in: int | None, num_out: int | None, block: tuple[int, int]
) -> BipartiteGraph:
    assert path is not None
    pairs = np.asarray(_load(path))
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise UserError(f"{path} must hold pairs (input, output), but has shape {pairs.shape}")
    with asked_by_user():
        return BipartiteGraph.from_edges(
            pairs,
            int(pairs[:, 0].max()) + 1 if num_in is None else num_in,
            int(pairs[:, 1].max()) + 1 if num_out is None else num_out,
            block=block,
        )
