"""The script that measures a GPU, on tiny layers in Triton's interpreter."""

from __future__ import annotations

import csv
import os
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch

from xnets.bench import _gpu_cases, _gpu_parts, _gpu_worker, gpu
from xnets.bench._gpu_report import TARGETS
from xnets.bench._gpu_tiles import candidates
from xnets.bench.cases import GraphChoice, Shape, read_shapes
from xnets.bench.roofline import Ceilings, work
from xnets.ops import _triton

ON_GPU = torch.cuda.is_available()
if not (ON_GPU or _triton._INTERPRETED):
    pytest.skip("no GPU, and no interpreter (conftest.py)", allow_module_level=True)


@pytest.mark.skipif(ON_GPU, reason="the interpreter is off")
def test_every_case_runs_and_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "TINY", replace(gpu.TINY, networks=()))  # takes longest: below
    arguments = ["--tiny", "--together", "--out", str(tmp_path), "--seconds", "0.001"]
    assert gpu.main(arguments) == 0
    text = capsys.readouterr().out
    assert "interpreted: no figure of a GPU" in text
    [path] = tmp_path.glob("gpu-layers_cpu_torch-*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    ours = [row for row in rows if row["competitor"] == "triton"]
    assert len(ours) == 2 * len(gpu.TINY.shapes) + len(gpu.TINY.small)
    for row in rows:
        if row["ms"]:
            assert float(row["error"]) < 1e-4
            assert float(row["roofline"]) > 0
            assert not row["note"]


@pytest.mark.skipif(ON_GPU, reason="the interpreter is off")
def test_tiles_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--tiny", "--tiles", "--seconds", "0.001"]) == 0
    text = capsys.readouterr().out
    assert text.count("Tile(m=64") == len(gpu.TINY.shapes)
    assert text.count("the table's") == 2 * len(gpu.TINY.shapes)  # among the best, and alone


def test_no_time_is_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    text = gpu.run_figures(None, plan=gpu.TINY, device="cpu", budget=-1, seconds=0.001, apart=False)
    assert "no time was left for: 3x3:32-16@2 1 forward" in text


# --- what breaks ---------------------------------------------------------------------------------

ONE = replace(gpu.TINY, shapes=gpu.TINY.shapes[1:], small=(), networks=())


def broken(competitor: _gpu_parts.Competitor) -> list[torch.Tensor]:
    if competitor.name == "triton":
        raise torch.OutOfMemoryError("no memory\nfor this")
    return [competitor.module(competitor.input)]


def test_a_broken_competitor_loses_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gpu_parts.Competitor, "results", broken)
    text = gpu.run_figures(tmp_path, plan=ONE, device="cpu", seconds=0.001, apart=False)
    [path] = tmp_path.glob("gpu-layers_*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    notes = {row["competitor"]: row["note"] for row in rows if row["step"] == "forward"}
    assert notes["triton"] == "no memory"
    assert "no memory" in text
    assert {row["competitor"] for row in rows if row["ms"]} >= {"dense"}


def test_a_broken_case_loses_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(case: tuple[str, ...], *arguments: object, **options: object) -> object:
        if case[2] == "forward":
            raise RuntimeError("no events")
        return [_gpu_cases.LayerRow("left", 1, "training", "eager", "dense")]

    monkeypatch.setattr(_gpu_worker, "time_layer", fails)
    text = gpu.run_figures(None, plan=ONE, device="cpu", seconds=0.001, apart=False)
    assert "FAILED: linear:32-16 5 forward: no events" in text
    assert "left" in text


def test_hears_of_every_kind_of_end() -> None:
    ends = {
        "": [("begin", 3, "dense"), ("end",)],
        "the process died": [("begin", 3, "dense")],
        "an illegal access": [("begin", 3, "dense"), ("broken", "an illegal access")],
    }
    for reason, messages in ends.items():
        receiving, sending = Pipe(duplex=False)
        for message in messages:
            sending.send(message)
        sending.close()
        late = time.monotonic() + 60
        heard = _gpu_worker._listen(receiving, _gpu_worker.Findings(), late, patience=60)
        assert heard == (reason, 3, "dense")
    receiving, sending = Pipe(duplex=False)
    heard = _gpu_worker._listen(receiving, _gpu_worker.Findings(), late, patience=0.01)
    assert heard == ("no word for 0.01 s", -1, "")


def dying(plan: _gpu_cases.Plan, send: _gpu_worker.Send, **options: object) -> None:
    """As `measure`, with a competitor that kills the process, one that hangs, one that breaks."""
    todo, avoid = options["todo"], options["avoid"]
    assert isinstance(todo, list)
    assert isinstance(avoid, dict)
    for index in todo:
        for who in ("fine", ("dies", "hangs", "breaks")[index]):
            if who in avoid.get(index, {}):
                continue
            send(("begin", index, who))
            if who == "dies":
                os._exit(1)
            if who == "hangs":
                time.sleep(60)
            if who == "breaks":
                raise _gpu_parts.DeviceBrokenError("an illegal memory access")
        notes = avoid.get(index, {}).items()
        send(("rows", index, [_gpu_cases.LayerRow(w, 1, "", "", "", note=n) for w, n in notes]))


@pytest.mark.slow
def test_what_dies_hangs_or_breaks_is_passed_over() -> None:
    plan = replace(gpu.TINY, shapes=gpu.TINY.shapes[:1], small=gpu.TINY.small, networks=())
    findings = _gpu_worker.Findings()
    now = time.monotonic()
    _gpu_worker.measure_apart(
        plan,
        findings,
        device="cpu",
        seconds=0.001,
        until=now + 500,
        limit=now + 500,
        patience=20,
        target=dying,
    )
    assert {row.shape: row.note for row in findings.layers} == {
        "dies": "the process died",
        "hangs": "no word for 20 s",
        "breaks": "an illegal memory access",
    }
    assert not findings.problems
    assert not findings.skipped


def test_the_time_limit_ends_it() -> None:
    findings = _gpu_worker.Findings()
    _gpu_worker.measure_apart(
        ONE, findings, device="cpu", seconds=0.001, until=0, limit=time.monotonic() + 0.5
    )
    assert findings.skipped == ["linear:32-16 5 forward", "linear:32-16 5 training"]
    assert "no time was left" in findings.problems[0]


@pytest.mark.slow
@pytest.mark.skipif(ON_GPU, reason="the interpreter is off")
def test_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--tiny", "--out", str(tmp_path), "--seconds", "0.001"]) == 0
    assert "interpreted: no figure of a GPU" in capsys.readouterr().out
    assert len(list(tmp_path.glob("gpu-layers_*.csv"))) == 1
    [path] = tmp_path.glob("gpu-networks_*.csv")
    dense, sparse = csv.DictReader(path.read_text().splitlines())
    assert int(dense["weights"]) == 2 * int(sparse["weights"]) == 32 * 32 * 9
    assert int(dense["state_bytes"]) - int(sparse["state_bytes"]) == 3 * 4 * 32 * 16 * 9


@pytest.mark.skipif(ON_GPU, reason="there is a GPU")
def test_says_that_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err


def test_the_plan_holds_what_was_asked_for() -> None:
    labels = {label for label, _ in gpu.FULL.shapes}
    assert labels == {
        "3x3:256@28",
        "3x3:256@14",
        "3x3:512@28",
        "3x3:512@14",
        "linear:4096-16384",
    }
    for label, _ in (*gpu.FULL.shapes, *gpu.FULL.small):
        [shape] = read_shapes(label)
        for compression, block in gpu.FULL.graphs:  # every graph exists
            assert GraphChoice(compression, "biregular", block).draw(shape).num_edges
    assert {4, 8} == {compression for compression, _ in gpu.FULL.graphs}


def test_targets() -> None:
    """The figure found is the worst case's best block."""

    def row(shape: str, speedup: float, **changes: object) -> _gpu_cases.LayerRow:
        values: dict = {"compression": 4, "ms": 1.0, "roofline": 0.5, **changes}
        return _gpu_cases.LayerRow(
            shape, 1, "forward", "eager", "triton", speedup=speedup, **values
        )

    rows = [
        row("a", 2.0),
        row("a", 3.0, block="32x32"),
        row("b", 2.6),
        row("b", 9.0, note="the output is off by 1"),
        row("b", 9.0, compression=8),
        _gpu_cases.LayerRow("a", 1, "forward", "eager", "bsr", "", 4, "32x32", ms=2.0),
    ]
    figures = {what: sorted(find(rows, [])) for what, _, find in TARGETS}
    assert figures["forward, C = 4: times the best dense"] == [2.6, 3.0]
    assert figures["forward, C = 8: times the best dense"] == [9.0]
    assert figures["training step, C = 4: times the best dense"] == []
    assert figures["forward: times torch's BSR of the same block"] == [2.0]


def test_work_counts_the_least() -> None:
    shape = Shape(8, 16, 3, 4, 2)
    flops, moved = work(shape, 2, 64, 2, training=False)
    assert flops == 2 * 64 * 9 * 2 * 2 * 2  # two images of 2 x 2 pixels
    assert moved == 2 * (2 * 8 * 16 + 2 * 16 * 4 + 64 * 9)
    assert work(shape, 2, 64, 2, training=True) == (3 * flops, 3 * moved)
    assert Ceilings(10.0, 2.0).seconds(10, 10) == 5.0


def test_candidates_fit_shared_memory() -> None:
    tiles = list(candidates(2))
    assert len(set(tiles)) == len(tiles) > 20
    assert all(t.buffers * (t.m + t.n) * t.k * 2 <= 227 * 1024 for t in tiles)
