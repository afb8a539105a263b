"""The dispatch: what runs, what cannot and why, and bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.ops.gpu_or_not import call_on_cuda
from xnets import ops
from xnets.graphs import BipartiteGraph, make_graph
from xnets.nn import ExpanderConv2d
from xnets.ops import _cpu, _dispatch, _gather


def pattern(family: str = "random", num_in: int = 8, num_out: int = 6) -> ops.Pattern:
    return pattern_of(make_graph(family, num_in, num_out, degree=2))


def pattern_of(graph: BipartiteGraph) -> ops.Pattern:
    indptr, indices = torch.tensor(graph.indptr), torch.tensor(graph.indices)
    return ops.make_pattern(indptr, indices, graph.num_in, graph.num_out, graph.block)


def linear_call(**changes: object) -> ops.Call:
    arguments: dict = {
        "input": torch.ones(3, 8),
        "weight": torch.ones(12, 1),
        "bias": None,
        "pattern": pattern(),
        "spatial": 0,
    }
    return ops.Call(**{**arguments, **changes})


def conv_call(**changes: object) -> ops.Call:
    arguments: dict = {
        "input": torch.ones(3, 8, 5, 5),
        "weight": torch.ones(12, 3, 3),
        "bias": None,
        "pattern": pattern(),
        "spatial": 2,
        "stride": (1, 1),
        "padding": (0, 0),
        "dilation": (1, 1),
    }
    return ops.Call(**{**arguments, **changes})


def test_every_backend_can_be_asked_for() -> None:
    call = linear_call(input=torch.ones(3, 12), pattern=pattern("shuffled", 12, 6))
    for name in ops.list_backends():
        assert ops.choose(call, name).name == name
        assert f"-> {name}" in ops.explain(call, name)


@pytest.fixture
def no_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cpu, "LIBRARY", None)


@pytest.mark.usefixtures("no_compiled_kernels")
def test_auto_takes_the_smaller_copy() -> None:
    # 8 inputs, 6 outputs, degree 2: a row gathers 12 inputs, a dense weight has 48 entries.
    for rows, taken in ((1, "gather"), (4, "gather"), (5, "masked"), (1000, "masked")):
        call = linear_call(input=torch.ones(rows, 8))
        assert ops.choose(call).name == taken
        assert f"-> {taken}" in ops.explain(call)
    assert "slow: it copies 60 inputs, a dense weight has 48 entries" in ops.explain(
        linear_call(input=torch.ones(5, 8))
    )
    # A copied input of a convolution counts 8 times: 4 * 12 * 8 <= 48 * 9.
    assert ops.choose(conv_call(input=torch.ones(1, 8, 2, 2), padding=(1, 1))).name == "gather"
    assert ops.choose(conv_call(input=torch.ones(1, 8, 3, 3))).name == "masked"


def test_auto_on_a_gpu_gathers_where_tiles_are_full() -> None:
    """A group of few outputs is computed as one of 16."""
    for block, compression, slow in (((1, 1), 4, True), ((1, 1), 32, False), ((16, 1), 4, False)):
        layer = ExpanderConv2d(512, 64, 1, compression=compression, block=block)
        reasons = _gather.why_slow(call_on_cuda(layer, (1, 512, 1, 1)))
        assert bool(reasons) == slow
    layer = ExpanderConv2d(512, 64, 1, compression=4)
    (reason,) = _gather.why_slow(call_on_cuda(layer, (1, 512, 1, 1)))
    assert reason == "in tiles it multiplies 131,072 pairs a position, dense kernels 32,768"


def test_auto_prefers_the_compiled_kernels_to_dense_ones_where_they_pay() -> None:
    nearly = np.ones((6, 8), bool)
    nearly[0, 0] = False
    nearly_complete = {
        "pattern": pattern_of(BipartiteGraph.from_mask(nearly)),
        "weight": torch.ones(47, 1),
    }
    complete = {"pattern": pattern_of(make_graph("complete", 8, 6)), "weight": torch.ones(48, 1)}
    for rows, changes, taken in (
        (1, {}, "cpu"),
        (1000, {}, "cpu"),
        (1, nearly_complete, "cpu"),  # to scatter 47 edges costs more than to multiply them
        (1000, nearly_complete, "masked"),
        (1000, complete, "groups"),  # the dense layer itself: nothing to scatter
    ):
        assert ops.choose(linear_call(input=torch.ones(rows, 8), **changes)).name == taken
    table = ops.explain(linear_call(input=torch.ones(1000, 8), **nearly_complete))
    assert "slow: at 98% of all edges, dense kernels cost 0.55 of these" in table
    assert "-> masked" in table


@pytest.mark.parametrize(
    ("kernel", "options", "compression", "pays"),
    [
        (1, {}, 2, True),
        (1, {}, 1.5, False),
        (1, {"stride": 2}, 2, True),
        (3, {"padding": 1}, 1.5, True),
        (3, {"padding": 1}, 1.2, False),
        (3, {"padding": 1, "stride": 2}, 2, False),
        (3, {"padding": 1, "stride": 2}, 2.5, True),
        (3, {"padding": 2, "dilation": 2}, 2, False),
        (5, {"padding": 2}, 2, False),
    ],
)
def test_when_single_edges_pay(
    kernel: int, options: dict[str, int], compression: float, pays: bool
) -> None:
    """3x3 layers of stride 1 soonest, by Winograd's algorithm; pointwise ones before the others."""
    layer = ExpanderConv2d(120, 120, kernel, compression=compression, **options)
    assert pays != bool(_cpu.why_slow(layer.call(torch.ones(20, 120, 9, 9))))


@pytest.mark.usefixtures("no_compiled_kernels")
def test_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    picky = ops.Backend(
        "picky", "never fits", lambda call: call.input, lambda call: ["too wide", "too tall"]
    )
    slow = ops.Backend("slow", "fits", lambda call: call.input, why_slow=lambda call: ["is slow"])
    monkeypatch.setattr(_dispatch, "BACKENDS", (picky, slow, *_dispatch.BACKENDS))
    assert ops.choose(linear_call()).name == "gather"
    with pytest.raises(ValueError, match="'picky' cannot run this call: too wide; too tall"):
        ops.run(linear_call(), "picky")
    assert ops.choose(linear_call(), "slow") is slow
    table = ops.explain(linear_call())
    assert "picky      never fits                           no: too wide; too tall" in table
    assert "slow       fits                                 slow: is slow" in table
    assert "-> gather" in table
    monkeypatch.setattr(_dispatch, "BACKENDS", (picky, slow))
    with pytest.raises(ValueError, match=r"(?s)no backend can run this call:.*too wide"):
        ops.run(linear_call())


def test_reference_says_why_not_on_meta() -> None:
    call = linear_call(
        input=torch.ones(3, 8, device="meta"),
        weight=torch.ones(12, 1, device="meta"),
        pattern=replace(
            pattern(),
            indptr=torch.empty(7, dtype=torch.int32, device="meta"),
            indices=torch.empty(12, dtype=torch.int32, device="meta"),
        ),
    )
    with pytest.raises(ValueError, match=r"'reference' cannot run this call: .* meta tensors"):
        ops.run(call, "reference")
    for backend in ("masked", "gather"):
        assert ops.run(call, backend).shape == (3, 6)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="unknown backend 'gahter'; did you mean 'gather'"):
        ops.run(linear_call(), "gahter")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (linear_call(input=torch.ones(3, 7)), r"`input` \(shape \(3, 7\)\) must have 8 features"),
        (linear_call(input=torch.tensor(1.0)), r"`input` \(shape \(\)\) must have 8 features"),
        (linear_call(weight=torch.ones(12)), r"`weight` \(shape \(12,\)\) must have shape \(12, 1"),
        (linear_call(weight=torch.ones(11, 1)), "one row for each edge of the graph"),
        (linear_call(bias=torch.ones(5)), r"`bias` \(shape \(5,\)\) must have shape \(6,\)"),
        (
            linear_call(input=torch.ones(3, 8).double()),
            "`input` is torch.float64, but `weight` is torch.float32; convert",
        ),
        (
            linear_call(bias=torch.ones(6).double()),
            "`input` is torch.float32, but `bias` is torch.float64",
        ),
        (
            linear_call(input=torch.ones(3, 8, device="meta")),
            "`input` is on meta, but `weight` is on cpu; move one",
        ),
        (
            linear_call(pattern=replace(pattern(), indices=torch.empty(12, device="meta"))),
            "the graph's index tensors are on meta",
        ),
        (conv_call(input=torch.ones(3, 7, 5, 5)), r"must have 8 channels in dimension -3"),
        (conv_call(input=torch.ones(8, 5)), "must have 4 dimensions, or 3 without a batch"),
        (conv_call(weight=torch.ones(12, 3)), r"must have shape \(12, kernel size, kernel size\)"),
        (conv_call(weight=torch.ones(13, 3, 3)), "one row for each edge"),
    ],
)
def test_tensors_that_do_not_fit(call: ops.Call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.run(call)


def test_autocast_may_mix_dtypes() -> None:
    call = linear_call(
        input=torch.ones(3, 12, dtype=torch.bfloat16), pattern=pattern("shuffled", 12, 6)
    )
    for backend in ops.list_backends():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ops.run(call, backend).dtype == torch.bfloat16


def test_edge_positions_follow_the_graph() -> None:
    for block in ((1, 1), (2, 1), (2, 4), (3, 2)):
        graph = make_graph("random", 8, 6, compression=2, block=block)
        inputs, outputs = graph.edges().T
        indptr, indices = torch.tensor(graph.indptr), torch.tensor(graph.indices)
        made = ops.make_pattern(indptr, indices, 8, 6, block)
        assert ops.edge_positions(made).tolist() == (outputs * 8 + inputs).tolist()
        irregular = replace(made, is_regular=False)  # the general path must agree
        assert ops.edge_positions(irregular).tolist() == (outputs * 8 + inputs).tolist()
