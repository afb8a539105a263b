"""`xnets export` and `xnets import-reference`: what they write, and their one-line errors."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest
import torch
from typer.testing import CliRunner

import xnets
from tests import reference_checkpoints as old
from xnets.cli import app

SMALL = {"depth": 16, "growth": 12, "c": 2, "classes": 10, "x_transitions": True}


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="xnets")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = xnets.create_model("convnet", compression=4, width=8, stages=2)
    xnets.save(model, "m.safetensors")
    return "m.safetensors"


def test_onnx(file, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = invoke("export", file, "--format", "onnx", "--lowering", "gather", "--input", "1x8x8")
    assert done.exit_code == 0, done.output
    size = (tmp_path / "m.onnx").stat().st_size
    assert done.stdout == f"wrote m.onnx ({size:,} bytes)\n"
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    x = torch.rand(3, 1, 8, 8)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), xnets.load(file)(x).detach())


def test_pt2_and_json(file):
    done = invoke(
        "export", file, "--format", "pt2", "--lowering", "custom", "--input", "1x8x8",
        "--fixed-batch", 2, "--out", "n.pt2", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["file"], said["format"], said["lowering"]) == ("n.pt2", "pt2", "custom")
    x = torch.rand(2, 1, 8, 8)
    module = torch.export.load("n.pt2").module()
    torch.testing.assert_close(module(x), xnets.load(file)(x))


def test_a_run_becomes_a_file_to_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["--epochs", 1, "--batch-size", 256, "--out", "run"]
    assert invoke("train", "digits", *args).exit_code == 0
    done = invoke("export", "run", "--format", "safetensors")
    assert done.exit_code == 0, done.output
    model = xnets.load("run/model.safetensors")
    checkpoint = xnets.train.load_checkpoint("run")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(x), checkpoint.model(x))
    metadata = xnets.read_metadata("run/model.safetensors")
    assert json.loads(metadata["recipe"])["name"] == "digits"
    assert metadata["epoch"] == "1"
    done = invoke("export", "run", "--format", "safetensors", "--out", "run/checkpoint.ckpt")
    assert done.exit_code == 2, done.output
    assert xnets.train.load_checkpoint("run").model(x).shape == (2, 10)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give `format`: one of onnx, pt2, safetensors"),
        (["--format", "onx"], "unknown format 'onx'; did you mean 'onnx'?"),
        (["--format", "onnx"], "give `lowering` (dense or gather) and `input`"),
        (["--format", "pt2", "--lowering", "dense"], "give `lowering` (dense or gather, or cust"),
        (["--format", "safetensors", "--lowering", "dense"], "are for onnx and pt2"),
        (["--format", "safetensors", "--patterns", "x"], "unknown patterns 'x'"),
        (["--format", "onnx", "--lowering", "custom", "--input", "1x8x8"], "unknown lowering 'cu"),
        (["--format", "onnx", "--lowering", "dense", "--input", "8by8"], "`input` (='8by8') must"),
        (["--format", "onnx", "--lowering", "dense", "--input", "3x8x8"], "for inputs of 3x8x8"),
        (
            ["--format", "pt2", "--lowering", "dense", "--input", "1x8x8", "--fixed-batch", "0"],
            "`fixed-batch` (=0) must be at least 1",
        ),
    ],
)
def test_wrong_exports(file, args, message):
    done = invoke("export", file, *args)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("xnets: error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


FORMATS = [
    ["--format", "safetensors"],
    ["--format", "pt2", "--lowering", "gather", "--input", "1x8x8"],
    ["--format", "onnx", "--lowering", "gather", "--input", "1x8x8"],
]


@pytest.mark.parametrize("args", FORMATS, ids=lambda args: args[1])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("no/such/m", "`out` (=no/such/m): there is no folder no/such; make it first"),
        (".", "`out` (=.) is a folder: name a file"),
        ("pipe", "`out` (=pipe) is no regular file: name a file"),
    ],
)
def test_where_no_file_can_be_written(file, tmp_path, monkeypatch, args, out, message):
    if args[1] == "onnx":
        pytest.importorskip("onnxscript")
    monkeypatch.setattr("torch.export.export", None)  # known before the work
    os.mkfifo(tmp_path / "pipe")
    done = invoke("export", file, *args, "--out", out)
    assert (done.exit_code, done.stderr) == (2, f"xnets: error: {message}\n")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("args", FORMATS, ids=lambda args: args[1])
def test_a_file_that_cannot_be_written(file, tmp_path, monkeypatch, args):
    if args[1] == "onnx":
        pytest.importorskip("onnxscript")

    # What an administrator, who may write anywhere, does not meet.
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(source), None, str(target))

    monkeypatch.setattr("os.replace", refuse)
    done = invoke("export", file, *args, "--out", "m")
    message = "cannot write `out` (=m): Permission denied; name another file"
    assert (done.exit_code, done.stderr) == (2, f"xnets: error: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_another_file_is_not_called_out(file, monkeypatch):
    def refuse(*arguments, **keywords):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "g++")

    monkeypatch.setattr("torch.export.export", refuse)
    done = invoke("export", file, *FORMATS[1], "--out", "model")
    assert (done.exit_code, done.stderr) == (2, "xnets: error: No such file or directory: g++\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:300], "is damaged or no safetensors file"),
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "does not have the hash that it states"),
        (lambda c: b"", "is damaged or no safetensors file"),
        (lambda c: None, "no such file"),
    ],
)
def test_damaged_files(file, change, message, tmp_path):
    content = change((tmp_path / file).read_bytes())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    done = invoke("export", file, "--format", "safetensors", "--out", "x")
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_export_never_writes_over_its_source(file, tmp_path):
    content = (tmp_path / file).read_bytes()
    args = ("--format", "onnx", "--lowering", "dense", "--input", "1x8x8")
    done = invoke("export", file, *args, "--out", f"../{tmp_path.name}/{file}")
    assert done.exit_code == 2, done.output
    assert "is the source itself: name another file" in done.stderr
    assert (tmp_path / file).read_bytes() == content


def test_import_reference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(old.checkpoint(old.densenet_cifar(**SMALL)), "best.pth.tar")
    name = ["--model", "X-DenseNet-BC-2-16-12"]
    done = invoke("import-reference", "best.pth.tar", *name)
    assert done.exit_code == 0, done.output
    assert "14 expander and 2 dense layers" in done.stdout
    assert "best_prec1 94.83" in done.stdout
    assert xnets.read_metadata("best.safetensors")["epoch"] == "300"
    as_json = invoke("import-reference", "best.pth.tar", *name, "--out", "o.safetensors", "--json")
    said = json.loads(as_json.stdout)
    model, report = xnets.import_reference("best.pth.tar", name[1])
    assert said == json.loads(json.dumps({"file": "o.safetensors", **report.to_dict()}))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(xnets.load("o.safetensors")(x), model(x))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["best.pth.tar"], "give `model`, the network's name"),
        (["none.pth.tar", "--model", "mobilenet"], "no such file: none.pth.tar"),
        (["best.pth.tar", "--model", "mobilnet"], "unknown model 'mobilnet'; did you mean"),
        (["best.pth.tar", "--model", "X-ResNet-2-34"], "is no checkpoint of X-ResNet-2-34"),
        (["best.pth.tar", "--model", "mobilenet", "--set", "x"], "must be NAME=VALUE"),
    ],
)
def test_wrong_imports(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(old.checkpoint(old.densenet_cifar(**SMALL)), "best.pth.tar")
    done = invoke("import-reference", *args)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("xnets: error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
