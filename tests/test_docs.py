"""What the pages say runs."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_examples_run(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert len(example.read_text().splitlines()) < 80


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_shown_commands_exist() -> None:
    """Every `xnets ...` line on a page parses: command, options and all."""
    from typer.main import get_command

    from xnets.cli import app

    cli = get_command(app)
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            for part in line.split("#")[0].split("&&"):
                words = shlex.split(part)
                if words[:1] != ["xnets"] or words[1:2] in ([], ["--version"]):
                    continue
                command, words = cli, words[1:]
                while hasattr(command, "commands"):  # `xnets bench theory`
                    command, words = command.commands[words[0]], words[1:]
                command.make_context("xnets", words, resilient_parsing=True)


def test_ci_runs_the_readmes_test_command() -> None:
    run, test = (b.strip() for b in blocks(ROOT / "README.md", "sh")[:2])
    assert run == "python -m pip install . && xnets train"
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()
