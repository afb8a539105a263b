"""The paper's recipes against the options that the published training logs record."""

import dataclasses

import pytest

from xnets.models import create_model
from xnets.models._names import PAPER_NAMES
from xnets.train import get_recipe, list_recipes, train

# Data set, network, and of its log: epochs, batch, learning rate, weight decay, Nesterov.
LOGS = [
    ("cifar100", "DenseNet-BC-100-12", 300, 64, 0.1, 1e-4, True),
    ("cifar100", "X-DenseNet-BC-30-40-200", 300, 64, 0.1, 1e-4, True),
    ("cifar100", "X-DenseNet-BC-16-58-60", 300, 64, 0.1, 1e-4, True),
    ("cifar10", "X-DenseNet-BC-2-40-60", 300, 64, 0.1, 1e-4, True),
    ("cifar10", "DenseNet-BC-40-48", 300, 64, 0.1, 1e-4, True),
    ("imagenet", "X-DenseNet-BC-2-161", 90, 128, 0.1, 1e-4, True),
    ("imagenet", "ResNet-34", 90, 128, 0.1, 1e-4, True),
    ("imagenet", "X-ResNet-2-50", 90, 128, 0.1, 1e-4, True),
    ("imagenet", "MobileNet-0.5", 150, 256, 0.1, 4e-5, False),
    ("cifar10", "VGG16", 300, 128, 0.05, 5e-4, True),
    ("cifar10", "X-VGG16-2", 300, 128, 0.05, 5e-4, True),
]


@pytest.mark.parametrize(("dataset", "model", "epochs", "batch", "lr", "decay", "nesterov"), LOGS)
def test_recipes_say_what_the_logs_say(dataset, model, epochs, batch, lr, decay, nesterov):
    recipe = get_recipe(f"{dataset}-{model}")
    assert (recipe.dataset, recipe.model) == (dataset, model)
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (epochs, batch, lr)
    assert (recipe.weight_decay, recipe.decay_all, recipe.nesterov) == (decay, True, nesterov)
    assert (recipe.optimizer, recipe.momentum, recipe.schedule) == ("sgd", 0.9, "step")
    assert (recipe.flip, recipe.shift, recipe.fill) == (
        True,
        0 if dataset == "imagenet" else 4,
        "zeros",
    )
    assert (recipe.ema, recipe.label_smoothing, recipe.precision) == (None, 0, "32-true")


def test_every_row_of_the_paper_has_a_recipe():
    trained = {name.split("-", 1)[1] for name in list_recipes() if "-" in name}
    # Known to the registry, but in no table or figure.
    extra = {f"{x}ResNet-{c}{depth}" for depth in (18, 152) for x, c in (("", ""), ("X-", "2-"))}
    assert set(PAPER_NAMES) - extra <= trained


def test_the_name_decides_how_sparse_the_network_is():
    recipe = get_recipe("cifar10-X-DenseNet-BC-2-40-24")
    dense = get_recipe("cifar10-DenseNet-BC-40-24")
    assert (recipe.compression, recipe.family) == (None, None)
    ours, theirs = (
        sum(p.numel() for p in create_model(r.model).parameters()) for r in (recipe, dense)
    )
    assert 1.7 < theirs / ours < 2.1


@pytest.mark.parametrize("name", ["cifar10-X-DenseNet-BC-2-40-24", "cifar10-modern"])
def test_a_recipe_trains_on_other_data_too(name, tmp_path):
    recipe = dataclasses.replace(
        get_recipe(name), dataset="digits", model="mlp", compression=2, epochs=1, batch_size=256
    )
    result = train(recipe, out=tmp_path, quiet=True)
    assert result.test_accuracy > 0.1
