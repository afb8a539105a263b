"""Which networks a comparison has, and what makes two of them the same."""

from dataclasses import replace

import pytest

from xnets.compare import list_kinds, list_trials

FIVE = ["dense", "grouped", "shuffled", "expander", "biregular"]


def test_a_full_comparison(tiny):
    trials = list_trials(tiny, FIVE, [2, 4, 8, 16], seeds=3)
    assert len(trials) == 3 * (1 + 4 * 4)
    assert [t.recipe.seed for t in trials] == [0] * 17 + [1] * 17 + [2] * 17
    assert len({t.name for t in trials}) == len(trials)
    dense = [t for t in trials if t.kind == "dense"]
    assert [t.recipe.compression for t in dense] == [1, 1, 1]
    expander = next(t for t in trials if t.label == "expander 8")
    assert expander.recipe == replace(tiny, compression=8, family="random")


def test_seeds_start_at_the_recipes(tiny):
    trials = list_trials(replace(tiny, seed=5), ["dense"], [4], seeds=2)
    assert [t.recipe.seed for t in trials] == [5, 6]


def test_blocks_are_for_kinds_that_have_some(tiny):
    trials = list_trials(
        tiny, ["dense", "grouped", "expander"], [4], blocks=[(1, 1), (4, 1)], seeds=1
    )
    assert [t.label for t in trials] == [
        "dense", "grouped 4", "expander 4", "expander 4 block 4x1",
    ]  # fmt: skip
    assert trials[-1].recipe.block == (4, 1)


def test_what_is_asked_for_twice_is_one_trial(tiny):
    assert len(list_trials(tiny, ["expander", "expander"], [4, 4.0], seeds=1)) == 1


def test_the_name_is_the_configuration(tiny):
    def name(recipe, **options):
        return list_trials(recipe, ["expander"], [4], seeds=1, **options)[0].name

    same = name(tiny)
    assert same.startswith("expander-4-seed-0-")
    assert name(replace(tiny, threads=None)) == same  # does not change what is computed
    assert name(replace(tiny, compression=8, family="grouped")) == same  # replaced anyway
    others = [
        name(replace(tiny, epochs=2)),
        name(replace(tiny, lr=0.03)),
        name(replace(tiny, model_args={"width": 16})),
        name(tiny, data="/elsewhere"),
    ]
    assert len({same, *others}) == 5


def test_a_new_field_with_its_default_changes_no_name(tiny, monkeypatch):
    [trial] = list_trials(tiny, ["expander"], [4], seeds=1)
    before = trial.name
    to_dict = type(tiny).to_dict
    monkeypatch.setattr(
        type(tiny), "to_dict", lambda self: {k: v for k, v in to_dict(self).items() if k != "fill"}
    )  # as a version before `fill` wrote it
    assert trial.name == before


def test_kinds_are_families_and_two_more():
    assert {*FIVE, "random", "butterfly"} <= set(list_kinds())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ["expandr"]}, r"unknown kind 'expandr'; did you mean 'expander'\?"),
        ({"kinds": []}, "`kinds` must name at least one"),
        ({"compressions": [1]}, r"`compression` \(=1\) must be above 1; the dense network is"),
        ({"compressions": [float("nan")]}, r"`compression` \(=nan\) must be above 1"),
        ({"compressions": [float("inf")]}, r"`compression` \(=inf\) must be at least 1 and finite"),
        ({"blocks": [(0, 1)]}, "block"),
        ({"seeds": 0}, r"`seeds` \(=0\) must be an integer of at least 1"),
        ({"seeds": True}, r"`seeds` \(=True\)"),
    ],
)
def test_bad_arguments(tiny, change, message):
    arguments = {"kinds": ["expander"], "compressions": [4], "seeds": 1, **change}
    with pytest.raises(ValueError, match=message):
        list_trials(tiny, arguments.pop("kinds"), arguments.pop("compressions"), **arguments)
