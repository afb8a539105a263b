"""`xnets compare`: what is printed where, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xnets.cli import app

FAST = ["--epochs", "1", "--batch-size", "512", "--seeds", "1"]


def invoke(*args):
    return CliRunner().invoke(app, ["compare", *map(str, args)], prog_name="xnets")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    return tmp_path


def test_a_table_then_json(here):
    options = ["digits", *FAST, "--kinds", "expander,grouped", "--compression", "8"]
    shown = invoke(*options)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("network     accuracy in %  seeds     MACs  parameters")
    assert lines[2].startswith("expander 8  ")
    assert lines[-1] == "report: comparisons/digits/report.md"
    assert "2/2  grouped 8, seed 0" in shown.stderr
    again = invoke(*options, "--json")
    values = json.loads(again.stdout)
    assert [point["label"] for point in values["points"]] == ["expander 8", "grouped 8"]
    assert "2 of them done already" in again.stderr
    [result, _] = (here / "comparisons/digits/trials").glob("*/result.json")
    assert json.loads(result.read_text())["command"].startswith("xnets compare digits --epochs 1")


def test_failures_are_told_in_one_line_after_the_table(here):
    found = invoke("digits", *FAST, "--kinds", "expander,lps", "--compression", "8")
    assert found.exit_code == 2
    assert "expander 8" in found.stdout
    last = found.stderr.splitlines()[-1]
    assert last.startswith("xnets: error: 1 of 2 trials failed; lps-8-seed-0-")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["digitz"], "unknown recipe 'digitz'; did you mean 'digits'?"),
        (["--kinds", "expander,groupd"], "unknown kind 'groupd'; did you mean 'grouped'?"),
        (["--compression", "4,x"], "--compression (=4,x) must be numbers, as 4,8,16"),
        (["--compression", "1"], "`compression` (=1) must be above 1; the dense network is a kind"),
        (["--block", "4"], "--block (=4) must be sides OUTxIN, as 1x1,4x1"),
        (["--block", "0x1"], "--block (=0x1) must be sides OUTxIN"),
        (["--set", "compression=4"], "`compression` has an option, give --compression"),
        (["--set", "family=grouped"], "`family` has an option, give --kinds"),
        (["--set", "widht=8"], "unknown setting 'widht'; did you mean 'width'?"),
        (["--seeds", "0"], "`seeds` (=0) must be an integer of at least 1"),
        (["fashion-mnist", "--data-dir", "nowhere"], "fashion-mnist: missing its four idx files"),
        (["--device", "tpu"], "`device` (='tpu') must be one of auto, cpu, cuda"),
        (["--out", "/proc/nowhere"], "cannot write to the output folder /proc/nowhere"),
    ],
)
def test_errors_are_one_line_and_nothing_is_left(here, args, message):
    found = invoke(*args)
    assert found.exit_code == 2
    assert found.stdout == ""
    [line] = found.stderr.splitlines()
    assert line.startswith("xnets: error: ")
    assert message in line
    assert not list(here.iterdir())


# The background jobs of a shell ignore it, and so do their children.
HEARS_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from xnets.cli import main; main()"
)


@pytest.mark.slow
def test_control_c_is_one_line_and_the_same_command_goes_on(here):
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-c", HEARS_CTRL_C, "compare", "digits", "--kinds", "dense,expander",
        "--compression", "4", "--seeds", "1", "--epochs", "40",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while not list(here.glob("comparisons/digits/trials/*/resume.ckpt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 130, error
    last = error.splitlines()[-1]
    assert last.startswith("xnets: interrupted: 0 of 2 trials are done; the same command goes on")
    assert "Traceback" not in error
    [folder] = (here / "comparisons/digits/trials").iterdir()
    epochs = len((folder / "metrics.csv").read_text().splitlines()) - 1
    assert 1 <= epochs < 40
