"""Saving and loading: the pattern travels with the weights, and nothing impossible gets in."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import prune

from xnets.graphs import BipartiteGraph
from xnets.nn import ExpanderConv2d, ExpanderLinear

State = dict[str, Tensor]


def snapshot(layer: nn.Module) -> State:
    return {name: value.clone() for name, value in layer.state_dict().items()}


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_round_trip_through_a_file_without_pickle() -> None:
    layer = ExpanderConv2d(8, 6, 3, degree=2, block=(2, 1), seed=1)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other = ExpanderConv2d(8, 6, 3, degree=2, block=(2, 1), seed=2)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert other.graph == layer.graph
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("backend", ["reference", "masked", "gather"])
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        {"degree": 3, "seed": 9},  # as many edges, elsewhere
        {"degree": 6, "seed": 9},  # more edges
        {"compression": 12},  # fewer
        {"degree": 4, "block": (4, 2)},  # another block
        {"degree": 2, "family": "random_fan_out"},  # irregular
        {"graph": BipartiteGraph(12, 8, [0] * 9, [])},  # none at all
    ],
    ids=str,
)
def test_loading_replaces_the_pattern(source: Any, assign: bool, backend: str) -> None:
    loaded = ExpanderLinear(12, 8, degree=3, block=(2, 1), backend=backend)
    x = torch.randn(3, 12)
    loaded(x)  # whatever is derived from the old pattern has been derived
    parameter = loaded.weight
    other = ExpanderLinear(12, 8, **source)
    loaded.load_state_dict(snapshot(other), assign=assign)
    assert loaded.graph.with_block((1, 1)) == other.graph.with_block((1, 1))
    if other.num_edges:  # the block of no edges cannot be told from shapes
        assert loaded.block == other.block
    torch.testing.assert_close(loaded(x), other.to_dense()(x))
    assert (loaded.weight is parameter) != assign  # torch's own meaning of assign
    loaded(x).sum().backward()
    assert loaded.weight.grad.shape == (other.num_edges, 1)
    assert same(snapshot(loaded), snapshot(other))


def test_loading_int64_indices_by_assignment_keeps_int32() -> None:
    layer = ExpanderLinear(12, 8, degree=3)
    state = snapshot(ExpanderLinear(12, 8, degree=3, seed=5))
    state = {k: v.long() if k in ("indptr", "indices") else v for k, v in state.items()}
    layer.load_state_dict(state, assign=True)
    assert layer.indices.dtype == torch.int32


def bad_states() -> dict[str, tuple[dict[str, Any], str]]:
    """Changes to the state of ExpanderLinear(8, 4, degree=2), and what is said of them."""
    indices = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7], dtype=torch.int32)
    indptr = torch.tensor([0, 2, 4, 6, 8], dtype=torch.int32)
    return {
        "index too large": ({"indices": indices + 1}, r"`indices` must lie in \[0, 8\)"),
        "index negative": ({"indices": indices - 1}, r"`indices` must lie in \[0, 8\)"),
        "duplicate": ({"indices": indices * 0}, r"duplicate edge \(input 0, output 0\)"),
        "unsorted": ({"indices": indices.flip(0)}, "must increase within each output"),
        "too few indices": ({"indices": indices[:-1]}, "weight has 8 kernels, which do not fit 7"),
        "indptr too short": ({"indptr": indptr[:-1]}, "indptr has 4 entries, which do not fit 4"),
        "indptr empty": ({"indptr": indptr[:0]}, "indptr has 0 entries"),
        "indptr wrong end": ({"indptr": indptr * 0}, "must run from 0 to the number"),
        "indptr decreases": ({"indptr": indptr[[0, 3, 1, 2, 4]]}, "must not decrease"),
        "float indices": ({"indices": indices.float()}, "must be a one-dimensional int32 or int64"),
        "bool indices": ({"indices": indices.bool()}, "must be a one-dimensional int32 or int64"),
        "2d indices": ({"indices": indices.view(2, 4)}, "must be a one-dimensional int32"),
        "not a tensor": ({"indices": [0, 1]}, "must be a tensor, got list"),
        "too few weights": ({"weight": torch.ones(7, 1)}, "weight has 7 kernels"),
        "no weights": ({"weight": torch.ones(0, 1)}, "weight has 0 kernels"),
        "flat weights": ({"weight": torch.ones(8)}, r"each kernel must have shape \(1,\)"),
        "kernel": ({"weight": torch.ones(8, 3)}, r"each kernel must have shape \(1,\)"),
        "bias": ({"bias": torch.ones(5)}, r"bias has shape \(5,\), expected \(4,\)"),
        "no indices": ({"indices": None}, "indices is missing"),
        "no indptr": ({"indptr": None}, "indptr is missing"),
        "no weight": ({"weight": None}, "weight is missing"),
    }


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", bad_states())
def test_an_impossible_state_changes_nothing(name: str, assign: bool) -> None:
    changes, message = bad_states()[name]
    layer = ExpanderLinear(8, 4, degree=2)
    net = nn.Sequential(layer)
    before, x = snapshot(layer), torch.randn(3, 8)
    expected = layer(x)
    state = {**snapshot(ExpanderLinear(8, 4, degree=2, seed=3)), **changes}
    state = {f"0.{key}": value for key, value in state.items() if value is not None}
    with pytest.raises(RuntimeError, match=message):
        net.load_state_dict(state, assign=assign)
    assert same(snapshot(layer), before)
    assert torch.equal(layer(x), expected)


def test_groups_are_checked_on_loading() -> None:
    free = ExpanderConv2d(8, 4, 1, degree=4, seed=3)
    layer = ExpanderConv2d(8, 4, 1, groups=2, degree=4)
    with pytest.raises(RuntimeError, match=r"crosses the groups \(=2\)"):
        layer.load_state_dict(snapshot(free))


def test_a_dense_state_is_refused_with_torchs_words() -> None:
    layer = ExpanderLinear(8, 4, degree=2)
    before = snapshot(layer)
    with pytest.raises(RuntimeError, match=r'(?s)Missing key.*"indptr", "indices".*size mismatch'):
        layer.load_state_dict(nn.Linear(8, 4).state_dict())
    assert torch.equal(layer.weight, before["weight"])


def test_partial_loading_without_the_pattern() -> None:
    layer = ExpanderLinear(8, 4, degree=2)
    graph = layer.graph
    layer.load_state_dict({"weight": torch.ones(8, 1)}, strict=False)
    assert layer.graph == graph
    assert layer.weight.eq(1).all()


def regular_and_irregular(backend: str) -> list[ExpanderLinear]:
    """Two layers with as many edges, one of constant degree, one not."""
    options = [{"degree": 3}, {"degree": 2, "family": "random_fan_out", "seed": 1}]
    layers = [ExpanderLinear(9, 6, backend=backend, **o) for o in options]  # type: ignore[arg-type]
    assert layers[0].num_edges == layers[1].num_edges
    return layers


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("backend", ["masked", "gather"])
def test_writing_into_the_buffers_is_noticed(backend: str, swap: bool) -> None:
    # As DDP does when it broadcasts rank 0's buffers over a rank that drew another graph.
    layer, other = regular_and_irregular(backend)[:: -1 if swap else 1]
    x = torch.randn(2, 9)
    layer(x)
    with torch.no_grad():
        for mine, others in zip(
            layer.state_dict().values(), other.state_dict().values(), strict=True
        ):
            mine.copy_(others)
    torch.testing.assert_close(layer(x), other(x))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("backend", ["masked", "gather"])
def test_other_buffers_are_noticed(backend: str, swap: bool) -> None:
    layer, other = regular_and_irregular(backend)[:: -1 if swap else 1]
    x = torch.randn(2, 9)
    before = layer(x)
    lent = torch.func.functional_call(layer, other.state_dict(), (x,))
    torch.testing.assert_close(lent, other(x))
    assert torch.equal(layer(x), before)  # lent for one call
    layer.indptr, layer.indices = other.indptr.clone(), other.indices.clone()
    layer.weight.data, layer.bias.data = other.weight.data, other.bias.data
    torch.testing.assert_close(layer(x), other(x))


@pytest.mark.parametrize("swap", [False, True])
def test_compiled_masked_reads_the_graph_anew(swap: bool) -> None:
    layer, other = regular_and_irregular("masked")[:: -1 if swap else 1]
    x = torch.randn(2, 9)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled(x)
    with torch.no_grad():
        for mine, others in zip(
            layer.state_dict().values(), other.state_dict().values(), strict=True
        ):
            mine.copy_(others)
    torch.testing.assert_close(compiled(x), other(x))


def test_to_meta_and_back_keeps_the_graph() -> None:
    layer = ExpanderConv2d(8, 4, 3, degree=4, block=(2, 2), seed=3)
    graph = layer.graph
    layer.to("meta")
    assert layer.graph == graph
    layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer.graph == graph
    assert torch.isfinite(layer(torch.randn(1, 8, 5, 5))).all()


def test_a_missing_or_unexpected_bias_is_torchs_business() -> None:
    for mine, others in ((True, False), (False, True)):
        layer = ExpanderLinear(8, 4, bias=mine, degree=2)
        other = ExpanderLinear(8, 4, bias=others, degree=4)
        with pytest.raises(RuntimeError, match=r'(Missing|Unexpected) key.*"bias"'):
            copy.deepcopy(layer).load_state_dict(snapshot(other))
        layer.load_state_dict(snapshot(other), strict=False)
        assert layer.graph == other.graph


def test_assigning_leaves_the_old_parameter_alone() -> None:
    layer = ExpanderLinear(8, 4, degree=2)
    old = layer.weight
    layer.load_state_dict(snapshot(ExpanderLinear(8, 4, degree=4)), assign=True)
    assert old.shape == (8, 1)
    assert layer.weight.shape == (16, 1)


def test_reparametrised_layers_load_their_own_state() -> None:
    x = torch.randn(2, 8)
    for wrap in (
        nn.utils.parametrizations.weight_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ):
        layer = wrap(ExpanderLinear(8, 4, degree=2))
        expected = layer(x)
        layer.load_state_dict(layer.state_dict())
        torch.testing.assert_close(layer(x), expected)
        other = ExpanderLinear(8, 4, degree=4)
        state = {**layer.state_dict(), "indptr": other.indptr, "indices": other.indices}
        with pytest.raises(RuntimeError, match=r"do not fit|cannot change its size"):
            layer.load_state_dict(state)


def test_loading_on_the_meta_device() -> None:
    source = ExpanderLinear(8, 4, degree=4, block=(2, 2), seed=4)
    layer = ExpanderLinear(8, 4, degree=2, device="meta")
    layer.load_state_dict(snapshot(source), assign=True)
    x = torch.randn(2, 8)
    assert torch.equal(layer(x), source(x))


def test_works_under_inference_mode() -> None:
    with torch.inference_mode():
        layer = ExpanderLinear(8, 4, degree=2)
        assert layer(torch.randn(2, 8)).shape == (2, 4)
    layer = ExpanderLinear(8, 4, degree=2)
    with torch.inference_mode():
        assert layer(torch.randn(2, 8)).shape == (2, 4)


def test_parametrizations_and_weight_averaging() -> None:
    layer = ExpanderLinear(8, 4, degree=2)
    x = torch.randn(2, 8)
    averaged = torch.optim.swa_utils.AveragedModel(layer, use_buffers=True)
    averaged.update_parameters(layer)
    averaged.update_parameters(layer)
    torch.testing.assert_close(averaged(x), layer(x))

    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    bias = layer.bias
    doubled = 2 * (layer(x) - bias) + bias
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    torch.testing.assert_close(layer(x), doubled)
    layer.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), doubled)


def _ddp_worker(rank: int, store: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(rank)
    # Each rank draws its own graph (same number of edges): rank 0's must win everywhere.
    net = nn.Sequential(
        ExpanderConv2d(6, 8, 3, degree=3, seed=rank),
        nn.ReLU(),
        nn.Flatten(),
        ExpanderLinear(72, 5, compression=4, seed=rank),
    )
    ddp = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        ddp(torch.randn(4, 6, 5, 5)).square().mean().backward()
        optimizer.step()
    torch.save(net.state_dict(), f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_ddp_gives_all_ranks_one_graph(tmp_path: Path) -> None:
    arguments = (str(tmp_path / "store"), str(tmp_path))
    torch.multiprocessing.spawn(_ddp_worker, arguments, nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert same(one, other)
    expected = ExpanderConv2d(6, 8, 3, degree=3, seed=0).indices
    assert torch.equal(one["0.indices"], expected)
