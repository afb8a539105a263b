"""The house: who may import whom, and what `import xnets` must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "xnets"

# What each room may import besides itself and the shared helpers (modules that start with "_").
MAY_IMPORT = {
    "graphs": set(),
    "ops": set(),
    "nn": {"graphs", "ops"},
    "convert": {"nn", "graphs", "ops"},
    "count": {"nn"},
    "connectivity": {"nn"},
    "models": {"nn", "convert"},
    "files": {"models", "convert", "nn", "graphs"},
    "hub": {"files"},
    "export": {"nn", "ops"},
    "inference": {"nn", "ops"},
    "import_reference": {"models", "nn", "graphs"},
    "train": {"models", "convert", "count", "nn", "graphs", "ops"},
    "reproduce": {"train", "models", "count"},
    "bench": {"models", "count", "export", "files", "inference", "nn", "graphs", "ops"},
    "compare": {"bench", "train", "graphs"},
    "cli": {
        "bench",
        "compare",
        "export",
        "files",
        "import_reference",
        "reproduce",
        "train",
        "models",
        "convert",
        "count",
        "connectivity",
        "nn",
        "graphs",
        "ops",
    },
}
# Helpers with a room of their own.
BELONGS_TO = {
    "_convert_rules": "convert",
    "_conversion_report": "convert",
    "_graph_command": "cli",
    "_bench_command": "cli",
    "_bench_speed_command": "cli",
    "_compare_command": "cli",
    "_inspect": "cli",
    "_reproduce_command": "cli",
    "_train_command": "cli",
    "_train_options": "cli",
    "_files_commands": "cli",
    "_reference_file": "import_reference",
}

HEAVY = [
    "triton", "torchvision", "lightning", "scipy", "matplotlib", "sklearn", "tensorboard", "timm",
    "torch.utils.cpp_extension", "torch._inductor", "networkx", "PIL",
]  # fmt: skip


def room(path: Path) -> str:
    top = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return BELONGS_TO.get(top, top)


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module]
            if node.module == "xnets":
                names = [f"xnets.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "xnets" and len(parts) > 1 and parts[1] != "__version__":
                rooms.add(BELONGS_TO.get(parts[1], parts[1]))
    return {r for r in rooms if not r.startswith("_")}


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_arrows_point_one_way(path: Path) -> None:
    here = room(path)
    if here.startswith("_"):  # shared helpers and the public list
        return
    forbidden = imported_rooms(path) - MAY_IMPORT[here] - {here}
    assert not forbidden, f"{here} must not import {', '.join(sorted(forbidden))}"


def test_every_room_has_its_rule() -> None:
    rooms = {room(path) for path in SOURCE.rglob("*.py")}
    assert {r for r in rooms if not r.startswith("_")} == set(MAY_IMPORT)


LISTS = "from xnets.train import list_datasets, list_recipes; list_datasets(); list_recipes()"


@pytest.mark.parametrize(
    ("module", "then"), [("xnets", "pass"), ("xnets.cli", LISTS)], ids=["xnets", "cli and names"]
)
def test_imports_are_lean(module: str, then: str) -> None:
    code = (
        f"import sys, torch; before = set(sys.modules); import {module}; {then}; "
        "print(*(set(sys.modules) - before), torch.cuda.is_initialized())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    *loaded, cuda = run.stdout.split()
    assert cuda == "False"
    heavy = [m for m in loaded if any(m == h or m.startswith(h + ".") for h in HEAVY)]
    assert not heavy


def test_graphs_need_no_torch() -> None:
    for path in (SOURCE / "graphs").glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
        assert "torch" not in names, path
