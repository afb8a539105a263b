"""Certificates: every field of known graphs, JSON, text and picture."""

import json
import math

import numpy as np
import pytest

from xnets.graphs import (
    BipartiteGraph,
    Certificate,
    certify,
    make_graph,
    ramanujan_bound,
    random_graph,
)
from xnets.graphs._picture import density_image
from xnets.graphs._spectral import Leading


def test_a_known_graph() -> None:
    certificate = certify(make_graph("array_code", 35, 49))
    assert (certificate.num_in, certificate.num_out, certificate.num_edges) == (35, 49, 245)
    assert (certificate.fan_in.low, certificate.fan_in.mean, certificate.fan_in.high) == (5, 5, 5)
    assert (certificate.fan_out.low, certificate.fan_out.high) == (7, 7)
    assert certificate.unused_inputs == certificate.dead_outputs == 0
    assert certificate.components == 1
    assert certificate.girth == (6, 6)
    assert certificate.diameter == (4, 4)
    assert certificate.first == pytest.approx(35**0.5)
    assert certificate.second == pytest.approx(7**0.5)
    assert certificate.gap == pytest.approx(1 - 5**-0.5)
    assert certificate.bound == pytest.approx(2 + 6**0.5)
    assert certificate.is_ramanujan is True
    assert certificate.method == "dense"
    assert certificate.mixing.constant == pytest.approx(7**0.5)
    assert certificate.expansion[0].exact == 5
    assert certificate.fingerprint == certificate.graph.fingerprint()


def test_unused_and_dead() -> None:
    graph = BipartiteGraph.from_edges([(0, 0), (1, 0), (1, 2)], num_in=4, num_out=3)
    graph = BipartiteGraph(8, 9, graph.indptr, graph.indices, (3, 2))
    certificate = certify(graph)
    assert certificate.unused_inputs == 4
    assert certificate.dead_outputs == 3
    assert certificate.components == 8
    assert certificate.diameter is None
    assert certificate.bound is None
    assert certificate.is_ramanujan is certificate.base_is_ramanujan is None
    assert "diameter         infinite" in str(certificate)
    assert "none: defined only if all fan-ins are equal" in str(certificate)


@pytest.mark.parametrize(
    ("graph", "is_ramanujan", "verdict"),
    [
        (make_graph("complete", 6, 4), True, "3.96812, met"),
        (make_graph("complete", 1, 1), True, "0, met"),
        (make_graph("grouped", 8, 8, degree=4), False, "the graph is not connected"),
        (BipartiteGraph.from_mask(np.eye(2)), False, "0, the graph is not connected"),
        # Two rings meet the bound 2 of their degrees, but are no expander.
        (BipartiteGraph.from_mask(np.kron(np.eye(2), 1 - np.eye(3))), False, "2, the graph is not"),
        (make_graph("radix", 64, 64, degree=8, stage=0), False, "5.2915, missed"),
        (make_graph("complete", 6, 4, block=(2, 2)), True, "met; the base graph meets its own"),
        (random_graph(9, 9, degree=3), None, "none: defined only"),
        (make_graph("biregular", 9, 10, degree=3), None, "none: defined only"),
    ],
)
def test_the_verdict(graph: BipartiteGraph, is_ramanujan: bool | None, verdict: str) -> None:
    certificate = certify(graph)
    assert certificate.is_ramanujan is is_ramanujan
    line = next(row for row in str(certificate).splitlines() if row.startswith("Ramanujan"))
    for part in verdict.split("..."):
        assert part in line


EDGE_CASES = [
    make_graph("complete", 1, 1),
    make_graph("complete", 5, 1),
    make_graph("complete", 1, 5),
    make_graph("random", 5, 1, degree=1),
    make_graph("random", 16, 16, degree=1),
    make_graph("complete", 8, 8, block=(8, 8)),
    BipartiteGraph.from_edges(np.zeros((0, 2), dtype=int), 3, 2),
    make_graph("grouped", 16, 32, compression=4, block=(2, 1)),
    make_graph("released", 16, 64, compression=2),
    make_graph("margulis", 49, 49),
]


@pytest.mark.parametrize(("error", "is_ramanujan"), [(1e-12, True), (1e-3, False)])
def test_what_the_error_leaves_open_is_not_proved(
    error: float, is_ramanujan: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make_graph("array_code", 15, 25)
    bound = ramanujan_bound(3, 5)
    found = Leading(math.sqrt(15), bound - 1e-9, bound, error=error, method="iterative")
    monkeypatch.setattr("xnets.graphs._certify.leading_singular_values", lambda *_, **__: found)
    assert certify(graph).is_ramanujan is is_ramanujan


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("graph", EDGE_CASES, ids=repr)
def test_every_graph_has_a_certificate(graph: BipartiteGraph, exact: bool) -> None:
    certificate = certify(graph, exact=exact)
    assert 0 <= certificate.gap <= 1
    assert certificate.second <= certificate.first + certificate.error
    data = json.loads(certificate.to_json())
    assert data == certificate.to_dict()
    assert "graph" not in data
    assert data["num_edges"] == graph.num_edges
    assert "spectral gap" in str(certificate)


def without(certificate: Certificate, *names: str) -> dict:
    return {key: value for key, value in certificate.to_dict().items() if key not in names}


@pytest.mark.parametrize("family", ["random", "biregular", "grouped"])
def test_blocks_change_nothing_but_the_cost(family: str) -> None:
    graph = make_graph(family, 48, 96, degree=8, block=(4, 2))
    blocked, plain = certify(graph), certify(graph.with_block((1, 1)))
    for name in ("first", "second", "gap"):
        assert getattr(blocked, name) == pytest.approx(getattr(plain, name), abs=1e-9)
    assert blocked.mixing.constant == pytest.approx(plain.mixing.constant)
    names = ["fingerprint", "block", "first", "second", "gap", "error", "mixing", "expansion"]
    names.append("base_is_ramanujan")
    assert without(blocked, *names) == without(plain, *names)
    known = {row.size: row for row in plain.expansion}
    shared = [(row, known[row.size]) for row in blocked.expansion if row.size in known]
    assert len(shared) > 4
    for mine, other in shared:
        assert mine.at_least == other.at_least
        assert other.exact in (mine.exact, None)


def test_the_dictionary_holds_plain_data() -> None:
    data = certify(make_graph("random", 12, 8, degree=3)).to_dict()
    assert data["fan_in"] == {"low": 3, "mean": 3.0, "high": 3}
    assert data["block"] == [1, 1]
    assert data["expansion"][0] == {"size": 1, "at_least": 3, "exact": 3}
    assert set(data["mixing"]) == {"constant", "sampled", "sampled_half", "samples"}
    assert data["girth"] == {"low": 4, "high": 4}


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("block", [(1, 1), (8, 4)])
def test_the_picture(tmp_path, suffix: str, block: tuple[int, int]) -> None:
    path = tmp_path / f"certificate.{suffix}"
    certify(make_graph("biregular", 64, 128, degree=16, block=block)).plot(path)
    start = path.read_bytes()[:64]
    assert {"png": b"PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix] in start


def test_the_picture_of_a_large_graph_estimates(tmp_path) -> None:
    path = tmp_path / "large.svg"
    certify(make_graph("biregular", 2304, 2304, degree=8)).plot(path)
    assert path.stat().st_size > 10_000


def test_the_picture_of_an_empty_graph(tmp_path) -> None:
    certify(EDGE_CASES[6]).plot(tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 1000


def test_the_image_keeps_every_edge() -> None:
    graph = make_graph("random", 30, 50, degree=7)
    np.testing.assert_array_equal(density_image(graph), graph.mask())
    small = density_image(graph, pixels=10)
    assert small.shape == (10, 10)
    assert (small * 5 * 3).sum() == pytest.approx(graph.num_edges)
