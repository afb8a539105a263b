"""Backend `groups`: which graphs it takes and when it should, torch.compile, export, transforms.

Parity with the reference is in test_parity.py.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from tests.ops.gpu_or_not import DEVICE, call_on_cuda, gradients
from tests.ops.operator_checks import assert_cuda_graphs
from xnets import ops
from xnets.graphs import BipartiteGraph, make_graph
from xnets.nn import ExpanderConv1d, ExpanderConv2d, ExpanderLinear
from xnets.ops import _cpu, _groups
from xnets.ops._pattern import Components, within_blocks


def in_any_order(num_in: int, num_out: int, groups: int) -> BipartiteGraph:
    generator = np.random.default_rng(0)
    of_output, of_input = (generator.permutation(n) % groups for n in (num_out, num_in))
    return BipartiteGraph.from_mask(of_output[:, None] == of_input)


LAYERS = {
    "linear": (lambda: ExpanderLinear(12, 8, graph=in_any_order(12, 8, 4)), (5, 12)),
    "conv": (lambda: ExpanderConv2d(12, 8, 3, graph=in_any_order(12, 8, 4)), (2, 12, 5, 4)),
    "shuffled": (lambda: ExpanderConv1d(12, 8, 2, compression=4, family="shuffled"), (2, 12, 5)),
    "complete": (lambda: ExpanderLinear(12, 8, compression=1), (5, 12)),
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[name]
    layer = make().to(DEVICE)
    layer.backend = "groups"
    return layer, torch.randn(shape, device=DEVICE)


def components(graph: BipartiteGraph) -> Components | None:
    arrays = (graph.indptr, graph.indices)
    pattern = ops.make_pattern(
        *(torch.tensor(a) for a in arrays), graph.num_in, graph.num_out, graph.block
    )
    return pattern.components


# --- which graphs --------------------------------------------------------------------------------


def test_finds_groups() -> None:
    for family, block, expected in (
        ("complete", (1, 1), Components(1, True, True)),
        ("grouped", (1, 1), Components(4, True, True)),
        ("grouped", (4, 2), Components(4, True, True)),
        ("shuffled", (1, 1), Components(4, False, True)),
        ("shuffled", (2, 2), Components(4, False, True)),
    ):
        degree = 16 if family == "complete" else 4
        assert components(make_graph(family, 16, 32, degree=degree, block=block)) == expected
    assert components(in_any_order(12, 8, 4)) == Components(4, False, False)
    assert components(make_graph("biregular", 16, 16, degree=4, block=(4, 4))).count == 4


@pytest.mark.parametrize(
    "rows",
    [
        ["110", "011"],  # connected
        ["1100", "1100", "0011"],  # components of two sizes
        ["1110", "0001"],
        ["1100", "1010"],  # the same first input, other lists
        ["1100", "0110", "1001", "0011"],  # regular on both sides, and connected
        ["1010", "1001"],  # an input in no component
        ["1100", "1100"],
        ["1100", "0011", "0000"],  # an output in none
        ["0000"],
        ["101000", "110000", "000110", "000011"],  # two lists, of more than their inputs
        ["110000", "100100", "001100", "001100", "000011", "000011"],
    ],
)
def test_refuses_other_graphs(rows: list[str]) -> None:
    graph = BipartiteGraph.from_mask(np.array([[cell == "1" for cell in row] for row in rows]))
    assert components(graph) is None
    layer = ExpanderLinear(graph.num_in, graph.num_out, graph=graph, backend="groups")
    x = torch.ones(1, graph.num_in)
    with pytest.raises(ValueError, match="does not fall into complete graphs of one size"):
        layer(x)
    assert "no: the graph does not fall into" in layer.explain(x)


def test_agrees_with_what_a_graph_is() -> None:
    """On small graphs of every kind: connected components by their own definition."""
    generator = np.random.default_rng(1)
    found = 0
    for _ in range(300):
        mask = generator.random((generator.integers(1, 5), generator.integers(1, 5))) < 0.5
        if generator.random() < 0.5:  # groups are rare among random masks
            groups = generator.integers(1, 3)
            sides = [generator.permutation(groups * generator.integers(1, 3)) for _ in range(2)]
            mask = sides[0][:, None] % groups == sides[1] % groups
        lists = [tuple(np.flatnonzero(row)) for row in mask]
        sizes = {(len(key), lists.count(key)) for key in lists}
        inputs = [u for key in set(lists) for u in key]
        expected = len(sizes) == 1 and sorted(inputs) == list(range(mask.shape[1]))
        got = components(BipartiteGraph.from_mask(mask))
        assert (got is not None) == expected
        found += expected
        if got:
            assert got.count == len(set(lists))
    assert 50 < found < 250


def test_follows_a_pattern_that_is_loaded_or_written() -> None:
    layer, other = (
        ExpanderLinear(8, 8, degree=2, family=family) for family in ("shuffled", "random")
    )
    assert layer.pattern.components
    layer.load_state_dict(other.state_dict())
    assert layer.pattern.components is None
    grouped = ExpanderLinear(8, 8, degree=2, family="grouped")
    with torch.no_grad():  # in place, as DDP's first broadcast does
        layer.indices.copy_(grouped.indices)
    assert layer.pattern.components == Components(4, True, True)
    assert copy.deepcopy(layer).pattern.components == Components(4, True, True)


def test_on_the_meta_device() -> None:
    layer = ExpanderConv2d(8, 8, 3, degree=2, family="shuffled", backend="groups", device="meta")
    assert layer.pattern.components == Components(4, False, True)
    assert layer(torch.ones(1, 8, 4, 4, device="meta")).shape == (1, 8, 2, 2)
    layer.to_empty(device="cpu")
    assert layer.pattern.components == Components(4, False, True)


# --- what torch asks of it -----------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_compiles_without_a_graph_break(name: str) -> None:
    layer, x = build(name)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in (x, torch.cat([x, x])):
        torch.testing.assert_close(gradients(compiled, batch), gradients(layer, batch))


@pytest.mark.parametrize("name", LAYERS)
def test_exports(name: str) -> None:
    layer, x = build(name)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))
    assert "xnets" not in str(program.graph)  # torch's own operators alone


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by forward_ad itself
def test_function_transforms() -> None:
    for name in ("linear", "conv"):
        layer, x = build(name)
        per_sample = torch.func.vmap(lambda one: layer(one[None])[0])(x)  # noqa: B023
        torch.testing.assert_close(per_sample, layer(x))
        tangent = torch.randn_like(x)
        _, got = torch.func.jvp(layer, (x,), (tangent,))
        layer.bias.data.zero_()
        torch.testing.assert_close(got, layer(tangent))


def test_inference_tensors() -> None:
    with torch.inference_mode():
        layer, x = build("conv")
        output = layer(x)
        layer.backend = "masked"
        torch.testing.assert_close(output, layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_autocast(name: str, dtype: torch.dtype) -> None:
    """What a dense layer would return: low precision out, float32 gradients of the weights."""
    layer, x = build(name)
    expected = gradients(layer, x)
    with torch.autocast(DEVICE, dtype=dtype):
        got = gradients(layer, x)
    assert got[0].dtype == dtype
    assert all(grad.dtype == torch.float32 for grad in got[1:])
    for a, b in zip(got, expected, strict=True):
        assert (a.float() - b).norm() / b.norm() < 2e-2


def test_autocast_leaves_float64_alone() -> None:
    layer, x = build("conv")
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        assert layer.double()(x.double()).dtype == torch.float64


def test_channels_last_stay_so() -> None:
    layer, x = build("conv")
    x = x.to(memory_format=torch.channels_last)
    assert _groups._select(x, -3, torch.arange(12, device=DEVICE)).is_contiguous(
        memory_format=torch.channels_last
    )
    output, grad_x, *_ = gradients(layer, x)
    for tensor in (output, grad_x):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_an_order_are_selections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is added up, which atomics would do on a GPU: the same bits every time."""
    layer, x = build("linear")
    added: list[Any] = []
    monkeypatch.setattr(Tensor, "index_add_", lambda *args: added.append(args))
    with torch.profiler.profile() as profile:
        gradients(layer, x)
    assert not any("index_add" in event.name for event in profile.events())
    assert sum(event.name == "aten::index_select" for event in profile.events()) >= 6


def test_orders_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = build("conv")
    first = gradients(layer, x)
    monkeypatch.setattr(_groups._orders, "_compute_here", None)  # not needed again
    torch.testing.assert_close(gradients(layer, x), first)


def test_within_blocks() -> None:
    assert within_blocks(torch.tensor([2, 0]), 3).tolist() == [6, 7, 8, 0, 1, 2]


# --- when it should ------------------------------------------------------------------------------


def test_auto_on_a_gpu_counts_work_and_traffic() -> None:
    for kind, size, family, slow in (
        # 256 * 256 * 9 pairs in the time of 2304 numbers moved; 512 to read and write.
        ("3x3", (2, 256, 9, 9), "grouped", False),
        ("3x3", (2, 256, 9, 9), "shuffled", False),
        # Dense: 512 as well, whatever is multiplied. To put the inputs in order costs 512 more.
        ("1x1", (2, 256, 9, 9), "grouped", False),
        ("1x1", (2, 256, 9, 9), "shuffled", True),
        ("linear", (2, 4096), "shuffled", False),
        ("linear", (2, 256), "grouped", True),
    ):
        width = size[1]
        arguments: dict[str, Any] = {"compression": 4, "family": family}
        layer = (
            ExpanderLinear(width, width, **arguments)
            if kind == "linear"
            else ExpanderConv2d(width, width, int(kind[0]), **arguments)
        )
        reasons = _groups.why_slow(call_on_cuda(layer, size))
        assert bool(reasons) == slow, (kind, family)
        if slow:
            assert "in 4 groups it takes as long as moving 1,024 numbers" in reasons[0]
            assert "dense kernels as 512" in reasons[0]
        else:
            assert ops.choose(call_on_cuda(layer, size)).name == "groups"


def test_auto_runs_what_torch_itself_would() -> None:
    """Complete layers and depthwise ones: nothing is scattered or moved."""
    depthwise = ExpanderConv2d(32, 32, 3, groups=32, degree=1)
    complete = ExpanderConv2d(32, 32, 3, compression=1)
    for layer in (depthwise, complete):
        call = call_on_cuda(layer, (1, 32, 5, 5))
        assert ops.choose(call).name == "groups"
        assert not _groups.why_slow(call)


def test_many_small_groups_fill_no_tile() -> None:
    """Groups of two channels are computed in tiles of 16 a side."""
    layer = ExpanderConv2d(64, 64, 3, degree=2, family="grouped")
    (reason,) = _groups.why_slow(call_on_cuda(layer, (1, 64, 5, 5)))
    assert "in 32 groups" in reason


def test_auto_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the compiled kernels; without them, before dense kernels."""
    layer = ExpanderConv2d(64, 64, 3, compression=4, family="shuffled")
    x = torch.randn(2, 64, 5, 5)
    if _cpu.LIBRARY is not None:
        assert "-> cpu" in layer.explain(x)
    monkeypatch.setattr(_cpu, "LIBRARY", None)
    assert "-> groups" in layer.explain(x)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("name", LAYERS)
def test_cuda_graphs(name: str) -> None:
    assert_cuda_graphs(*build(name))


@pytest.mark.parametrize("family", ["grouped", "shuffled", "random"])
def test_components_need_no_values_in_tensors(family: str) -> None:
    """Of layers made where tensors have none, the graph still knows what it falls into."""
    x = torch.ones(2, 16)
    expected = ExpanderLinear(16, 8, compression=4, family=family).pattern.components
    with torch.device("meta"):
        layer = ExpanderLinear(16, 8, compression=4, family=family)
        assert layer.pattern.components == expected
    with FakeTensorMode(allow_non_fake_inputs=True):
        layer = ExpanderLinear(16, 8, compression=4, family=family)
        assert layer.pattern.components == expected
        assert layer(x).shape == (2, 8)
    assert (expected is None) == (family == "random")
