"""The experiments and benchmarks as a whole, at small size, through the command line."""

import csv
import json

import pytest
from typer.testing import CliRunner

from xnets.bench import fit_time_growth, run_theory, theory
from xnets.bench.speed_of_graphs import GraphSpeedRow
from xnets.cli import app


def invoke(*args):
    return CliRunner().invoke(app, ["bench", *map(str, args)], prog_name="xnets")


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    return tmp_path


def test_depth(here):
    shown = invoke(
        "theory", "--only", "depth", "--degrees", "4", "--sizes", "16,64", "--seeds", 1,
        "--families", "biregular,grouped,lps", "--out", "out",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    name = "theory-depth_degrees-4_n-16-64_seeds-1"
    assert (here / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    rows = read(here / "out" / f"{name}.csv")
    assert [(row["family"], row["n"], row["depth"]) for row in rows] == [
        ("biregular", "16", "3"),
        ("grouped", "16", ""),
        ("biregular", "64", "5"),
        ("grouped", "64", ""),
        ("lps", "60", "5"),
    ]
    table = [line.split() for line in shown.stdout.splitlines()]
    assert ["grouped", "4", "-", "-", "-", "2", "of", "2"] in table
    assert f"wrote out/{name}.csv" in shown.stdout


def test_json_of_all_experiments(here, monkeypatch):
    monkeypatch.setattr(theory, "MIXING_SIZE", 64)
    monkeypatch.setattr(theory, "MIXING_DEGREES", (2, 8))
    monkeypatch.setattr(theory, "LAYER", (64, 64))
    monkeypatch.setattr(theory, "BLOCKS", ((1, 1), (4, 4)))
    shown = invoke("theory", "--degrees", "4", "--sizes", "16,32", "--seeds", 1, "--json")
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    assert set(data) == {"depth", "growth", "mixing", "blocks", "files"}
    assert len(data["files"]) == 6
    assert all((here / name).stat().st_size > 0 for name in data["files"])
    growth = {row["family"]: row for row in data["growth"]}
    assert growth["grouped"]["slope"] is None
    assert growth["grouped"]["unconnected"] == 2
    blocks = {(row["family"], row["block_out"]) for row in data["blocks"]}
    assert {("biregular", 1), ("biregular", 4), ("grouped", 4)} <= blocks


def test_the_same_numbers_every_time(here):
    arguments = {"experiments": ["depth"], "degrees": [4], "sizes": [16, 32], "seeds": 2}
    one, two = (run_theory(here / name, **arguments) for name in ("one", "two"))
    assert one.depth == two.depth
    assert one.files[0].read_text() == two.files[0].read_text()


def test_graphs(here):
    shown = invoke("graphs", "--sizes", "32,64", "--degree", 8, "--repeats", 1, "--json")
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    csv_file, picture = data["files"]
    assert csv_file.startswith("results/graphs-speed_degree-8_n-32-64_1-thread_")
    assert (here / picture).read_bytes().startswith(b"\x89PNG")
    rows = read(here / csv_file)
    assert len(rows) == len(data["rows"]) > 15
    assert {row["family"] for row in rows} >= {"random", "biregular", "grouped"}
    text = invoke("graphs", "--sizes", "32", "--degree", 8, "--repeats", 1).stdout
    assert "certify ~ n^" in text


@pytest.mark.parametrize("command", ["theory", "graphs"])
def test_the_folder_is_made_before_the_work(here, monkeypatch, command):
    monkeypatch.setattr(theory, "measure_depth", None)
    monkeypatch.setattr("xnets.bench.speed_of_graphs.measure_speed", None)
    (here / "file").touch()
    shown = invoke(command, "--sizes", "16", "--out", "file/results")
    assert shown.exit_code == 2
    assert "Not a directory" in shown.stderr


def test_growth_is_fitted_to_the_larger_sizes():
    times = {8: 1.0, 64: 1.0, 128: 4.0, 256: 16.0}  # 8 is below an eighth of 256
    rows = [GraphSpeedRow("a", n, 8, 8 * n, t, t**0.5, 1) for n, t in times.items()]
    [growth] = fit_time_growth(rows)
    assert growth.draw == pytest.approx(2)
    assert growth.certify == pytest.approx(1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["theory", "--only", "dept"], "unknown experiment 'dept'; did you mean 'depth'?"),
        (["theory", "--families", "randm"], "unknown family 'randm'; did you mean 'random'"),
        (["theory", "--degrees", "4;8"], "--degrees (=4;8) must be whole numbers, as 4,8,16"),
        (["theory", "--degrees", "1,4"], "`degrees` (=[1, 4]) must be at least 2"),
        (["theory", "--seeds", "0"], "`seeds` (=0) must be at least 1"),
        (["theory", "--only", "depth", "--sizes", "4", "--degrees", "8"], "no family has a graph"),
        (["graphs", "--sizes", "0"], "`sizes` (=0) must be at least 1"),
        (["graphs", "--degree", "99", "--sizes", "64"], "no family has a graph of `sizes` (=[64])"),
        (["graphs", "--families", "x"], "unknown family 'x'"),
    ],
)
def test_errors_are_one_line(args, message):
    result = invoke(*args)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["theory", "graphs"])
def test_help_has_examples(command):
    assert f"\n    xnets bench {command}" in invoke(command, "--help").stdout
