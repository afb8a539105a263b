"""The command line: what is printed where, and with which exit code."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import xnets
from xnets.cli import app
from xnets.train import list_recipes

FAST = ["--epochs", "1", "--batch-size", "256"]


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="xnets")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XNETS_DEBUG", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for child processes
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["cli", "__main__"])
def test_both_modules_are_the_command(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["whatever", "list", "kinds"])
    path = Path(xnets.__file__).with_name(f"{name}.py")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("dense\nexpander\n")


def test_train_then_eval(here):
    trained = invoke("train", *FAST)
    assert trained.exit_code == 0, trained.output
    assert "dense twin" in trained.stdout
    assert "parameters" in trained.stdout
    assert trained.stdout.endswith("run folder: runs/digits/1\n")
    assert "epoch 1/1" in trained.stderr
    result = json.loads((here / "runs/digits/1/result.json").read_text())
    assert result["command"] == "xnets train --epochs 1 --batch-size 256"

    evaluated = invoke("eval", "runs/digits/1")
    assert evaluated.exit_code == 0, evaluated.output
    assert evaluated.stdout == f"test accuracy {result['test_accuracy']:.2%}\n"

    as_json = invoke("eval", "runs/digits/1/checkpoint.ckpt", "--json")
    assert json.loads(as_json.stdout)["test_accuracy"] == result["test_accuracy"]


def test_train_json_is_all_there_is_on_standard_output(here):
    trained = invoke(
        "train", "digits", *FAST, "--json", "--out", "mine", "--compression", 2, "--family",
        "grouped", "--block", 2, 4, "--seed", 3, "--lr", 0.02, "--backend", "gather",
        "--device", "cpu",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert result == json.loads((here / "mine/result.json").read_text())
    recipe = result["recipe"]
    assert recipe["block"] == [2, 4]
    assert (recipe["compression"], recipe["family"], recipe["seed"]) == (2, "grouped", 3)
    assert (recipe["lr"], recipe["backend"]) == (0.02, "gather")


@pytest.mark.parametrize(
    ("what", "name"),
    [("recipes", "digits"), ("models", "convnet"), ("families", "random"), ("backends", "auto")],
)
def test_list(what, name):
    assert name in invoke("list", what).stdout.splitlines()
    assert name in json.loads(invoke("list", what, "--json").stdout)


def test_inspect_prints_draws_and_gives_json(here):
    options = ["--compression", 4, "--set", "width=32", "--set", "depth=4"]
    shown = invoke("inspect", "mlp", *options, "--plot", "reach.png")
    assert shown.exit_code == 0, shown.output
    assert "sources: inputs of '4', the first sparse layer (32)" in shown.stdout
    assert (here / "reach.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(invoke("inspect", "mlp", *options, "--source", "input", "--json").stdout)
    assert report["num_sources"] == 1
    assert [layer["kind"] for layer in report["layers"]][1:5] == ["ExpanderLinear"] * 4


def test_inspect_compares_families(here):
    options = ["mlp", "--compression", 4, "--set", "width=32", "--compare", "grouped,random"]
    shown = invoke("inspect", *options, "--plot", "reach.svg")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[0].split() == ["connected,", "uneven:", "grouped", "random"]
    assert "grouped:\n  sources: " in shown.stdout
    assert (here / "reach.svg").exists()
    reports = json.loads(invoke("inspect", *options, "--json").stdout)
    assert list(reports) == ["grouped", "random"]
    shares = {family: report["layers"][1]["connected"] for family, report in reports.items()}
    assert shares["grouped"] == 0.25 < shares["random"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("reach.gif", "--plot (=reach.gif) must end in one of .png, .svg, .pdf"),
        (".", "--plot (=.) must end in one of .png, .svg, .pdf"),
        ("none/a.png", "--plot (=none/a.png): there is no folder none; make it first"),
    ],
)
def test_inspect_looks_at_the_picture_before_the_work(here, monkeypatch, path, message):
    monkeypatch.setattr("xnets._inspect.connectivity", None)
    shown = invoke("inspect", "mlp", "--compression", "4", "--plot", path)
    assert (shown.exit_code, shown.stderr) == (2, f"xnets: error: {message}\n")


def test_inspect_downloads_no_weights(monkeypatch):
    pytest.importorskip("torchvision")

    def load(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", load)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    name = "torchvision:lraspp_mobilenet_v3_large"
    shown = invoke("inspect", name, "--input", "3x33x33", "--json")
    assert shown.exit_code == 0, shown.stderr


def test_inspect_takes_the_papers_names():
    shown = invoke("inspect", "G-MobileNet-0.25-4", "--source", "input")
    assert shown.exit_code == 0, shown.output
    assert "blocks.1.pointwise.0" in shown.stdout
    report = json.loads(invoke("inspect", "G-MobileNet-0.25-4", "--json").stdout)
    assert report["layers"][-2]["connected"] < 1  # groups never mix
    other = json.loads(
        invoke("inspect", "G-MobileNet-0.25-4", "--family", "random", "--json").stdout
    )
    assert other["layers"][-2]["connected"] == 1


def test_inspect_takes_torchvisions_models():
    pytest.importorskip("torchvision")
    options = ["torchvision:squeezenet1_1", "--compression", 4, "--input", "3x64x64"]
    shown = invoke("inspect", *options, "--source", "features.0")
    assert shown.exit_code == 0, shown.output
    assert "ExpanderConv2d" in shown.stdout
    assert "sources: units of 'features.0' (64)" in shown.stdout


def test_version():
    from importlib.metadata import version

    assert invoke("--version").stdout == f"xnets {version('xnets')}\n"


@pytest.mark.parametrize("command", ["train", "eval", "inspect", "list"])
def test_every_help_has_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"\n    xnets {command} " in result.stdout
    assert "\\b" not in result.stdout
    assert "\b" not in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "digts"], "unknown recipe 'digts'; did you mean 'digits'? known: digits, "),
        (["train", "--family", "randon"], "unknown family 'randon'; did you mean 'random' or"),
        (["train", "--backend", "mask"], "unknown backend 'mask'; did you mean 'masked'?"),
        (["train", "--compression", "0.5"], "`compression` (=0.5) must be at least 1"),
        (["train", "--epochs", "0"], "`epochs` (=0) must be at least 1"),
        (["train", "--lr", "nan"], "`lr` (=nan) must be above 0"),
        (["train", "--seed", "-1"], "`seed` (=-1) must be at least 0"),
        (["train", "--batch-size", "99999"], "`batch_size` (=99999) must be between 1 and the"),
        (["train", "--block", "5", "5"], "no layer of model 'convnet' can be thinned so: `block`"),
        (["train", "--threads", "0"], "`threads` (=0) must be at least 1"),
        (["train", "--device", "tpu"], "`device` (='tpu') must be one of auto, cpu, cuda"),
        (["train", "--resume", "runs/digits/1"], "`resume` (='runs/digits/1') must be 'auto'; nam"),
        (["train", "--precision", "16"], "unknown precision '16'; "),
        (["train", "--accumulate", "3"], "`batch_size` (=64) must be a multiple of the number of "),
        (
            ["train", "imagenet-ResNet-34"],
            "imagenet needs --data-dir FOLDER, a folder with train/C",
        ),
        (
            ["train", "cifar10-VGG16", "--data-dir", "x"],
            "cifar10: missing its batch files; looked i",
        ),
        (["train", "tu-berlin"], "tu-berlin: get the sketches in PNG format from https://"),
        (["train", "--data-dir", "x"], "the digits come with scikit-learn"),
        (["train", "fashion-mnist", "--data-dir", "x"], "looked in x; get the data with `apt inst"),
        (["train", "--out", "full"], "the output folder full is not empty; name a new one"),
        (["train", "--out", "file"], "cannot write to the output folder file: File exists"),
        (["eval", "none"], "no such file or folder: none"),
        (["eval", "full"], "full is no finished run: it holds no checkpoint.ckpt"),
        (["eval", "file"], "file is not an xnets checkpoint"),
        (["inspect", "mobilnet"], "unknown model 'mobilnet'; did you mean 'mobilenet' or "),
        (["inspect", "mlp", "--set", "width"], "`set` (='width') must be NAME=VALUE, such as"),
        (["inspect", "mlp", "--set", "widht=4"], "unknown argument of model 'mlp': 'widht'; did"),
        (["inspect", "mlp", "--set", "width=x"], "`width` (='x') must be an integer of at least 1"),
        (["inspect", "mlp", "--set", "image_size=x"], "`image_size` (='x') must be an integer of"),
        (["inspect", "mlp", "--input", "3xx"], "`input` (='3xx') must be sizes without the batch"),
        (["inspect", "mlp", "--input", "1x9x9"], "model 'mlp' cannot take an input of 1x9x9, give"),
        (["inspect", "mlp", "--source", "11"], "unknown source '11'; did you mean '1'"),
        (["inspect", "mlp", "--norms", "no"], "unknown norms 'no'; known: mix, pass"),
        (["inspect", "mlp", "--compare", "random"], "`compare` needs `compression`: a dense net"),
        (["inspect", "mlp", "--compression", "2", "--compare", "a,b"], "unknown family 'a'; "),
        (["inspect", "mlp", "--compression", "0"], "`compression` (=0.0) must be at least 1"),
        (
            ["inspect", "mlp", "--plot", "no/x.png"],
            "--plot (=no/x.png): there is no folder",
        ),
        (["inspect", "mlp", "--plot", "x.what"], "--plot (=x.what) must end in one of .png, .svg"),
        (["inspect", "torchvision:resnet9"], "unknown model 'torchvision:resnet9'; did you mean"),
        (["list", "recipe"], "unknown list 'recipe'; did you mean 'recipes'?"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(args, message, here):
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("mine")
    (here / "file").write_text("mine")
    result = invoke(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("xnets: error: ")
    assert message in result.stderr
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("args", "message", "command"),
    [
        (["trian"], "no such command 'trian'", "xnets"),
        (["--verson"], "no such option: --verson", "xnets"),
        (["bench", "thoery"], "no such command 'thoery'", "xnets bench"),
        (["train", "--epoch", "3"], "no such option: --epoch", "xnets train"),
        (["export", "a", "--fromat", "onnx"], "no such option: --fromat", "xnets export"),
        (["bench", "theory", "--degree", "4"], "no such option: --degree", "xnets bench theory"),
        (["train", "--epochs", "many"], "invalid value for '--epochs'", "xnets train"),
        (["inspect", "mlp", "--seed", "1.5"], "invalid value for '--seed'", "xnets inspect"),
        (["graph", "random", "--num-in", "x"], "invalid value for '--num-in'", "xnets graph"),
        (["train", "--block", "5"], "'--block' requires 2 arguments", None),
        (["bench", "graphs", "--sizes"], "'--sizes' requires an argument", None),
        (["train", "digits", "more"], "got unexpected extra argument", "xnets train"),
        (["eval"], "missing argument", "xnets eval"),
        (["list"], "missing argument", "xnets list"),
        (["import-reference"], "missing argument", "xnets import-reference"),
    ],
)
def test_usage_errors_are_one_line_too(args, message, command):
    result = invoke(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("xnets: error: ")
    assert message in result.stderr
    assert command is None or result.stderr.endswith(f"; see `{command} --help`\n")


@pytest.mark.parametrize("args", [[], ["bench"]])
def test_a_group_alone_shows_its_help(args):
    result = invoke(*args)
    assert "Commands:\n" in result.output
    assert "xnets: error" not in result.output


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("XNETS_DEBUG", "1")
    result = invoke("train", "digts")
    assert isinstance(result.exception, ValueError)


def test_a_training_that_diverges_is_one_line_and_no_success(here):
    result = invoke("train", *FAST, "--lr", "1e30", "--out", "run")
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "xnets: error: training diverged in epoch 1 of 1: the loss is nan; lower"
    )


def test_a_run_is_resumed_and_a_finished_one_repeated(here):
    first = invoke("train", *FAST, "--out", "run", "--resume", "auto", "--json")
    again = invoke("train", *FAST, "--out", "run", "--resume", "auto", "--json")
    assert first.exit_code == again.exit_code == 0
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert first.stderr.startswith("nothing to resume in run; from the first epoch\ndigits: ")
    assert again.stderr == ""
    other = invoke("train", *FAST, "--out", "run", "--resume", "auto", "--seed", 1)
    assert other.exit_code == 2
    assert "the run in run was begun with another `seed` (=0, now 1); " in other.stderr


def test_a_run_to_resume_is_looked_for_where_runs_are(here):
    new = invoke("train", *FAST, "--resume", "auto")
    assert new.stderr.startswith("nothing to resume in runs/digits; from the first epoch\ndigits: ")
    assert "nothing to resume" not in invoke("train", *FAST).stderr


def test_bugs_are_not_hidden(monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("a bug of ours")

    monkeypatch.setattr("xnets._train_command.run_recipe", broken)
    result = invoke("train")
    assert isinstance(result.exception, ValueError)
    assert "xnets: error" not in result.stderr


def test_a_full_disk_is_one_line(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "result.json")

    monkeypatch.setattr("xnets._train_command.run_recipe", full)
    result = invoke("train")
    assert result.exit_code == 2
    assert result.stderr == "xnets: error: No space left on device: result.json\n"


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = [
        "jinja2", "lightning", "torchmetrics", "torchvision", "scipy", "matplotlib", "sklearn",
        "tensorboard", "triton",
    ]  # fmt: skip
    code = f"import sys, xnets.cli; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


# The background jobs of a shell ignore it, and so do their children.
HEARS_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from xnets.cli import main; main()"
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one child")
def test_ctrl_c_keeps_what_is_done(here):
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS_CTRL_C,
         "train", "--epochs", "500", "--batch-size", "256", "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    header, first = process.stderr.readline(), process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert header.endswith("run folder run\n")
    assert first.startswith("epoch   1/500")
    assert process.returncode == 130
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("xnets: interrupted after ")
    assert last.endswith("epochs; what is done is in run")
    assert "Traceback" not in err
    assert invoke("eval", "run").exit_code == 0
    assert (here / "run/metrics.csv").exists()
    assert not list((here / "run").glob(".*"))


def test_threads_reach_torch_and_are_given_back(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "xnets.train.loop.accuracy", lambda *_, **__: seen.append(torch.get_num_threads()) or 0.5
    )
    monkeypatch.setattr(
        "xnets.train._evaluate.accuracy", lambda *_, **__: seen.append(torch.get_num_threads()) or 0
    )
    trained = invoke("train", *FAST, "--threads", 2, "--out", "run", "--json")
    assert json.loads(trained.stdout)["recipe"]["threads"] == 2
    assert invoke("eval", "run").exit_code == 0  # as in training
    assert invoke("eval", "run", "--threads", 3).exit_code == 0
    assert seen == [2, 2, 3]
    assert torch.get_num_threads() == 1
    assert "`threads` (=0) must be at least 1" in invoke("eval", "run", "--threads", 0).stderr


def test_list_covers_every_recipe():
    assert invoke("list", "recipes").stdout.split() == list_recipes()
