"""The bodies of `xnets export` and `xnets import-reference`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from xnets._errors import UserError, asked_by_user
from xnets._settings import read_settings
from xnets._suggest import unknown_name

_FORMATS = ("onnx", "pt2", "safetensors")

# typer reads annotations at run time, also under Python 3.10: hence Optional.
Text = Optional[str]  # noqa: UP045
File = Optional[Path]  # noqa: UP045
Texts = Optional[list[str]]  # noqa: UP045


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run folder, its checkpoint, or a file of xnets.save.", metavar="SOURCE"
        ),
    ],
    format_: Annotated[
        Text, typer.Option("--format", help=f"One of {', '.join(_FORMATS)}.", show_default=False)
    ] = None,
    lowering: Annotated[
        Text,
        typer.Option(
            help="dense: torch's dense layers, fast everywhere and as large as the dense network; "
            "gather: keeps the number of weights; custom (only pt2): xnets' own kernels, runs "
            "where xnets is installed. There is no default."
        ),
    ] = None,
    size: Annotated[
        Text,
        typer.Option("--input", help="Shape of one input, such as 3x224x224.", metavar="SIZE"),
    ] = None,
    out: Annotated[
        File, typer.Option(help="File to write; the source's name with the format's suffix.")
    ] = None,
    fixed_batch: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Fix the number of inputs a call; any by default."),
    ] = None,
    patterns: Annotated[
        str, typer.Option(help="Of safetensors: store graphs as indices, or by seed where it can.")
    ] = "indices",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value on standard output.")
    ] = False,
) -> None:
    """Write a trained network to a file for other programs: ONNX, torch.export or safetensors."""
    from xnets.models import read_size

    if format_ not in _FORMATS:
        if format_ is None:
            raise UserError(f"give `format`: one of {', '.join(_FORMATS)}")
        raise UserError(unknown_name("format", format_, _FORMATS))
    network, said = _read(source)
    out = _default_out(source, format_) if out is None else out
    trained = source / "checkpoint.ckpt" if source.is_dir() else source
    rewrites = format_ == "safetensors" and trained.suffix == ".safetensors"  # the same again
    if out.exists() and out.samefile(trained) and not rewrites:
        raise UserError(f"`out` (={out}) is the source itself: name another file")
    _check_out(out)
    if format_ == "safetensors":
        if lowering is not None or size is not None or fixed_batch is not None:
            raise UserError("`lowering`, `input` and `fixed-batch` are for onnx and pt2")
        from xnets.files import save

        with asked_by_user(), _written(out):
            save(network, out, patterns=patterns, metadata=said)
    else:
        if lowering is None or size is None:
            raise UserError(
                "give `lowering` (dense or gather"
                + (", or custom" if format_ == "pt2" else "")
                + ") and `input`, the shape of one input, such as 1x28x28"
            )
        with asked_by_user(), _written(out):
            _export(network, out, format_, lowering, read_size(size), fixed_batch)
    size_in_bytes = out.stat().st_size
    written = {"file": str(out), "format": format_, "lowering": lowering, "bytes": size_in_bytes}
    typer.echo(json.dumps(written) if as_json else f"wrote {out} ({size_in_bytes:,} bytes)")


def _export(
    network: Any, out: Path, format_: str, lowering: str, size: list[int], batch: int | None
) -> None:
    import torch

    from xnets.export import to_onnx, to_program

    if batch is not None and batch < 1:
        raise ValueError(f"`fixed-batch` (={batch}) must be at least 1")
    write = to_onnx if format_ == "onnx" else to_program
    try:
        write(
            network,
            torch.zeros(batch or 1, *size),
            out,
            lowering=lowering,
            dynamic_batch=batch is None,
        )
    except RuntimeError as error:
        shown = " ".join(str(error).split())[:200]
        shape = "x".join(map(str, size))
        raise UserError(f"the network cannot be exported for inputs of {shape}: {shown}") from error


def _read(source: Path) -> tuple[Any, dict[str, str]]:
    """A network, and what is said about it, from a run or a file."""
    is_run = source.is_dir() or source.suffix == ".ckpt"
    if not is_run:
        from xnets.files import load

        return load(source), {}
    from xnets.train import load_checkpoint

    checkpoint = load_checkpoint(source)
    recipe = json.dumps(checkpoint.recipe.to_dict())
    return checkpoint.model, {"recipe": recipe, "epoch": str(checkpoint.epoch)}


def _check_out(out: Path) -> None:
    """Find out before the work what keeps its file from being written."""
    if not out.absolute().parent.is_dir():
        raise UserError(f"`out` (={out}): there is no folder {out.parent}; make it first")
    if out.exists() and not out.is_file():
        kind = "a folder" if out.is_dir() else "no regular file"
        raise UserError(f"`out` (={out}) is {kind}: name a file")


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename and out.stem not in Path(str(error.filename)).name:
            raise  # of another file
        reason = error.strerror or error
        raise UserError(f"cannot write `out` (={out}): {reason}; name another file") from error


def _default_out(source: Path, format_: str) -> Path:
    if source.is_dir():
        return source / f"model.{format_}"
    return source.with_suffix(f".{format_}")


def import_reference(
    file: Annotated[Path, typer.Argument(help="A .pth.tar checkpoint.", metavar="FILE")],
    model: Annotated[
        Text,
        typer.Option(help="Which network it is, such as X-DenseNet-BC-2-40-24; no default."),
    ] = None,
    settings: Annotated[
        Texts,
        typer.Option(
            "--set", help="An argument of the model; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    out: Annotated[
        File, typer.Option(help="File to write; FILE with the suffix .safetensors by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value on standard output.")
    ] = False,
) -> None:
    """Read a checkpoint of the paper's original repository and save it as a file of xnets."""
    from xnets.files import save
    from xnets.import_reference import import_reference as read

    if model is None:
        raise UserError("give `model`, the network's name, such as X-DenseNet-BC-2-40-24")
    with asked_by_user():
        network, report = read(file, model, **read_settings(settings or []))
        if out is None:
            out = file.with_suffix("") if file.name.endswith(".pth.tar") else file
            out = out.with_suffix(".safetensors")
        _check_out(out)
        said = {name: str(value) for name, value in report.said.items()}
        with _written(out):
            save(network, out, metadata=said)
    if as_json:
        typer.echo(json.dumps({"file": str(out), **report.to_dict()}))
    else:
        typer.echo(f"{report}\nwrote {out} ({out.stat().st_size:,} bytes)")
