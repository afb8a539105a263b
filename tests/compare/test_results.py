"""The page on the evidence says what the committed results say, and those are of our networks."""

import csv
import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

from xnets.compare import difference, list_trials
from xnets.count import count
from xnets.train import get_recipe
from xnets.train._change import change_recipe
from xnets.train._checkpoint import build_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "evidence.md").read_text()
FILES = sorted((ROOT / "results").glob("compare-*.csv"))
CONDITIONS = re.compile(r"compare-(.*?)(?:-blocks)?(?:_width-(\d+))?_epochs-(\d+)_")
SHAPES = {"digits": (1, 8), "fashion-mnist": (1, 28), "fashion-mnist-alike": (4, 28)}


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def network(row):
    return row["kind"], float(row["compression"]), (int(row["block_out"]), int(row["block_in"]))


def label(kind, compression, block):
    words = [kind, f"{compression:g}"] if kind != "dense" else [kind]
    return " ".join([*words, f"block {block[0]}x{block[1]}"] if block != (1, 1) else words)


def accuracies(path):
    found = {}
    for row in rows(path):
        found.setdefault(network(row), []).append(float(row["test_accuracy"]))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_tables_are_the_files(path):
    [section] = [part for part in PAGE.split("\n## ") if f"(../results/{path.name})" in part]
    shown = dict(re.findall(r"^\| ([a-z][^|]*) \| (.*) \|$", section, re.MULTILINE))
    shown.pop("network", None)
    measured = accuracies(path)
    assert set(shown) == {label(*key) for key in measured}
    for (kind, compression, block), values in measured.items():
        accuracy, seeds, _macs, _params, found = shown[label(kind, compression, block)].split(" | ")
        spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
        assert accuracy == f"{100 * mean(values):.2f}{spread}"
        assert int(seeds) == len(values)
        other = ("grouped" if block == (1, 1) else kind, compression, (1, 1))
        if kind == "dense" or other not in measured or other == (kind, compression, block):
            assert found == "-"
            continue
        by = difference(values, measured[other])
        if by.low is None:
            assert found == f"{100 * by.mean:+.2f}"
        else:
            assert found == f"{100 * by.mean:+.2f} [{100 * by.low:+.2f}, {100 * by.high:+.2f}]"


def test_every_interval_on_the_page_is_of_two_networks_in_a_file():
    known = set()
    for path in FILES:
        for ours, theirs in permutations(accuracies(path).values(), 2):
            by = difference(ours, theirs)
            if by.low is not None:
                known.add(f"{100 * by.mean:+.2f} [{100 * by.low:+.2f}, {100 * by.high:+.2f}]")
    stated = re.findall(r"[+-][\d.]+ \[.*?\]", " ".join(PAGE.split()))
    assert len(stated) > 30
    assert not set(stated) - known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_name_says_how_many_seeds_there_are(path):
    numbers = sorted({len(values) for values in accuracies(path).values()})
    named = f"{numbers[0]}-to-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
    assert f"_seeds-{named}_" in path.name
    for key in accuracies(path):
        seeds = [int(row["seed"]) for row in rows(path) if network(row) == key]
        assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sizes_and_digests_are_reproduced(path):
    recipe_name, width, epochs = CONDITIONS.match(path.name).groups()
    recipe = get_recipe(recipe_name, epochs=int(epochs))
    if width is not None:
        recipe = change_recipe(recipe, [f"width={width}"])
    channels, size = SHAPES[recipe.dataset]
    for row in rows(path):
        kind, compression, block = network(row)
        changed = replace(recipe, seed=int(row["seed"]))
        [trial] = list_trials(changed, [kind], [max(compression, 2)], blocks=[block], seeds=1)
        assert trial.name == row["trial"]
        if row["seed"] == "0":
            net = build_model(trial.recipe, channels, 8 if channels == 4 else 10)
            total = count(net, torch.zeros(1, channels, size, size))
            assert (total.macs, total.params) == (int(row["macs"]), int(row["params"]))


def test_the_pages_name_files_that_there_are():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {n for page in pages for n in re.findall(r"results/[\w.@-]+\.csv", page.read_text())}
    assert {f"results/{path.name}" for path in FILES} <= named
    for name in named:
        assert (ROOT / name).is_file(), name
