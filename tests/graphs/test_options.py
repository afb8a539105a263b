"""Options of single families through make_graph."""

import pytest

from xnets.graphs import list_families, list_options, make_graph, rewire


def test_every_option_is_listed() -> None:
    options = {family: list_options(family) for family in list_families()}
    assert {family: names for family, names in options.items() if names} == {
        "lift": ["kind"],
        "ramanujan": ["max_draws"],
        "butterfly": ["stage"],
        "radix": ["stage", "radices"],
    }
    with pytest.raises(ValueError, match="unknown family 'lifts'; did you mean 'lift'"):
        list_options("lifts")


def test_options_reach_the_family() -> None:
    kinds = [make_graph("lift", 32, 32, degree=8, kind=kind) for kind in ("random", "cyclic")]
    assert kinds[0] == make_graph("lift", 32, 32, degree=8)
    assert kinds[0] != kinds[1]
    assert make_graph("radix", 6, 6, radices=(2, 3), stage=1).degree == 3


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("random", {"kind": "cyclic"}, "family 'random' has no option `kind`; it has no options"),
        ("lift", {"kinds": "cyclic"}, "'lift' has no option `kinds`; its options are kind"),
        ("radix", {"max_draws": 1}, "no option `max_draws`; its options are stage, radices"),
        ("butterfly", {"self": 1}, "no option `self`"),
    ],
)
def test_unknown_options(family: str, options: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make_graph(family, 16, 16, degree=4, **options)


PINNED = {
    ("lift", (64, 32), (("kind", "random"),)): "164b4499ea8871ff",
    ("lift", (64, 32), (("kind", "cyclic"),)): "e2b997c8c9348b60",
    ("ramanujan", (64, 32), ()): "f7da3575b57c0f94",
    ("butterfly", (64, 32), ()): "ed934bd9dd77f123",
    ("radix", (64, 32), ()): "ed934bd9dd77f123",
    ("margulis", (64, 64), ()): "a184978c09c27d65",
    ("lps", (660, 660), ()): "66aa93144d164443",
    ("array_code", (56, 49), ()): "f99e3734497644dd",
}


@pytest.mark.parametrize(("family", "sizes", "options"), PINNED)
def test_a_seed_names_the_same_graph_everywhere(
    family: str, sizes: tuple[int, int], options: tuple[tuple[str, str], ...]
) -> None:
    graph = make_graph(family, *sizes, degree=8, seed=2018, **dict(options))
    assert graph.fingerprint()[:16] == PINNED[family, sizes, options]


def test_rewiring_is_pinned_too() -> None:
    graph = make_graph("random", 64, 32, degree=8, seed=2018)
    assert rewire(graph, switches=100, seed=2018).graph.fingerprint()[:16] == "3d78faaeeca30f5e"
