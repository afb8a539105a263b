"""The report: runs found, Markdown, HTML, CSV, JSON, the command."""

import csv
import io
import json
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from xnets.cli import app
from xnets.reproduce import make_report, to_html, to_markdown
from xnets.reproduce._runs import network_key
from xnets.train import get_recipe, train


def write_run(folder, accuracy=0.5, **recipe):
    values = {
        "model": "X-DenseNet-BC-2-40-24", "dataset": "cifar10", "model_args": {},
        "compression": None, "family": None, "block": [1, 1], "epochs": 300, "seed": 0, **recipe,
    }  # fmt: skip
    folder.mkdir(parents=True)
    text = json.dumps({"test_accuracy": accuracy, "recipe": values})
    (folder / "result.json").write_text(text)


def line(report, label, dataset=None):
    lines = [line for _, section in report.sections for line in section]
    return next(x for x in lines if x.row.label == label and dataset in (None, x.row.dataset))


def test_finished_runs_are_found_and_averaged(tmp_path):
    write_run(tmp_path / "cifar" / "1", 0.94)
    write_run(
        tmp_path / "cifar" / "2", 0.95, seed=1,
        model="densenet_cifar", model_args={"depth": 40, "growth": 24}, compression=2.0,
        family="random",
    )  # fmt: skip
    write_run(tmp_path / "c", model_args={"thin_transitions": False})
    write_run(tmp_path / "d", dataset="cifar100")
    write_run(tmp_path / "e", compression=1.0)
    write_run(tmp_path / "f", family="grouped")
    write_run(tmp_path / "g", block=[4, 1])
    for name, text in (("h", "{"), ("i", "[]"), ("j", '{"recipe": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    write_run(tmp_path / "k", model="no-such-model")
    report = make_report(["table-4", "figure-4"], runs=tmp_path)
    ours = line(report, "XDNetBC-40-24")
    assert [run.folder for run in ours.runs] == [str(tmp_path / "cifar" / n) for n in "12"]
    assert ours.accuracy == pytest.approx(94.5)
    assert ours.deviation == pytest.approx(0.5**0.5)
    assert len(line(report, "X-2-40-24", "cifar10").runs) == 1
    dense = line(report, "40-24", "cifar10")
    assert [run.folder for run in dense.runs] == [str(tmp_path / "e")]
    assert dense.deviation is None
    assert line(report, "40-36", "cifar10").accuracy is None
    assert "94.50 ±0.71 (2 runs, 300 epochs)" in to_markdown(report)


def test_a_run_of_this_library_is_read(tmp_path, monkeypatch):
    recipe = get_recipe("digits", epochs=1, batch_size=512)
    train(recipe, out=tmp_path / "run", quiet=True)
    values = json.loads((tmp_path / "run" / "result.json").read_text())
    values["recipe"] |= {"model": "ResNet-34", "model_args": {}, "dataset": "imagenet"}
    values["recipe"]["compression"] = 1.0
    (tmp_path / "run" / "result.json").write_text(json.dumps(values))
    found = line(make_report(["table-1"], runs=tmp_path), "ResNet-34")
    assert found.accuracy == pytest.approx(100 * values["test_accuracy"])
    assert found.runs[0].epochs == 1


@pytest.mark.parametrize(
    ("ours", "same"),
    [
        (("X-AlexNet-1", {}, None, None), True),
        (("X-AlexNet-1", {"dropout": 0.5, "num_classes": 1000}, None, "random"), True),
        (("X-AlexNet-1", {"released": True}, None, None), False),
        (("alexnet", {"batch_norm": True}, {"classifier.4": 32, "classifier.1": 72}, None), True),
        (("alexnet", {}, {"classifier.1": 72, "classifier.4": 32}, None), False),
        (("X-AlexNet-2", {}, None, None), False),
        (("X-AlexNet-1", {}, 1, None), False),
    ],
)
def test_when_two_descriptions_are_one_network(ours, same):
    model, args, compression, family = ours
    key = network_key(model, "imagenet", args, compression, family)
    assert (key == network_key("X-AlexNet-1", "imagenet", {}, None, None)) is same


class Checker(HTMLParser):
    VOID = ("meta", "br", "path", "use", "rect")

    def __init__(self):
        super().__init__()
        self.open, self.text, self.counts, self.links = [], [], {}, []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    write_run(tmp_path / "<b>", 0.9412, model="X-VGG16-1")
    report = make_report(runs=tmp_path)
    page = Checker()
    page.feed(to_html(report))
    page.close()
    assert not page.open
    assert page.counts["table"] == 11
    assert page.counts["svg"] == 4
    assert all(link.startswith("#") for link in page.links)
    text = " ".join(" ".join(page.text).split())
    for piece in (
        "X-DenseNet-BC-2-161", "94.12 (1 run, 300 epochs)", "8.81G*", "another method",
        "xnets train imagenet-X-ResNet-2-34", "110 is printed, and nothing",
    ):  # fmt: skip
        assert piece in text


def test_markdown_tables_are_rectangular():
    rows = [row for row in to_markdown(make_report(runs="none")).splitlines() if row[:1] == "|"]
    assert len(rows) == 110 + 2 * 11
    widths = {row.replace(r"\|", "").count("|") for row in rows if "---" not in row}
    assert widths <= set(range(7, 13))
    assert not any("||" in row for row in rows)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["reproduce", *args])


def test_the_command_prints_and_writes(invoke, tmp_path):
    shown = invoke("table-2").stdout
    assert "X-VGG16-2" in shown
    assert "1.15M" in shown
    assert "xnets train cifar10-X-VGG16-2" in shown
    assert "ResNet" not in shown
    assert invoke("table-2", "--html", "a.html").exit_code == 0
    result = invoke("--csv", "a.csv", "--markdown", "a.md", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    from_json = [row for table in report["tables"] for row in table["rows"]]
    assert len(rows) == len(from_json) == 110
    for ours, theirs in zip(rows, from_json, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["label"] == theirs["label"]
        assert ours["counted_macs"] == str(theirs["counted_macs"] or "")
    assert {row["flops_per_mac"] for row in rows if row["table"] == "table-1"} == {"2"}
    assert (tmp_path / "a.md").read_text().startswith("# The paper's tables")
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")


def test_recounting_builds_the_networks(invoke, monkeypatch):
    monkeypatch.setattr("xnets.reproduce.report.recount", lambda row: (7, 9))
    report = json.loads(invoke("table-2", "--recount", "--json").stdout)
    assert {row["counted_params"] for row in report["tables"][0]["rows"]} == {7}


def test_a_users_error_is_one_line(invoke):
    result = invoke("table-9")
    assert result.exit_code == 2
    assert result.stderr.startswith("xnets: error: unknown table 'table-9'; did you mean")
    result = invoke("--runs", "nowhere")
    assert result.stderr == "xnets: error: --runs (=nowhere) must be a folder\n"
    result = invoke("--html", "no/such/folder.html")
    assert result.exit_code == 2
    assert result.stderr == "xnets: error: No such file or directory: no/such/folder.html\n"
