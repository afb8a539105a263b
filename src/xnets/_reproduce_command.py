"""The body of `xnets reproduce`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from xnets._errors import UserError, asked_by_user
from xnets.reproduce import Report, make_report, to_html, to_markdown
from xnets.reproduce import print_report as print_on_terminal


def reproduce(
    tables: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time, also under Python 3.10
        typer.Argument(
            help="Such as table-1, page-cifar, figure-6; all by default. See `xnets list tables`.",
            metavar="[TABLE]...",
        ),
    ] = None,
    runs: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Folder in which finished runs are looked for, at any depth; runs by default."
        ),
    ] = None,
    recount: Annotated[
        bool, typer.Option("--recount", help="Build and count every network anew: a minute or two.")
    ] = False,
    csv: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write one line a row into this file.", metavar="FILE"),
    ] = None,
    markdown: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write the report into this file as Markdown.", metavar="FILE"),
    ] = None,
    html: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Write the report into this file as a page that needs no other.", metavar="FILE"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value on standard output.")
    ] = False,
) -> None:
    """Show the paper's tables and figures: printed, counted, trained here, and the command.

    Where what is counted differs from what is printed, the reason is given. The accuracies of
    finished runs are shown beside the printed ones.
    """
    if runs is not None and not runs.is_dir():  # the default one need not exist
        raise UserError(f"--runs (={runs}) must be a folder")
    with asked_by_user():
        report = make_report(tables or (), runs=runs or "runs", recounted=recount)
    files = {csv: Report.to_csv, markdown: to_markdown, html: to_html}
    for path, write in files.items():
        if path is not None:
            path.write_text(write(report), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    elif not any(files):
        print_on_terminal(report)
    else:
        typer.echo("wrote " + ", ".join(str(path) for path in files if path is not None), err=True)
