"""`xnets graph`: certificates and comparisons on the command line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from xnets.cli import app
from xnets.graphs import BipartiteGraph, certify, list_families, list_options, make_graph

SIZE = ["--num-in", 64, "--num-out", 32]


def invoke(*args):
    return CliRunner().invoke(app, ["graph", *map(str, args)], prog_name="xnets")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    return tmp_path


def test_prints_the_certificate():
    shown = invoke("biregular", *SIZE, "--compression", 4, "--seed", 5)
    assert shown.exit_code == 0, shown.output
    expected = certify(make_graph("biregular", 64, 32, compression=4, seed=5))
    assert shown.stdout == f"{expected}\n"


def test_json_and_picture(here):
    shown = invoke(
        "lift", *SIZE, "--degree", 16, "--block", 4, 2, "--kind", "cyclic", "--json",
        "--plot", "lift.png",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    graph = make_graph("lift", 64, 32, degree=16, block=(4, 2), kind="cyclic")
    assert data["fingerprint"] == graph.fingerprint()
    assert (data["family"], data["degree"], data["seed"]) == ("lift", 16, 0)
    assert data["options"] == {"kind": "cyclic"}
    assert (here / "lift.png").read_bytes().startswith(b"\x89PNG")


def test_compare():
    shown = invoke("--compare", *SIZE, "--compression", 4)
    assert shown.exit_code == 0, shown.output
    names = [line.split()[0].rstrip(":") for line in shown.stdout.splitlines() if line]
    assert set(list_families()) < set(names)
    data = json.loads(invoke("--compare", *SIZE, "--compression", 4, "--json").stdout)
    assert len(data["families"]) + len(data["missing"]) == len(list_families())
    ours = invoke("lift", "--compare", *SIZE, "--compression", 4).stdout.splitlines()
    assert ours[2].startswith("lift ")


def test_own_mask_and_edges(here):
    graph = make_graph("random", 12, 8, degree=4, block=(2, 1))
    np.save("mask.npy", graph.mask().astype(np.uint8))
    np.save("edges.npy", graph.edges())
    np.savetxt("edges.csv", graph.edges(), fmt="%d", delimiter=",", header="input,output")
    whole = graph.with_block((1, 1)).fingerprint()
    for source in (["--mask", "mask.npy"], ["--edges", "edges.npy"], ["--edges", "edges.csv"]):
        shown = invoke(*source, "--json")
        assert shown.exit_code == 0, shown.output
        data = json.loads(shown.stdout)
        assert data["fingerprint"] == whole
        assert data["file"] == source[1]
    data = json.loads(invoke("--mask", "mask.npy", "--block", 2, 1, "--json").stdout)
    assert data["fingerprint"] == graph.fingerprint()
    data = json.loads(invoke("--edges", "edges.csv", "--num-in", 20, "--json").stdout)
    assert data["unused_inputs"] == int((graph.fan_out == 0).sum()) + 8


def test_every_option_of_a_family_is_offered():
    shown = invoke("--help").stdout
    for family in list_families():
        for option in list_options(family):
            assert f"--{option.replace('_', '-')} " in shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give one of FAMILY, --compare, --mask and --edges, got none"),
        (["random", "--mask", "mask.npy"], "got FAMILY and --mask"),
        (["rndom", *SIZE, "--degree", 4], "unknown family 'rndom'; did you mean 'random'"),
        (["random", "--num-in", 4, "--degree", 4], "give both --num-in and --num-out"),
        (["random", *SIZE], "give exactly one of `degree` and `compression`, got neither"),
        (["random", *SIZE, "--degree", 65], "`degree` (=65) must be at most `num_in` (=64)"),
        (["random", *SIZE, "--degree", 8, "--seed", -1], "`seed` (=-1) must be at least 0"),
        (["random", *SIZE, "--degree", 8, "--block", 3, 1], "`num_out` (=32) must be a multiple"),
        (["random", *SIZE, "--degree", 8, "--kind", "cyclic"], "has no option `kind`"),
        (["lps", *SIZE, "--degree", 8], "the nearest are (num_in=60, num_out=60, degree=4)"),
        (["radix", *SIZE, "--radices", "2;16"], "--radices (=2;16) must be whole numbers"),
        (["--compare", *SIZE, "--degree", 99], "`degree` (=99) must be at most"),
        (["--compare", *SIZE, "--degree", 8, "--plot", "a.png"], "--plot draws one certificate"),
        (["random", *SIZE, "--degree", 8, "--plot", "a.txt"], "must end in one of .png, .svg"),
        (["random", *SIZE, "--degree", 8, "--plot", "no/a.png"], "there is no folder no"),
        (["--mask", "mask.npy", "--degree", 4], "--degree: only for graphs that are drawn"),
        (["--mask", "mask.npy", "--num-in", 4], "--num-in: only for graphs that are drawn"),
        (["--mask", "none.npy"], "No such file or directory: none.npy"),
        (["--mask", "edges.csv"], "--mask (=edges.csv) must end in .npy"),
        (["--mask", "bad.npy"], "bad.npy is no .npy file of numbers"),
        (["--mask", "half.npy"], "`mask` must hold only zeros and ones"),
        (["--mask", "mask.npy", "--block", 1, 2], "every block must be complete or empty"),
        (["--edges", "mask.npy"], "must hold pairs (input, output), but has shape (3, 4)"),
        (["--edges", "words.csv"], "words.csv must hold lines `input,output`"),
        (["--edges", "edges.txt"], "edges.txt must end in .npy or .csv"),
        (["--edges", "edges.csv", "--num-out", 1], "outputs of `edges` must lie in [0, 1)"),
    ],
)
def test_errors_are_one_line(here, args, message):
    np.save("mask.npy", np.eye(3, 4))
    np.save("half.npy", np.full((2, 2), 0.5))
    (here / "bad.npy").write_text("no array")
    (here / "edges.csv").write_text("0,0\n1,1\n")
    (here / "words.csv").write_text("input,output\n")
    (here / "edges.txt").write_text("0,0\n")
    result = invoke(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_edges_of_one_vertex_a_side(here):
    (here / "edges.csv").write_text("0,0\n")
    data = json.loads(invoke("--edges", "edges.csv", "--json").stdout)
    assert data["fingerprint"] == BipartiteGraph.from_mask([[1]]).fingerprint()


def test_a_graph_too_large_for_memory_is_one_line(monkeypatch):
    def draw(*_, **__):
        raise MemoryError("Unable to allocate 7.28 TiB")

    monkeypatch.setattr("xnets._graph_command.make_graph", draw)
    shown = invoke("random", *SIZE, "--degree", 4)
    assert shown.exit_code == 2
    assert shown.stderr == (
        "xnets: error: too large for this machine's memory: Unable to allocate 7.28 TiB\n"
    )
