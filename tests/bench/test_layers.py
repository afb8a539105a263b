"""`xnets bench layers` and `breakeven` at tiny size. No test asserts a time."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from xnets import ops
from xnets.bench import breakeven, layer_report, layers, peers
from xnets.bench.breakeven import find_breakeven
from xnets.bench.cases import GraphChoice, Setup, Shape, compare
from xnets.bench.layers import LayerRow, measure_layers
from xnets.bench.summary import summarise
from xnets.cli import app
from xnets.ops import _dispatch

TINY = ["--shapes", "1x1:8@3,3x3:8-16@5/2,linear:16", "--seconds", "0.001", "--batch", "2"]


def invoke(*args):
    return CliRunner().invoke(app, ["bench", *map(str, args)], prog_name="xnets")


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    return tmp_path


def test_layers(here):
    shown = invoke("layers", *TINY, "-C", "2,4", "--blocks", "1x1,4x1", "--threads", 1)
    assert shown.exit_code == 0, shown.output
    [table] = [p for p in (here / "results").glob("*.csv") if "summary" not in p.name]
    assert table.name.startswith(
        "layers_forward-training_1x1-8@3-3x3-8-16@5s2-linear-16_C-2-4_random_blocks-1x1-4x1_"
        "batch-2_threads-1_"
    )
    assert f"_torch-{torch.__version__.partition('+')[0]}" in table.name
    assert table.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    rows = read(table)
    cannot = {row["competitor"] for row in rows if row["status"].startswith("cannot: ")}
    assert cannot <= {"triton", "cpu"}  # without a GPU, without a compiler
    assert all(f"\n{name} cannot: " in shown.stdout for name in cannot)
    rows = [row for row in rows if row["competitor"] not in cannot]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["competitor"] for row in rows} >= {"dense", "grouped", "csr", "auto", "gather"}
    assert "reference" not in {row["competitor"] for row in rows}
    assert {row["step"] for row in rows} == {"forward", "training"}
    # A linear layer has no layout and no groups; a 3x3 convolution no matrix product.
    by_kind = {
        kind: {(r["competitor"], r["layout"]) for r in rows if r["kind"] == kind}
        for kind in ("1x1", "3x3", "linear")
    }
    assert ("dense", "channels_last") in by_kind["1x1"] & by_kind["3x3"]
    assert ("csr", "") in by_kind["1x1"] & by_kind["linear"]
    assert ("csr", "") not in by_kind["3x3"]
    assert not by_kind["linear"] & {("dense", "channels_last"), ("grouped", "")}
    for row in rows:
        assert float(row["ms_low"]) <= float(row["ms"]) <= float(row["ms_high"])
        assert float(row["error"]) < 1e-4
        assert row["took"] == "" or row["competitor"] == "auto"
    assert all(row["took"] in ops.list_backends() for row in rows if row["competitor"] == "auto")
    # The same number of edges for torch's groups as for ours.
    edges = {r["edges"] for r in rows if r["compression"] == "4" and r["kind"] == "3x3"}
    assert edges == {"32"}
    for kind, batch in (("1x1", "2"), ("linear", "2")):
        dense = [r for r in rows if (r["kind"], r["competitor"]) == (kind, "dense")]
        assert {r["batch"] for r in dense} == {batch}
    assert "geometric means of speed-up / C" in shown.stdout


def test_speedups_are_over_the_faster_layout():
    rows = measure_layers(
        Shape(8, 8, kernel=1, side=4), 1, [GraphChoice(2, "random", (1, 1))], seconds=0.001,
        memory=False, backends=["masked", "gather"],
    )  # fmt: skip
    dense = min(row.ms for row in rows if row.competitor == "dense")
    assert max(row.speedup for row in rows if row.competitor == "dense") == 1
    for row in rows:
        assert row.speedup == pytest.approx(dense / row.ms)
        assert row.gmacs == pytest.approx(16 * row.edges / row.ms / 1e6)
        assert row.peak_bytes is None


def test_json_and_details(here):
    arguments = ["layers", *TINY, "-C", 2, "--blocks", "1x1", "--steps", "forward", "--threads", 1]
    shown = invoke(*arguments, "--peers", "none", "--backends", "masked,auto", "--json")
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    assert {row["competitor"] for row in data["rows"]} == {"dense", "masked", "auto"}
    assert {entry["kind"] for entry in data["summary"]} == {"1x1", "3x3", "linear", "all"}
    assert all((here / name).exists() for name in data["files"])
    shown = invoke(*arguments, "--details", "--no-memory")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert any(
        line[:7] == ["forward", "1", "3x3", "8-16@5/2", "2", "grouped", "2"] for line in lines
    )


def test_what_a_backend_cannot_do_is_said():
    rows = measure_layers(
        Shape(8, 8), 1, [GraphChoice(2, "random", (1, 1)), GraphChoice(2, "random", (3, 1))],
        backends=["cpu", "masked"], dtype="bfloat16", seconds=0.001, peers=(),
    )  # fmt: skip
    by_name = {row.competitor: row for row in rows[:3]}
    assert by_name["cpu"].status.startswith("cannot: ")
    assert by_name["cpu"].ms is None
    assert by_name["masked"].status == "ok"
    assert "block" in rows[-1].status  # 3 does not divide 8


class Wrong:
    """Masked, but wrong in one way."""

    def __init__(self, what):
        self.what = what

    def __call__(self, call):
        x, weight = call.input, call.weight
        if self.what == "gradient":
            x = x.detach() + (x - x.detach()) * 2
        y = call.run_dense(ops.dense_weight(weight, call.pattern, call.groups))
        if x is not call.input:
            y = replace(call, input=x).run_dense(
                ops.dense_weight(weight, call.pattern, call.groups)
            )
        if self.what == "output":
            return y * 1.01
        if self.what == "nan":
            return y * math.nan
        if self.what == "shape":
            return y[:1]
        if self.what == "raises":
            raise RuntimeError("out of\nregisters")
        return y


@pytest.mark.parametrize(
    ("what", "step", "status"),
    [
        ("output", "forward", "wrong: the output is off by 0.01"),
        ("nan", "forward", "wrong: the output is off by nan"),
        ("shape", "forward", "wrong: the output has shape (1, 8)"),
        ("raises", "training", "failed: out of registers"),
        ("gradient", "training", "wrong: the gradient to the input is off by 1"),
    ],
)
def test_what_is_wrong_is_reported_and_not_timed(here, monkeypatch, what, step, status):
    bad = _dispatch.Backend("bad", "wrong", Wrong(what))
    monkeypatch.setattr(_dispatch, "BACKENDS", (*_dispatch.BACKENDS, bad))
    timed = []
    monkeypatch.setattr(
        layers, "time_interleaved", lambda runs, **k: timed.append(len(runs)) or real(runs, **k)
    )
    real = peers_timer()
    shown = invoke(
        "layers", "--shapes", "linear:8", "--batch", 3, "-C", 2, "--blocks", "1x1", "--peers",
        "none", "--backends", "bad,masked", "--steps", step, "--seconds", "0.001",
    )  # fmt: skip
    assert shown.exit_code == 1
    assert timed == [2]  # dense and masked
    assert f"NOT TIMED: bad C=2 random (1, 1), {step} linear:8 batch 3: {status}" in shown.stdout
    [path] = [p for p in (here / "results").glob("*.csv") if "summary" not in p.name]
    [row] = [row for row in read(path) if row["competitor"] == "bad"]
    assert row["status"] == status
    assert row["ms"] == row["speedup"] == ""


def peers_timer():
    from xnets.bench.timer import time_interleaved

    return time_interleaved


def test_every_competitor_is_compared_with_the_definition():
    """A weight that is changed behind its back is noticed, whoever computes."""
    graph = GraphChoice(2, "random", (1, 1))
    for shape in (Shape(8, 8), Shape(8, 8, kernel=1, side=4)):
        for training in (False, True):
            setup = Setup(shape, 3, training=training)
            found = [*peers.dense_layers(setup)]
            grouped = peers.grouped_layer(setup, graph)
            found += [grouped] if isinstance(grouped, peers.Competitor) else []
            found += peers.expander_layers(setup, graph, ["masked"], ["csr"])
            names = [who.name for who in found]
            assert names[-2:] == ["masked", "csr"]
            for who in found:
                expected = [tensor.clone() for tensor in who.expected()]
                assert compare(who.results(), expected, "cpu")[1] == ""
                for i, tensor in enumerate(expected):
                    tensor.view(-1)[0] += 0.1 * tensor.abs().max()
                    assert compare(who.results(), expected, "cpu")[1]
                    expected[i] = who.expected()[i].clone()


def test_sparselab_is_correct():
    pytest.importorskip("sparselab")
    setup = Setup(Shape(16, 8), 3, training=True)
    [who] = peers.expander_layers(setup, GraphChoice(4, "random", (1, 1)), [], ["sparselab"])
    assert compare(who.results(), who.expected(), "cpu")[1] == ""


def row(**fields):
    values = {
        "step": "forward", "kind": "1x1", "shape": "8@3", "batch": 1, "threads": 1,
        "dtype": "float32", "competitor": "cpu", "layout": "", "compression": 2.0,
        "family": "random", "block_out": 1, "block_in": 1, "edges": 32, "took": "", "status": "ok",
        "ms": 1.0, "speedup": 1.0,
    }  # fmt: skip
    return LayerRow(**{**values, **fields})


def test_geometric_means():
    rows = [
        row(shape="a", speedup=2.0, ms=2.0),
        row(shape="a", compression=8.0, speedup=2.0, ms=1.0),
        row(shape="b", kind="linear", batch=1, compression=4.0, speedup=16.0, ms=4.0),
        row(shape="b", kind="linear", batch=9, compression=4.0, speedup=1.0, ms=1.0),
        row(shape="a", competitor="grouped", family="grouped", speedup=8.0, ms=8.0),
        row(shape="a", competitor="grouped", family="grouped", compression=8.0, ms=0.5),
        row(shape="b", kind="linear", batch=9, compression=4.0, competitor="csr", ms=3.0),
        row(shape="b", competitor="dense", family=None, compression=1),
        row(shape="c", ms=None, speedup=None, status="wrong: the output"),
    ]
    ours = {(s.kind, s.batch): s for s in summarise(rows) if s.competitor == "cpu"}
    assert set(ours) == {
        ("1x1", None),
        ("linear", 1),
        ("linear", 9),
        ("linear", None),
        ("all", None),
    }
    assert ours["1x1", None].per_c == pytest.approx(math.sqrt(1 * 0.25))
    assert ours["1x1", None].least == 2
    assert ours["linear", 1].per_c == pytest.approx(4)
    assert ours["linear", None].speedup == pytest.approx(4)
    assert ours["all", None].per_c == pytest.approx((1 * 0.25 * 4 * 0.25) ** 0.25)
    assert ours["all", None].least == 1
    assert ours["all", None].cases == 4
    assert ours["1x1", None].over_grouped == pytest.approx(math.sqrt(4 * 0.5))
    assert ours["linear", None].over_csr == pytest.approx(3)
    assert ours["linear", None].over_grouped is None
    [grouped] = [s for s in summarise(rows) if s.competitor == "grouped"]
    assert grouped.over_grouped is None


def test_auto_that_chose_badly_is_named():
    from xnets.bench._layer_tables import worse_than_fastest

    rows = [
        row(competitor="auto", took="cpu", ms=2.0),
        row(competitor="cpu", ms=2.0),
        row(competitor="masked", ms=1.0),
        row(shape="b", competitor="auto", took="masked", ms=1.0),
        row(shape="b", competitor="masked", ms=1.0),
    ]
    first, *others = worse_than_fastest(rows)
    assert "1.414 times" in first
    assert "in 1 of 2" in first
    assert len(others) == 1
    assert "took cpu 2.000 ms, masked 1.000 ms" in others[0]
    assert worse_than_fastest(rows[1:3]) == []


def test_breakeven_is_the_least_c_that_stays_above_one():
    rows = [
        row(compression=c, speedup=s)
        for c, s in ((8.0, 3.0), (2.0, 1.2), (3.0, 0.9), (4.0, 1.5), (1.5, 0.5))
    ]
    rows += [row(kind="linear", compression=c, speedup=c / 10) for c in (2.0, 4.0)]
    rows += [row(competitor="grouped", family="grouped", speedup=9.0)]
    pays, never = find_breakeven(rows)
    assert (pays.compression, pays.speedup, pays.most, pays.speedup_at_most) == (4.0, 1.5, 8.0, 3.0)
    assert (never.compression, never.speedup, never.speedup_at_most) == (None, None, 0.4)


def test_breakeven_command(here):
    shown = invoke("breakeven", *TINY, "-C", "2,4", "--blocks", "4x1", "--threads", 1)
    assert shown.exit_code == 0, shown.output
    [path] = [p for p in (here / "results").glob("*.csv") if "times" not in p.name]
    assert path.name.startswith(
        "breakeven_forward-training_1x1-8@3-3x3-8-16@5s2-linear-16_C-2-4_random_blocks-4x1_batch-2"
    )
    rows = read(path)
    assert [(r["step"], r["kind"]) for r in rows] == [
        (step, kind) for step in ("forward", "training") for kind in ("1x1", "3x3", "linear")
    ]
    assert all(r["compression"] in ("", "2", "4") and r["most"] == "4" for r in rows)
    data = json.loads(invoke("breakeven", *TINY, "-C", 2, "--blocks", "4x1", "--json").stdout)
    assert len(data["breakeven"]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "3y"], "`shapes` (=3y) must be 1x1, 3x3, linear, or such as 3x3:64@56"),
        (["--shapes", "4x4:8@8"], "`shapes` (=4x4:8@8) must be"),
        (["--shapes", "linear:0"], "`shapes` (=linear:0) must be"),
        (["--shapes", "linear:8@3"], "`shapes` (=linear:8@3) must be"),
        (["--blocks", "4"], "`blocks` (=4) must be sides OUTxIN, as 1x1,4x1"),
        (["-C", "0.5"], "`compressions` (=0.5) must be at least 1"),
        (["-C", "two"], "--compressions (=two) must be numbers"),
        (["--threads", "0"], "`threads` (=0) must be at least 1"),
        (["--batch", "1.5"], "--batch (=1.5) must be whole numbers"),
        (["--steps", "backward"], "unknown step 'backward'"),
        (["--families", "randon"], "unknown family 'randon'; did you mean 'random' or"),
        (["--backends", "cpo"], "unknown backend 'cpo'; did you mean 'cpu'?"),
        (["--seconds", "-1"], "`seconds` (=-1) must be above 0"),
        (["--device", "tpu"], "`device` (=tpu) must be cpu or cuda"),
    ],
)
@pytest.mark.parametrize("command", ["layers", "breakeven"])
def test_bad_options_give_one_line(command, arguments, message):
    result = invoke(command, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("xnets: error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_more_bad_options(monkeypatch):
    for arguments, message in (
        (["--peers", "tvm"], "unknown peer 'tvm'"),
        (["--dtype", "int8"], "unknown dtype 'int8'"),
    ):
        result = invoke("layers", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs a CUDA device" in invoke("layers", "--device", "cuda").stderr
    monkeypatch.setattr("xnets.bench._options.has_sparselab", lambda: False)
    result = invoke("layers", "--peers", "sparselab")
    assert (
        result.stderr
        == "xnets: error: `peers` (=sparselab) is not installed: pip install sparselab\n"
    )


def test_standard_shapes_are_those_of_the_targets():
    assert layer_report.COMPRESSIONS == (2, 4, 8)
    shapes = [shape.label for shape in layer_report.read_shapes("1x1,3x3,linear")]
    assert shapes[:5] == ["1x1:64@56", "1x1:128@28", "1x1:256@14", "1x1:512@14", "1x1:512@7"]
    assert shapes[5:] == [
        "3x3:64@56", "3x3:128@28", "3x3:256@14", "3x3:512@7", "linear:1024", "linear:4096",
    ]  # fmt: skip
    assert len(breakeven.read_shapes(breakeven.SHAPES)) == 8


def test_groups_take_part_where_a_family_is_made_of_them():
    for families, takes_part in ((["random"], False), (["random", "shuffled"], True)):
        graphs = [GraphChoice(2, family, (1, 1)) for family in families]
        assert ("groups" in layers.default_backends("cpu", graphs)) == takes_part
