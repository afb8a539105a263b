"""The bodies of `xnets bench layers`, `models` and `breakeven`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from xnets._bench_command import Json, names, numbers
from xnets.bench.cases import read_blocks

Out = Annotated[
    Path, typer.Option(help="Folder for CSV files and pictures; names hold the conditions.")
]
Threads = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this at run time, also under Python 3.10
    typer.Option(help="Numbers of threads, as 1,2; torch's own number by default."),
]
Batches = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--batch", help="Batch sizes; 1,16 and for linear layers 1,128 by default."),
]
Families = Annotated[str, typer.Option(help="Families of graphs, as random,biregular.")]
Blocks = Annotated[str, typer.Option(help="Blocks of graphs, OUTxIN.")]
Seconds = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="How long to time each competitor of a case, about."),
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Quick = Annotated[bool, typer.Option("--quick", help="A taste: fewer cases, less time on each.")]
_QUICK_PEERS = "onnxruntime,grouped"
_QUICK_SHAPES = "1x1:128@28,3x3:128@28,linear:1024"


def layers(
    out: Out = Path("results"),
    shapes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="KIND:IN[-OUT][@SIDE[/STRIDE]] such as 3x3:64@56 or linear:1024, or a KIND alone "
            "(1x1, 3x3, linear) for its standard shapes; all of these by default."
        ),
    ] = None,
    compressions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--compressions", "-C", help="Compressions C; 2,4,8 by default."),
    ] = None,
    families: Families = "random",
    blocks: Blocks = "1x1,4x1,4x4",
    batch: Batches = None,
    threads: Threads = None,
    steps: Annotated[str, typer.Option(help="Some of forward,training.")] = "forward,training",
    backends: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Which of our backends; auto and all but reference by default."),
    ] = None,
    peers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Some of grouped,csr,sparselab, on a GPU compiled,bsr,2:4 too, or none; all that "
            "can by default."
        ),
    ] = None,
    seconds: Seconds = None,
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    memory: Annotated[bool, typer.Option(help="Measure the peak of memory too.")] = True,
    details: Annotated[bool, typer.Option("--details", help="Print every competitor.")] = False,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Time expander layers on every backend against torch's dense, grouped and sparse layers.

    All competitors of a case take turns in one run; each is first checked against the definition.
    """
    from xnets.bench.layer_report import run_layers

    report = run_layers(
        out,
        **_optional(
            shapes=shapes or (_QUICK_SHAPES if quick else None),
            compressions=numbers("--compressions", compressions or ("4" if quick else None), float),
            batches=numbers("--batch", batch or ("1" if quick else None)),
            threads=numbers("--threads", threads),
            peers=_peers(peers, None),
            seconds=seconds or (0.03 if quick else None),
        ),
        families=names(families),
        blocks=read_blocks(blocks),
        steps=names(steps),
        backends=names(backends),
        device=device,
        dtype=dtype,
        memory=memory,
        details=details,
    )
    _show(report, as_json)


def models(
    out: Out = Path("results"),
    chosen: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--models",
            help="Names of `xnets list models` and the paper's, torchvision:NAME or timm:NAME; "
            "torchvision's resnet50 and vgg16 by default.",
        ),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--input", help="Shape of one input, such as 3x64x64.", metavar="SIZE"),
    ] = None,
    compressions: Annotated[
        str, typer.Option("--compressions", "-C", help="Compressions C.")
    ] = "4",
    families: Families = "random",
    blocks: Blocks = "4x1",
    batch: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--batch", help="Batch sizes; 1,16 by default."),
    ] = None,
    threads: Threads = None,
    steps: Annotated[str, typer.Option(help="Some of inference,training.")] = "inference,training",
    backends: Annotated[str, typer.Option(help="Which of our backends.")] = "auto",
    peers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Some of compiled,onnxruntime,openvino,grouped,optimized, or none; all by default."
        ),
    ] = None,
    seconds: Seconds = None,
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option(help="float32; or bfloat16 or float16, by autocast.")
    ] = "float32",
    memory: Annotated[bool, typer.Option(help="Measure the peak of memory too.")] = True,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Time whole networks, dense and converted, against what you would pick instead, in one run.

    Peers, in inference: the dense network under torch.compile, ONNX Runtime and OpenVINO, and the
    same network with groups. Each competitor is first checked against its definition.
    """
    from xnets.bench.model_report import run_models

    report = run_models(
        out,
        **_optional(
            models=names(chosen or ("resnet18" if quick else None)) or None,
            batches=numbers("--batch", batch or ("1" if quick else None)),
            threads=numbers("--threads", threads),
            peers=_peers(peers, _QUICK_PEERS if quick else None),
            seconds=seconds or (0.3 if quick else None),
        ),
        size=size,
        compressions=numbers("--compressions", compressions, float),
        families=names(families),
        blocks=read_blocks(blocks),
        steps=names(steps),
        backends=names(backends),
        device=device,
        dtype=dtype,
        memory=memory,
    )
    _show(report, as_json)


def breakeven(
    out: Out = Path("results"),
    shapes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="As in `xnets bench layers`; eight of each size by default."),
    ] = None,
    compressions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--compressions", "-C", help="Compressions to try; 1.5 to 16 by default."),
    ] = None,
    families: Families = "random",
    blocks: Blocks = "1x1,4x1,4x4",
    batch: Batches = None,
    threads: Threads = None,
    steps: Annotated[str, typer.Option(help="Some of forward,training.")] = "forward,training",
    backends: Annotated[str, typer.Option(help="auto, or backends to look at alone.")] = "auto",
    seconds: Seconds = None,
    device: Device = "cpu",
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Find from which compression each kind of layer is faster than dense on this machine."""
    from xnets.bench.breakeven import run_breakeven

    report = run_breakeven(
        out,
        **_optional(
            shapes=shapes or (_QUICK_SHAPES if quick else None),
            compressions=numbers(
                "--compressions", compressions or ("2,4,8" if quick else None), float
            ),
            batches=numbers("--batch", batch or ("1" if quick else None)),
            threads=numbers("--threads", threads),
            seconds=seconds or (0.02 if quick else None),
        ),
        families=names(families),
        blocks=read_blocks(blocks),
        steps=names(steps),
        backends=names(backends),
        device=device,
    )
    _show(report, as_json)


def _peers(chosen: str | None, otherwise: str | None) -> list[str] | None:
    text = chosen or otherwise
    return [] if text == "none" else names(text) if text else None


def _show(report: Any, as_json: bool) -> None:
    """Print a report; exit code 1 if a competitor is wrong."""
    typer.echo(json.dumps(report.to_dict()) if as_json else str(report))
    if report.wrong:
        raise typer.Exit(1)


def _optional(**arguments: Any) -> dict[str, Any]:
    """Those that were given; the others keep the library's defaults."""
    return {name: value for name, value in arguments.items() if value is not None}
