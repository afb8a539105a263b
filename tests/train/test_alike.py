"""The task that needs connected channels: its labels, and which networks can see them."""

import runpy
from pathlib import Path

import pytest
import torch

from xnets import create_model
from xnets.train import get_recipe, load_dataset

_shared = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
fashion_files = _shared["fashion_files"]


@pytest.fixture
def pair(tmp_path):
    for name, data in fashion_files().items():
        (tmp_path / name).write_bytes(data)
    names = ("fashion-mnist", "fashion-mnist-alike")
    return [load_dataset(name, tmp_path) for name in names]


def test_quadruples(pair):
    single, alike = pair
    assert repr(alike) == (
        "Dataset(fashion-mnist-alike: 60 train, 20 test, 8 classes, 4 x 28 x 28)"
    )
    for images, labels, source, classes in (
        (alike.train_images, alike.train_labels, single.train_images, single.train_labels),
        (alike.test_images, alike.test_labels, single.test_images, single.test_labels),
    ):
        known = {image.numpy().tobytes(): int(label) for image, label in zip(source, classes)}  # noqa: B905
        for channel in range(4):  # each image once in each channel
            stands = {image.numpy().tobytes() for image in images[:, channel]}
            assert stands == set(known)
        for image, label in zip(images, labels.tolist(), strict=True):
            odd = [known[part.numpy().tobytes()] % 2 for part in image]
            assert [bool(label >> bit & 1) for bit in range(3)] == [o == odd[0] for o in odd[1:]]


def test_the_draw_never_changes(pair):
    assert pair[1].test_labels[:10].tolist() == [5, 6, 7, 1, 5, 3, 0, 0, 4, 3]


@torch.no_grad()
def interaction(kind, compression, block=(1, 1), **args):
    """How much the logits depend on two images together, relative to how much on each alone."""
    recipe = get_recipe("fashion-mnist-alike")
    net = create_model(
        recipe.model, in_channels=4, num_classes=8, family=kind, compression=compression,
        block=block, **{**recipe.model_args, **args},
    ).double().eval()  # fmt: skip
    one, two = torch.randn(2, 4, 28, 28, dtype=torch.float64)
    worst = 0.0
    for a in range(4):
        for b in range(a):
            corners = one.repeat(4, 1, 1, 1)
            corners[[1, 3], a] = two[a]
            corners[[2, 3], b] = two[b]
            logits = net(corners)
            joint = logits[3] - logits[1] - logits[2] + logits[0]
            worst = max(worst, float((joint.abs() / (logits[3] - logits[0]).abs()).max()))
    return worst


@pytest.mark.parametrize("compression", [4, 8, 16])
def test_a_grouped_network_only_adds_images_up(compression):
    assert interaction("grouped", compression) < 1e-9


def test_blocks_so_large_that_each_reads_one_only_add_images_up():
    assert interaction("random", 4, (8, 8)) < 1e-9
    assert interaction("random", 4, (4, 1)) > 0.1


@pytest.mark.parametrize("kind", ["random", "biregular"])
def test_in_a_wider_network_such_blocks_join_them(kind):
    assert interaction(kind, 4, (8, 8), width=64) > 0.1


@pytest.mark.parametrize("kind", ["random", "biregular", "shuffled"])
def test_at_degree_1_no_graph_joins_anything(kind):
    assert interaction(kind, 32) < 1e-9


@pytest.mark.parametrize("kind", ["random", "biregular", "shuffled"])
def test_a_connected_network_joins_them(kind):
    assert interaction(kind, 4) > 0.1
