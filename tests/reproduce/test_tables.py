"""The published rows as data."""

import re

import pytest
from typer.main import get_command

from xnets.cli import app
from xnets.models import parse_name
from xnets.reproduce import TABLES, get_table, list_tables
from xnets.reproduce._counts import COUNTS
from xnets.reproduce._recount import recount
from xnets.reproduce._rows import settings
from xnets.reproduce._runs import network_key
from xnets.reproduce.report import TOLERANCE, make_report

ROWS = [(table, row) for table in TABLES for row in table.rows]
NETWORKS = {(row.model, row.dataset, settings(row.model_args)): row for _, row in ROWS if row.model}
# The others take more than a minute together, and tests/models counts one of each family.
FAST = {"X-VGG16-1", "X-VGG16-2", "X-AlexNet-1", "X-AlexNet-2", "G-MobileNet-0.5-8"}


@pytest.mark.parametrize(
    ("key", "row"),
    [
        pytest.param(key, row, marks=[] if key[0] in FAST else pytest.mark.slow)
        for key, row in NETWORKS.items()
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_stored_counts_are_those_of_the_networks_built(key, row):
    assert recount(row) == COUNTS[key]


def test_no_count_is_left_over():
    assert set(COUNTS) == set(NETWORKS)


def test_the_tables_of_the_paper_are_there():
    sizes = {table.key: len(table.rows) for table in TABLES}
    assert sizes == {
        "table-1": 14, "table-2": 5, "table-3": 8, "table-4": 7, "table-5": 9, "page-imagenet": 4,
        "page-cifar": 8, "figure-3": 9, "figure-4": 17, "figure-5": 6, "figure-6": 23,
    }  # fmt: skip
    assert list_tables() == list(sizes)
    with pytest.raises(ValueError, match=r"unknown table 'table-6'; did you mean 'table-5'"):
        get_table("table-6")


@pytest.mark.parametrize(
    ("key", "label", "printed"),
    [
        ("table-1", "X-ResNet-2-50", (None, 40e8, 72.85)),
        ("table-1", "DenseNet-BC-161", (None, 110e8, 76.3)),
        ("table-2", "X-VGG16-1", (1.65e6, None, 93.4)),
        ("table-3", "X-AlexNet-2", (9.7e6, None, 56.2)),
        ("table-3", "Han et al. [31]", (6.7e6, None, 57.2)),
        ("table-4", "XDNetBC-40-60", (None, None, 95.75)),
        ("table-5", "G16", (None, None, 39.03)),
        ("page-imagenet", "X-Mobilenet0.5-16", (None, 29.5e6, 44.7)),
        ("page-cifar", "X-DenseNet-BC-40-36-2", (0.75e6, 3.24e8, 94.98)),
        ("figure-3", "X8", (None, 37.6e6, 49.23)),
        ("figure-6", "X-30", (None, 0.6e9, None)),
    ],
)
def test_what_is_printed(key, label, printed):
    row = next(row for row in get_table(key).rows if row.label == label)
    assert (row.params, row.flops, row.accuracy) == printed


def test_where_the_count_differs_from_the_print_a_reason_is_given():
    differing = []
    for _, lines in make_report(runs="none").sections:
        for line in lines:
            offs = [off for off in (line.params_off, line.flops_off) if off is not None]
            if any(abs(off) > TOLERANCE for off in offs):
                differing.append(line.row.label)
                assert line.row.reason, line.row
    assert "DenseNet-BC-161" in differing
    assert "X-Mobilenet0.5-8" not in differing
    assert len(differing) == 26


def test_every_network_has_a_name_of_the_paper_and_a_command():
    for _, row in ROWS:
        if row.model is None:
            assert row.command is None
            assert row.counted is None
            continue
        assert parse_name(row.model)
        assert re.fullmatch(
            rf"xnets train {row.dataset}-{re.escape(row.model)}( --set [a-z_]+=\w+)*"
            rf"{' --data-dir ~/imagenet' if row.dataset == 'imagenet' else ''}",
            row.command,
        )
    (variant,) = {row.command for _, row in ROWS if row.model == "X-DenseNet-BC-16-70-60"}
    assert variant.endswith(" --set thin_transitions=False")


def test_every_command_trains_the_network_of_its_row(monkeypatch):
    trained = []

    class Read(Exception):  # noqa: N818
        """The command line was understood."""

    def train(recipe, **options):
        trained.append((recipe, options))
        raise Read

    monkeypatch.setattr("xnets._train_command.run_recipe", train)
    xnets = get_command(app)
    rows = {row.command: row for _, row in ROWS if row.model is not None}
    for command, row in rows.items():
        name, *args = command.split()
        assert name == "xnets"
        with pytest.raises(Read):
            xnets.main(args, standalone_mode=False)
        recipe, options = trained.pop()
        assert (options["data_dir"] is not None) == (row.dataset == "imagenet")
        assert recipe.name == f"{row.dataset}-{row.model}"
        assert network_key(
            recipe.model, recipe.dataset, recipe.model_args, recipe.compression, recipe.family
        ) == network_key(row.model, row.dataset, row.model_args, None, None)
    assert sum("--set" in command for command in rows) == 9
