"""Parameters and MACs of every network of the paper, against counts made without this library.

counts_of_the_paper.csv was counted from the released code and logs, with the paper's D = in // C.
"""

import ast
import csv
from functools import cache
from pathlib import Path

import pytest
import torch

import xnets
from xnets.models import create_model

with (Path(__file__).parent / "counts_of_the_paper.csv").open(newline="") as file:
    ROWS = list(csv.DictReader(file))
FAST = {
    "MobileNet-0.5", "X-MobileNet-0.5-8", "Group-MobileNet-0.5-8", "ResNet-34", "X-ResNet-2-50",
    "X-DenseNet-BC-2-121", "VGG16", "X-VGG16-2", "AlexNet", "X-AlexNet-1", "X-DenseNet-BC-40-24-2",
}  # fmt: skip


def arguments(text):
    pairs = (pair.split("=") for pair in text.split())
    return {name: ast.literal_eval(value) for name, value in pairs}


@cache
def counted(name, size=224, **options):
    with torch.device("meta"):
        model = create_model(name, **options).eval()
        return xnets.count(model, torch.empty(1, 3, size, size))


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[] if row["model"] in FAST else pytest.mark.slow) for row in ROWS],
    ids=lambda row: f"{row['model']} {row['arguments']}".strip(),
)
def test_a_network_has_the_size_counted(row):
    count = counted(row["model"], int(row["image_size"]), **arguments(row["arguments"]))
    assert f"{count.params / 1e6:.4f}" == f"{float(row['params_M']):.4f}"
    assert f"{count.macs / 1e6:.2f}" == f"{float(row['macs_M']):.2f}"


@pytest.mark.parametrize(
    ("name", "printed"),
    [("X-VGG16-1", 1.65e6), ("X-VGG16-2", 1.15e6), ("X-AlexNet-1", 7.6e6), ("X-AlexNet-2", 9.7e6)],
)
def test_where_no_configuration_was_published_the_default_has_the_printed_size(name, printed):
    count = counted(name, 32 if "VGG" in name else 224)
    assert count.params == pytest.approx(printed, rel=0.005)


@pytest.mark.parametrize("family", ["grouped", "shuffled", "biregular", "random_fan_out"])
@pytest.mark.parametrize(
    ("name", "size"),
    [("X-ResNet-2-18", 224), pytest.param("X-DenseNet-BC-2-40-24", 32, marks=pytest.mark.slow)],
)
def test_the_family_is_one_argument_and_the_size_the_same(name, size, family):
    ours, papers = counted(name, size, family=family), counted(name, size)
    assert ours.params == papers.params
    assert ours.macs == papers.macs
