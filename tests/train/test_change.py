"""`--set`: what is changed, and what is refused."""

from dataclasses import replace

import pytest

from xnets.train import get_recipe
from xnets.train._change import change_recipe


def test_fields_of_the_recipe_and_arguments_of_its_network():
    recipe = get_recipe("digits")
    changed = change_recipe(
        recipe,
        [
            "optimizer=sgd",
            "nesterov=true",
            "schedule=step",
            "milestones=0.5,0.75",
            "ema=0.9",
            "weight-decay=5e-4",
            "width=16",
            "stem_stride=2",
        ],
    )
    assert changed == replace(
        recipe,
        optimizer="sgd",
        nesterov=True,
        schedule="step",
        milestones=(0.5, 0.75),
        ema=0.9,
        weight_decay=5e-4,
        model_args={"width": 16, "stages": 2, "depth": 2, "stem_stride": 2},
    )
    assert change_recipe(changed, ["ema=none"]).ema is None
    assert change_recipe(recipe, []) == recipe


def test_the_arguments_are_those_of_the_network_that_is_trained():
    recipe = get_recipe("cifar10-X-DenseNet-BC-2-40-24", model="X-MobileNet-0.5-8")
    assert change_recipe(recipe, ["thin_from=4"]).model_args == {"thin_from": 4}
    with pytest.raises(ValueError, match="unknown setting 'thin_transitions'"):
        change_recipe(recipe, ["thin_transitions=False"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["widht=3"], "unknown setting 'widht'; did you mean 'width'"),
        (["momentm=0.8"], "unknown setting 'momentm'; did you mean 'momentum'"),
        (["num_classes=3"], "unknown setting 'num_classes'"),
        (["name=mine"], "unknown setting 'name'"),
        (["model_args={}"], "unknown setting 'model_args'"),
        (["width"], r"`set` \(='width'\) must be NAME=VALUE, such as width=0.25"),
        (["width="], "must be NAME=VALUE"),
        (["=3"], "must be NAME=VALUE"),
        (["width=8", "width=16"], r"`set` \(='width=16'\) sets 'width' a second time"),
        (["epochs=3"], r"`set` \(=epochs=3\): `epochs` has an option, give --epochs"),
        (["weight_decay=much"], r"`weight_decay` \(='much'\) must be a number"),
        (["shift=1.5"], r"`shift` \(=1.5\) must be an integer"),
        (["flip=no"], r"`flip` \(='no'\) must be True or False"),
        (["milestones=0.5"], r"`milestones` \(=0.5\) must be a tuple of numbers"),
        (["optimizer=sdg"], "unknown optimizer 'sdg'; did you mean 'sgd'"),
    ],
)
def test_what_is_wrong_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        change_recipe(get_recipe("digits"), settings, {"epochs": "--epochs"})


def test_a_switch_of_a_network_is_true_or_false_before_any_data_is_looked_for():
    recipe = get_recipe("cifar10-X-DenseNet-BC-2-40-24")
    changed = change_recipe(recipe, ["thin_transitions=false"])
    assert changed.model_args == {"thin_transitions": False}
    with pytest.raises(ValueError, match=r"`thin_transitions` \(='maybe'\) must be True or False"):
        change_recipe(recipe, ["thin_transitions=maybe"])
