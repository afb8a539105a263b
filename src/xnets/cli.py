"""The command line: thin; every job is one call of the library."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from xnets import _bench_command, _bench_speed_command, _files_commands
from xnets._compare_command import compare
from xnets._errors import UserError, asked_by_user
from xnets._graph_command import graph
from xnets._reproduce_command import reproduce
from xnets._suggest import unknown_name
from xnets._train_command import eval_, train
from xnets.compare import list_kinds
from xnets.graphs import list_families
from xnets.models import list_models, parse_name
from xnets.ops import list_backends
from xnets.reproduce import list_tables
from xnets.train import list_recipes

_LISTS = {
    "recipes": list_recipes,
    "models": list_models,
    "families": list_families,
    "kinds": list_kinds,
    "tables": list_tables,
    "backends": lambda: ["auto", *list_backends()],
}


# click's base of all errors in options, arguments and names of commands; newer versions of typer
# carry a click of their own, so that `import click` may find another class.
_UsageError: Any = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """Answers a user's error with one line and exit code 2, and Ctrl-C with one line and 130.

    Any other exception is a bug of ours and keeps its traceback.
    """

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the options before the command's name."""
        with _in_one_line():
            return super().make_context(*args, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember the command line as it was typed."""
        ctx.meta["xnets.command"] = shlex.join(["xnets", *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _in_one_line():
            return super().invoke(ctx)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        _say(str(error) or "interrupted")
        raise typer.Exit(130) from error
    except BrokenPipeError:  # `xnets list models | head -1` is no error
        raise
    except (UserError, OSError, MemoryError, _UsageError) as error:
        # A group without a command shows its help, by an exception in newer versions of click.
        if os.environ.get("XNETS_DEBUG") == "1" or type(error).__name__ == "NoArgsIsHelpError":
            raise
        _say(f"error: {_one_line(error)}")
        raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
    name="xnets",
    help="Deep expander networks: sparse, fixed, well connected layers for PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


def _examples(*lines: str) -> str:
    # The \b keeps the help formatter from joining the lines.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xnets {version('xnets')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    pass


app.command(
    "train",
    epilog=_examples(
        "xnets train",
        "xnets train digits --compression 8 --seed 1",
        "xnets train digits --set width=16 --set weight_decay=5e-4",
        "xnets train fashion-mnist --data-dir ~/fashion --out my-run --resume auto",
        "torchrun --nproc-per-node 4 -m xnets train imagenet-X-ResNet-2-50 --data-dir ~/imagenet",
    ),
)(train)
app.command(
    "eval",
    epilog=_examples(
        "xnets eval runs/digits/1",
        "xnets eval runs/digits/1/checkpoint.ckpt --json",
        "xnets eval my-run --ten-crop --data-dir ~/imagenet",
    ),
)(eval_)
app.command(
    "compare",
    epilog=_examples(
        "xnets compare digits --seeds 5",
        "xnets compare fashion-mnist --kinds grouped,expander --compression 4,8 --out my-study",
        "xnets compare digits --kinds expander --compression 8 --block 1x1,4x1 --set width=64",
        "xnets compare cifar10-modern --model DenseNet-BC-40-24 --ray auto",
    ),
)(compare)


@app.command(
    epilog=_examples(
        "xnets inspect mobilenet --compression 8",
        "xnets inspect mobilenet --compression 8 --compare grouped,random --plot reach.png",
        "xnets inspect torchvision:resnet18 --compression 4 --source conv1 --json",
        "xnets inspect mlp --compression 4 --set width=64 --set depth=4",
    )
)
def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="See `xnets list models`; or torchvision:NAME, timm:NAME.", metavar="MODEL"
        ),
    ],
    compression: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How many times fewer edges than dense; the dense network by default."),
    ] = None,
    family: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="How graphs are drawn; see `xnets list families`. What the name says by default."
        ),
    ] = None,
    compare: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Families to show side by side, with commas between; needs a compression."
        ),
    ] = None,
    block: Annotated[
        tuple[int, int],
        typer.Option(help="Outputs and inputs that share one edge of the graph.", metavar="OUT IN"),
    ] = (1, 1),
    seed: Annotated[int, typer.Option(help="Seed of the graphs.")] = 0,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set", help="An argument of the model; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--input", help="Shape of one input, such as 3x224x224.", metavar="SIZE"),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            help="Whose reach to follow: input, the name of a layer, or auto, which is what the "
            "first sparse layer reads."
        ),
    ] = "auto",
    norms: Annotated[
        str, typer.Option(help="mix: statistics of layer norms connect too; pass: only weights do.")
    ] = "mix",
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Draw the report into this file; its suffix chooses the format."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what reaches what through a network, layer by layer, and over how many paths."""
    from xnets._inspect import inspect_models
    from xnets._picture_path import check_picture
    from xnets.connectivity import compare_connectivity, plot_connectivity

    if compare is not None and compression is None:
        raise UserError("`compare` needs `compression`: a dense network has no graphs to draw")
    if family is None:
        name = parse_name(model)
        family = name.family if name else "random"
    families = list(dict.fromkeys(compare.split(","))) if compare is not None else [family]
    if plot is not None:
        with asked_by_user():
            check_picture("--plot", plot)
    reports = inspect_models(
        model,
        families,
        settings=settings or [],
        size=size,
        source=source,
        norms=norms,
        compression=compression,
        block=block,
        seed=seed,
    )
    if plot is not None:
        with asked_by_user():
            plot_connectivity(reports if compare is not None else {"": reports[family]}, plot)
    if as_json:
        plain = {label: report.to_dict() for label, report in reports.items()}
        typer.echo(json.dumps(plain if compare is not None else plain[family]))
    elif compare is not None:
        typer.echo(compare_connectivity(reports))
    else:
        typer.echo(str(reports[family]))


@app.command("list", epilog=_examples("xnets list recipes", "xnets list families --json"))
def list_(
    what: Annotated[str, typer.Argument(help=f"One of {', '.join(_LISTS)}.", metavar="WHAT")],
    as_json: Json = False,
) -> None:
    """List the names that the other commands take, one a line."""
    if what not in _LISTS:
        raise UserError(unknown_name("list", what, _LISTS))
    names = _LISTS[what]()
    typer.echo(json.dumps(names) if as_json else "\n".join(names))


app.command(
    "graph",
    epilog=_examples(
        "xnets graph biregular --num-in 256 --num-out 256 --compression 8",
        "xnets graph random --num-in 256 --num-out 512 --degree 32 --block 4 1 --plot graph.png",
        "xnets graph --compare --num-in 256 --num-out 256 --compression 8",
        "xnets graph --mask mask.npy --json",
    ),
)(graph)

app.command(
    "reproduce",
    epilog=_examples(
        "xnets reproduce",
        "xnets reproduce table-1 figure-6 --runs runs",
        "xnets reproduce --html report.html --markdown report.md --csv report.csv",
    ),
)(reproduce)

app.command(
    "export",
    epilog=_examples(
        "xnets export runs/digits/1 --format onnx --lowering gather --input 1x8x8",
        "xnets export runs/digits/1 --format pt2 --lowering custom --input 1x8x8",
        "xnets export runs/digits/1 --format safetensors",
    ),
)(_files_commands.export)
app.command(
    "import-reference",
    epilog=_examples("xnets import-reference best.pth.tar --model X-DenseNet-BC-2-40-24"),
)(_files_commands.import_reference)

bench = typer.Typer(
    help="Experiments and benchmarks, each with a CSV and a picture.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench, name="bench", epilog=_examples("xnets bench theory --only blocks"))
bench.command(
    epilog=_examples(
        "xnets bench theory",
        "xnets bench theory --only depth --degrees 4 --sizes 64,256,1024 --out depths",
    )
)(_bench_command.theory)
bench.command(
    epilog=_examples(
        "xnets bench graphs",
        "xnets bench graphs --families random,biregular --sizes 512,2048 --json",
    )
)(_bench_command.graphs)
bench.command(
    epilog=_examples(
        "xnets bench layers --quick",
        "xnets bench layers --shapes 3x3,linear:4096 --batch 16 --threads 1,2 --blocks 4x1",
    )
)(_bench_speed_command.layers)
bench.command(
    epilog=_examples("xnets bench models --models resnet50,timm:vit_small_patch16_224 --batch 1")
)(_bench_speed_command.models)
bench.command(
    epilog=_examples("xnets bench breakeven --shapes 3x3:128@28,linear:2048 --threads 1,2")
)(_bench_speed_command.breakeven)


def main() -> None:
    """Run the command line."""
    app(prog_name="xnets")


def _say(text: str) -> None:
    typer.echo(f"xnets: {text}", err=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    if isinstance(error, _UsageError):
        return _usage(error)
    return " ".join(str(error).split())


def _usage(error: Any) -> str:
    """Write click's message as ours are, and say where to look."""
    text = " ".join(error.format_message().split()).rstrip(".")
    text = text[:1].lower() + text[1:]
    return f"{text}; see `{error.ctx.command_path} --help`" if error.ctx else text


if __name__ == "__main__":
    main()
