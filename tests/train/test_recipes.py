"""Recipes: names, overrides, checks, the way to plain values and back."""

import dataclasses
import json

import pytest

from xnets.train import Recipe, get_recipe, list_recipes, register_recipe


def test_every_recipe_can_be_made_and_has_its_name():
    names = list_recipes()
    assert len(set(names)) == len(names)
    for name in names:
        assert get_recipe(name).name == name


def test_small_recipes_use_expander_networks():
    for name in ("digits", "fashion-mnist"):
        recipe = get_recipe(name)
        assert recipe.compression == 4
        assert recipe.epochs <= 10 or name == "digits"


def test_overrides_change_only_what_is_given():
    recipe = get_recipe("digits")
    changed = get_recipe("digits", epochs=3, block=(4, 1), lr=None)
    assert (changed.epochs, changed.block, changed.lr) == (3, (4, 1), recipe.lr)
    assert dataclasses.replace(changed, epochs=recipe.epochs, block=(1, 1)) == recipe


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_recipe("digits").epochs = 3


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_plain_values_and_back(name):
    recipe = get_recipe(name, block=(2, 4), compression=2)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_unknown_recipe_suggests_the_closest():
    with pytest.raises(ValueError, match=r"unknown recipe 'fashion'; did you mean 'fashion-mnist'"):
        get_recipe("fashion")
    with pytest.raises(ValueError, match=r"unknown recipe field 'epoch'; did you mean 'epochs'"):
        get_recipe("digits", epoch=1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, r"`epochs` \(=0\) must be at least 1"),
        ("epochs", 1.5, r"`epochs` \(=1.5\) must be an integer"),
        ("batch_size", -1, r"`batch_size` \(=-1\) must be at least 1"),
        ("seed", -1, r"`seed` \(=-1\) must be at least 0"),
        ("seed", True, r"`seed` \(=True\) must be an integer"),
        ("lr", 0.0, r"`lr` \(=0.0\) must be above 0 and finite"),
        ("lr", float("nan"), r"`lr` \(=nan\) must be above 0 and finite"),
        ("lr", "fast", r"`lr` \(='fast'\) must be a number"),
        ("compression", 0.5, r"`compression` \(=0.5\) must be at least 1 and finite"),
        ("compression", float("inf"), r"`compression` \(=inf\) must be at least 1 and finite"),
        ("weight_decay", -0.1, r"`weight_decay` \(=-0.1\) must be at least 0"),
        ("warmup", 1, r"`warmup` \(=1\) must be between 0 and 1"),
        ("label_smoothing", 1, r"`label_smoothing` \(=1\) must be at least 0 and below 1"),
        ("threads", 0, r"`threads` \(=0\) must be at least 1"),
        ("shift", -1, r"`shift` \(=-1\) must be at least 0"),
        ("accumulate", 0, r"`accumulate` \(=0\) must be at least 1"),
        ("precision", "16", r"unknown precision '16'; .*known: 32-true, bf16-mixed, 16-mixed"),
        ("optimizer", "adam", r"unknown optimizer 'adam'; did you mean 'adamw'"),
        ("schedule", "steps", r"unknown schedule 'steps'; did you mean 'step'"),
        ("fill", "zero", r"unknown fill 'zero'; did you mean 'zeros'"),
        ("milestones", 0.5, r"`milestones` \(=0.5\) must be a tuple"),
        (
            "milestones",
            (0.5, 0.2),
            r"`milestones` \(=\(0.5, 0.2\)\) must be rising numbers between",
        ),
        ("milestones", (150, 225), r"must be rising numbers between 0 and 1"),
        ("gamma", 0, r"`gamma` \(=0\) must be above 0 and at most 1"),
        ("min_lr", 1, r"`min_lr` \(=1\) must be from 0 to `lr` \(=0.01\)"),
        ("momentum", 1, r"`momentum` \(=1\) must be at least 0 and below 1"),
        ("nesterov", True, r"`nesterov` \(=True\) needs `optimizer` 'sgd'"),
        ("ema", 1, r"`ema` \(=1\) must be between 0 and 1"),
        ("image_size", 8, r"`image_size` \(=8\) must be left out: the images of digits have"),
        ("flip", 1, r"`flip` \(=1\) must be True or False"),
        ("model_args", {"widht": 8}, r"unknown argument of model 'convnet': 'widht'; did you mean"),
        ("model_args", {"num_classes": 8}, r"`num_classes` \(=8\) of the model must be left to"),
        ("model_args", 8, r"`model_args` \(=8\) must be a mapping"),
        ("block", 4, r"`block` \(=4\) must be a pair of integers"),
        ("block", (4, 0), r"`block` \(=0\) must be at least 1"),
        ("dataset", "digit", r"unknown dataset 'digit'; did you mean 'digits'"),
        ("model", "convnets", r"unknown model 'convnets'; did you mean 'convnet'"),
        ("family", "Randm", r"unknown family 'Randm'; did you mean 'random'"),
        ("backend", "gahter", r"unknown backend 'gahter'; did you mean 'gather'"),
    ],
)
def test_bad_values_are_refused_before_anything_runs(field, value, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("digits", **{field: value})


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match=r"a recipe named 'digits' is registered already"):
        register_recipe(lambda: get_recipe("digits"))


def test_a_seed_too_large_for_torch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`seed` \(=9+\) must be below 2\^63"):
        get_recipe("digits", seed=99999999999999999999999)


def test_more_threads_than_openmp_survives_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`threads` \(=100000\) must be at most 1024"):
        get_recipe("digits", threads=100_000)


def test_another_model_brings_its_own_arguments_and_compression() -> None:
    assert get_recipe("digits", model="mlp").model_args == {}
    assert get_recipe("digits", model="mlp").compression == 4
    named = get_recipe("digits", model="X-DenseNet-BC-2-40-24")
    assert (named.compression, named.family) == (None, None)
    assert get_recipe("digits", model="X-DenseNet-BC-2-40-24", compression=3).compression == 3
