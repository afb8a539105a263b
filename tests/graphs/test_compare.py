"""All families side by side."""

import pytest

from xnets.graphs import certify, compare_families, list_families, make_graph, second_over_bound


def test_every_family_is_in_the_table_or_missing_with_a_reason() -> None:
    comparison = compare_families(64, 64, degree=8, seed=3)
    assert set(comparison.certificates) | set(comparison.missing) == set(list_families())
    assert set(comparison.missing) == {"lps", "array_code", "complete"}  # margulis has 8 x 8
    for name, certificate in comparison.certificates.items():
        assert certificate == certify(make_graph(name, 64, 64, degree=8, seed=3))
    text = str(comparison)
    assert "grouped           512  0.0000       1.512" in text
    lines = text.splitlines()
    assert len(lines) == 2 + 11 + 3 + 3  # header, families, note, reasons
    assert lines[-1].startswith("complete: `degree` (=8) must be dense")


def test_dict() -> None:
    data = compare_families(16, 8, compression=4, families=["random", "lps"]).to_dict()
    assert [row["family"] for row in data["families"]] == ["random"]
    assert data["families"][0]["num_edges"] == 32
    assert [row["family"] for row in data["missing"]] == ["lps"]
    assert "nearest" in data["missing"][0]["reason"]


def test_options_go_to_the_families_that_take_them() -> None:
    comparison = compare_families(
        32, 32, degree=4, kind="cyclic", stage=1, families=["lift", "radix", "random"]
    )
    lift = make_graph("lift", 32, 32, degree=4, kind="cyclic")
    assert comparison.certificates["lift"].graph == lift
    radix = make_graph("radix", 32, 32, degree=4, stage=1)
    assert comparison.certificates["radix"].graph == radix
    with pytest.raises(TypeError, match="no family has an option `kin`; there are"):
        compare_families(32, 32, degree=4, kin="cyclic")


def test_what_no_family_can_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`degree` \(=99\) must be at most `num_in` \(=32\)"):
        compare_families(32, 32, degree=99)


def test_second_over_bound() -> None:
    graph = make_graph("grouped", 32, 32, degree=4)
    assert second_over_bound(graph, 4.0) == pytest.approx(4 / (2 * 3**0.5))
    assert second_over_bound(make_graph("random", 32, 8, degree=2), 2.0) is None  # fan-out 1/2
    assert second_over_bound(make_graph("grouped", 8, 8, degree=1), 1.0) is None  # bound 0
