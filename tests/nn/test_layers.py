"""The layer contract: torch's layer when complete, the reference with any graph."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xnets.graphs import BipartiteGraph, complete_graph, make_graph
from xnets.nn import (
    ExpanderConv1d,
    ExpanderConv2d,
    ExpanderConv3d,
    ExpanderLayer,
    ExpanderLinear,
)

# Torch says this once, of its own layers.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")

EXPANDER = {1: ExpanderConv1d, 2: ExpanderConv2d, 3: ExpanderConv3d}
DENSE = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def complete(in_channels: int, out_channels: int, groups: int) -> BipartiteGraph:
    """Torch's own connections: complete within each group."""
    if groups == 1:
        return complete_graph(in_channels, out_channels)
    return make_graph("grouped", in_channels, out_channels, compression=groups)


# The argument combinations of torch's own convolution tests: (input, out, kernel, arguments).
TORCH_CASES: list[tuple[tuple[int, ...], int, Any, dict[str, Any]]] = [
    # 1d
    ((1, 3, 4), 3, 3, {"stride": 2, "padding": 2}),
    ((2, 4, 8), 2, 3, {"stride": 3, "padding": 1, "groups": 2, "dilation": 2}),
    ((1, 4, 5), 1, 3, {"stride": 2, "padding": "valid", "bias": False}),
    ((2, 2, 4), 2, 4, {"padding": "same", "groups": 2, "dilation": 2}),
    ((1, 4, 5), 3, 3, {"bias": False}),
    ((2, 4, 10), 5, 3, {"stride": 2}),
    ((2, 4, 10), 5, 3, {"padding": 1, "padding_mode": "circular"}),
    ((2, 4, 10), 5, 3, {"padding": "same", "padding_mode": "reflect"}),
    ((2, 4, 10), 5, 4, {"padding": "same", "padding_mode": "replicate", "dilation": 3}),
    ((0, 4, 10), 5, 3, {}),
    # 2d
    ((1, 3, 4, 4), 3, 3, {"stride": (2, 2), "padding": 2}),
    ((2, 4, 8, 8), 2, 3, {"stride": (3, 2), "padding": (2, 1), "groups": 2, "dilation": (1, 2)}),
    ((1, 4, 5, 5), 1, (2, 3), {"stride": 2, "padding": 1, "dilation": (2, 3)}),
    ((1, 2, 4, 3), 4, (3, 4), {"stride": 2, "padding": 1, "bias": False}),
    ((1, 4, 5, 5), 1, (2, 3), {"stride": 2, "padding": "valid"}),
    ((1, 4, 5, 5), 1, (2, 3), {"padding": "same", "dilation": 3}),
    ((2, 4, 6, 6), 4, 3, {"groups": 4}),
    ((2, 4, 6, 6), 8, 3, {"groups": 4}),
    ((2, 4, 6, 6), 8, 3, {"groups": 4, "bias": False}),
    ((2, 4, 6, 6), 4, 3, {"groups": 4, "stride": (3, 2)}),
    ((2, 4, 6, 6), 4, 3, {"groups": 4, "padding": (1, 1)}),
    ((2, 4, 5, 5), 4, 2, {"groups": 4, "dilation": (2, 2)}),
    ((2, 4, 6, 5), 6, (3, 2), {"groups": 2}),
    ((1, 4, 5, 5), 3, 3, {"bias": False}),
    ((2, 3, 7, 5), 4, (3, 2), {"padding": (1, 2), "padding_mode": "circular"}),
    ((2, 3, 7, 5), 4, (3, 2), {"padding": (1, 2), "padding_mode": "reflect"}),
    ((2, 3, 7, 5), 4, (3, 2), {"padding": (1, 2), "padding_mode": "replicate"}),
    ((2, 3, 7, 5), 4, 4, {"padding": "same", "padding_mode": "circular"}),
    ((0, 3, 7, 5), 4, (3, 2), {}),
    # 3d
    ((1, 1, 4, 4, 4), 1, 1, {"padding": "same"}),
    ((1, 1, 4, 4, 4), 1, 4, {"stride": (2, 2, 2)}),
    ((1, 1, 5, 5, 5), 1, 3, {"dilation": 2}),
    ((1, 1, 1, 1, 10), 1, (1, 1, 4), {"padding": "valid", "bias": False}),
    ((1, 1, 10, 11, 12), 1, (1, 2, 5), {"padding": "same", "bias": False}),
    ((1, 1, 10, 11, 12), 1, (1, 2, 5), {"padding": "same", "dilation": 2}),
    ((1, 1, 10, 11, 12), 1, 4, {"padding": "same", "dilation": 3}),
    ((3, 9, 3, 1, 9), 3, (3, 1, 9), {"groups": 3, "stride": 2}),
    ((2, 3, 3, 4, 5), 4, (2, 3, 4), {"padding": (1, 2, 3), "stride": 2}),
    ((2, 3, 3, 4, 5), 4, 2, {"padding": 1, "padding_mode": "circular"}),
    ((2, 3, 3, 4, 5), 4, 2, {"padding": 1, "padding_mode": "replicate"}),
    ((0, 3, 3, 4, 5), 4, (2, 3, 4), {}),
]


@pytest.mark.parametrize("backend", ["reference", "masked", "gather"])
@pytest.mark.parametrize(
    ("case", "batched"),
    [(c, b) for c in TORCH_CASES for b in (True, False) if b or c[0][0]],  # empty means batched
    ids=str,
)
def test_complete_graph_is_torchs_layer(case: Any, batched: bool, backend: str) -> None:
    shape, out_channels, kernel, arguments = case
    spatial, in_channels = len(shape) - 2, shape[1]
    dense = DENSE[spatial](in_channels, out_channels, kernel, **arguments, dtype=torch.float64)
    layer = EXPANDER[spatial](
        in_channels,
        out_channels,
        kernel,
        **arguments,
        dtype=torch.float64,
        graph=complete(in_channels, out_channels, arguments.get("groups", 1)),
        backend=backend,
    )
    with torch.no_grad():
        layer.weight.copy_(dense.weight.reshape(layer.weight.shape))
        if dense.bias is not None:
            layer.bias.copy_(dense.bias)
    x = torch.randn(shape if batched else shape[1:], dtype=torch.float64, requires_grad=True)
    expected, actual = dense(x), layer(x)
    torch.testing.assert_close(actual, expected)
    seed = torch.randn_like(expected)
    for a, e in zip(
        torch.autograd.grad(actual, [x, *layer.parameters()], seed),
        torch.autograd.grad(expected, [x, *dense.parameters()], seed),
        strict=True,
    ):
        torch.testing.assert_close(a.reshape(e.shape), e)


def test_complete_linear_is_torchs_layer_and_starts_alike() -> None:
    for make_dense, make in (
        (lambda: nn.Linear(7, 5), lambda: ExpanderLinear(7, 5, degree=7)),
        (lambda: nn.Conv2d(7, 5, 3), lambda: ExpanderConv2d(7, 5, 3, compression=1)),
    ):
        torch.manual_seed(3)
        dense = make_dense()
        torch.manual_seed(3)
        layer = make()
        torch.testing.assert_close(layer.weight.view_as(dense.weight), dense.weight, rtol=0, atol=0)
        torch.testing.assert_close(layer.bias, dense.bias, rtol=0, atol=0)
        x = torch.randn(2, 7, 6, 6) if dense.weight.dim() == 4 else torch.randn(2, 3, 7)
        torch.testing.assert_close(layer(x), dense(x))


LAYERS = {
    "linear": (lambda **k: ExpanderLinear(24, 16, **k), (3, 24)),
    "conv1d": (lambda **k: ExpanderConv1d(24, 16, 3, padding=1, **k), (3, 24, 7)),
    "conv2d": (lambda **k: ExpanderConv2d(24, 16, 3, stride=2, padding=1, **k), (3, 24, 5, 6)),
    "conv3d": (lambda **k: ExpanderConv3d(24, 16, 2, padding="same", **k), (3, 24, 3, 4, 3)),
    "groups": (lambda **k: ExpanderConv2d(24, 16, 3, groups=2, **k), (3, 24, 5, 6)),
    "reflect": (
        lambda **k: ExpanderConv2d(24, 16, 3, 1, 1, padding_mode="reflect", **k),
        (3, 24, 5, 6),
    ),
}


@pytest.fixture(params=LAYERS)
def made(request: pytest.FixtureRequest) -> tuple[Any, tuple[int, ...]]:
    return LAYERS[request.param]


@pytest.mark.parametrize("backend", ["masked", "gather"])
@pytest.mark.parametrize("family", ["random", "random_fan_out", "shuffled"])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), (2, 3)])
def test_any_graph_equals_the_reference(made: Any, family: str, block: Any, backend: str) -> None:
    make, shape = made
    layer = make(compression=2, family=family, block=block, dtype=torch.float64, backend=backend)
    reference = copy.deepcopy(layer)
    reference.backend = "reference"
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected, actual = reference(x), layer(x)
    torch.testing.assert_close(actual, expected)
    seed = torch.randn_like(expected)
    gradients = torch.autograd.grad(actual, [x, *layer.parameters()], seed)
    for a, e in zip(
        gradients, torch.autograd.grad(expected, [x, *reference.parameters()], seed), strict=True
    ):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("backend", ["reference", "masked", "gather"])
@pytest.mark.parametrize(
    "layer",
    [
        ExpanderLinear(6, 4, compression=2, block=(2, 1), dtype=torch.float64),
        ExpanderConv2d(6, 4, 2, 2, 1, dilation=2, compression=3, dtype=torch.float64),
        ExpanderConv1d(4, 6, 2, padding="same", compression=2, family="random_fan_out").double(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_gradients_numerically(layer: ExpanderLayer, backend: str) -> None:
    layer.backend = backend
    shape = (2, layer.num_in, *(4, 5)[: layer.weight.dim() - 1 if layer.weight.shape[1] > 1 else 0])
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.bias))


def test_everything_trainable_has_num_edges_entries(made: Any) -> None:
    make, shape = made
    layer = make(compression=4)
    dense = layer.to_dense()
    assert layer.weight.shape[0] == layer.num_edges == layer.graph.num_edges
    assert layer.weight.numel() * 4 == dense.weight.numel()
    assert layer.compression == 4
    layer(torch.randn(shape)).square().mean().backward()
    assert layer.weight.grad.shape == layer.weight.shape
    optimizer = torch.optim.AdamW(layer.parameters())
    optimizer.step()
    assert optimizer.state[layer.weight]["exp_avg"].shape == layer.weight.shape


def test_only_edges_are_connected(made: Any) -> None:
    """Poking one input changes exactly the outputs that the graph joins to it."""
    make, shape = made
    layer = make(compression=3, dtype=torch.float64)
    nn.init.ones_(layer.weight)  # nothing cancels
    mask = layer.graph.mask()
    x = torch.rand(shape, dtype=torch.float64)
    for u in range(24):
        poked = x.clone()
        poked.select(1, u).add_(1)
        changed = (layer(poked) - layer(x)).abs().flatten(2 if len(shape) > 2 else 1)
        touched = changed.amax(0) if len(shape) == 2 else changed.amax((0, 2))
        np.testing.assert_array_equal(touched.detach().numpy() > 1e-9, mask[:, u])


def test_dense_and_back(made: Any) -> None:
    make, shape = made
    layer = make(compression=2, block=(2, 1)).eval()
    dense = layer.to_dense()
    assert type(dense) is (nn.Linear if len(shape) == 2 else DENSE[len(shape) - 2])
    assert not dense.training
    x = torch.randn(shape)
    torch.testing.assert_close(dense(x), layer(x))
    assert int((dense.weight != 0).sum()) == layer.weight.numel()
    back = type(layer).from_dense(dense, block=(2, 1))
    assert back.graph == layer.graph
    assert torch.equal(back.weight, layer.weight)
    assert torch.equal(back.bias, layer.bias)
    assert torch.equal(back(x), layer(x))
    drawn = type(layer).from_dense(dense, graph=layer.graph)
    assert torch.equal(drawn.weight, layer.weight)
    fewer = type(layer).from_dense(dense, compression=4, seed=5)
    assert fewer.compression == 4


def test_from_dense_refuses_another_dimension() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Conv2d, got Conv1d"):
        ExpanderConv2d.from_dense(nn.Conv1d(4, 4, 1))  # type: ignore[arg-type]


def test_unusual_inputs(made: Any) -> None:
    make, shape = made
    layer = make(compression=2)
    x = torch.randn(shape)
    expected = layer(x)
    assert layer(torch.empty(0, *shape[1:])).shape == (0, *expected.shape[1:])
    torch.testing.assert_close(layer(x[0]), expected[0])
    strided = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2].copy_(x)
    assert not strided.is_contiguous()
    torch.testing.assert_close(layer(strided), expected)
    if len(shape) == 4:
        torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), expected)


def test_copies_and_pickles(made: Any) -> None:
    make, shape = made
    layer = make(compression=2, block=(2, 1), family="random_fan_out")
    x = torch.randn(shape)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
        assert other.graph == layer.graph
        other.weight.data.zero_()
        assert layer.weight.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(made: Any, dtype: torch.dtype) -> None:
    make, shape = made
    layer = make(compression=2, dtype=dtype)
    assert layer.weight.dtype == layer.bias.dtype == dtype
    x = torch.randn(shape, dtype=dtype)
    reference = copy.deepcopy(layer).double()
    torch.testing.assert_close(
        layer(x).double(), reference(x.double()), rtol=0.05, atol=0.05, check_dtype=False
    )
    assert layer.to(torch.float32).indices.dtype == torch.int32  # .to(dtype) leaves the graph


@pytest.mark.parametrize("backend", ["masked", "gather", "reference"])
def test_autocast(made: Any, backend: str) -> None:
    make, shape = made
    layer = make(compression=2, backend=backend)
    x = torch.randn(shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


def test_meta_device(made: Any) -> None:
    make, shape = made
    layer = make(compression=2, device="meta", seed=7)
    assert layer.weight.is_meta
    assert layer.indices.is_meta
    expected = make(compression=2, seed=7)
    assert layer(torch.empty(shape, device="meta")).shape == expected(torch.randn(shape)).shape
    assert layer.graph == expected.graph
    with torch.device("meta"):
        assert make(compression=2).indices.is_meta
    # to_empty and reset_parameters, torch's way from meta to a device, restore the graph too.
    layer = copy.deepcopy(layer).to_empty(device="cpu")
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.manual_seed(1)
    expected.reset_parameters()
    assert layer.graph == expected.graph
    x = torch.randn(shape)
    assert torch.equal(layer(x), expected(x))


@pytest.mark.parametrize("backend", ["masked", "gather"])
@pytest.mark.parametrize("name", ["linear", "conv2d"])
@pytest.mark.parametrize("family", ["random", "random_fan_out"])
def test_compiles_without_graph_breaks(name: str, backend: str, family: str) -> None:
    make, shape = LAYERS[name]
    layer = make(compression=2, backend=backend, family=family)
    torch._dynamo.reset()
    # aot_eager: capture, decompositions and autograd, without generating code for each case.
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(shape)
    torch.testing.assert_close(compiled(x), layer(x))
    (expected,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    (actual,) = torch.autograd.grad(compiled(x).square().sum(), layer.weight)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", ["linear", "conv2d"])
def test_one_compiled_layer_serves_any_batch(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make(compression=4)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", dynamic=None)
    for batch in (2, 5, 64):
        x = torch.randn(batch, *shape[1:])
        torch.testing.assert_close(compiled(x), layer(x))
    batch_dim = {0: torch.export.Dim("batch", min=2, max=512)}
    exported = torch.export.export(layer, (torch.randn(shape),), dynamic_shapes=(batch_dim,))
    x = torch.randn(17, *shape[1:])
    torch.testing.assert_close(exported.module()(x), layer(x))


@pytest.mark.slow
def test_compiles_with_inductor() -> None:
    net = nn.Sequential(
        ExpanderConv2d(8, 8, 3, padding=1, compression=2),
        nn.ReLU(),
        nn.Flatten(),
        ExpanderLinear(8 * 25, 10, compression=4, backend="gather"),
    )
    torch._dynamo.reset()
    x = torch.randn(3, 8, 5, 5)
    torch.testing.assert_close(torch.compile(net, fullgraph=True)(x), net(x))


def test_exports(made: Any) -> None:
    make, shape = made
    layer = make(compression=2, backend="gather")
    x = torch.randn(shape)
    exported = torch.export.export(layer, (x,))
    torch.testing.assert_close(exported.module()(x), layer(x))


def test_functional_call_and_vmap(made: Any) -> None:
    make, shape = made
    layer = make(compression=2)
    x = torch.randn(shape)
    doubled = {name: 2 * value for name, value in layer.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(layer, doubled, (x,)), 2 * layer(x))
    both = {**dict(layer.named_buffers()), **doubled}
    torch.testing.assert_close(torch.func.functional_call(layer, both, (x,)), 2 * layer(x))

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (sample,)).square().sum()

    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    assert per_sample["weight"].shape == (shape[0], *layer.weight.shape)
    total = torch.func.grad(loss)(parameters, x)
    torch.testing.assert_close(per_sample["weight"].sum(0), total["weight"])


def test_seed_decides_the_graph_and_nothing_else() -> None:
    torch.manual_seed(0)
    one, other = (ExpanderLinear(32, 32, compression=4, seed=s) for s in (0, 0))
    assert one.graph == other.graph
    assert not torch.equal(one.weight, other.weight)
    assert ExpanderLinear(32, 32, compression=4, seed=1).graph != one.graph
    # Groups draw independent graphs.
    conv = ExpanderConv2d(64, 64, 1, groups=2, compression=4)
    mask = conv.graph.mask()
    assert not mask[:32, 32:].any()
    assert not np.array_equal(mask[:32, :32], mask[32:, 32:])


def test_repr() -> None:
    layer = ExpanderConv2d(8, 4, 3, 2, 1, dilation=2, bias=False, degree=2, block=(2, 1))
    assert repr(layer) == (
        "ExpanderConv2d(8, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(2, 2), "
        "bias=False, compression=4, edges=8, block=(2, 1))"
    )
    assert "backend='gather'" in repr(ExpanderLinear(8, 4, degree=2, backend="gather"))


def test_backend_can_be_set_at_any_time_and_is_explained() -> None:
    layer = ExpanderLinear(8, 4, degree=2)
    x = torch.randn(2, 8)
    assert "-> cpu" in layer.explain(x)
    layer.backend = "masked"
    assert "-> masked" in layer.explain(x)
    with pytest.raises(ValueError, match="unknown backend 'nonsense'"):
        layer.backend = "nonsense"
    assert layer.backend == copy.deepcopy(layer).backend == "masked"


LINEAR = {"in_features": 8, "out_features": 4}
CONV = {"in_channels": 8, "out_channels": 4, "kernel_size": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of `compression`, `degree` and `graph`, got none"),
        ({"compression": 2, "degree": 2}, "got `compression` and `degree`"),
        ({"degree": 2, "graph": complete_graph(8, 4)}, "got `degree` and `graph`"),
        ({"degree": 0}, r"`degree` \(=0\) must be at least 1"),
        ({"degree": 9}, r"`degree` \(=9\) must be at most `num_in` \(=8\)"),
        ({"compression": 0.9}, r"`compression` \(=0.9\) must be at least 1"),
        ({"degree": 2, "block": (3, 1)}, r"`num_out` \(=4\) must be a multiple of 3"),
        ({"degree": 2, "family": "expander"}, "unknown family 'expander'"),
        ({"degree": 2, "backend": "fast"}, "unknown backend 'fast'"),
        ({"graph": complete_graph(4, 8)}, "`graph` joins 4 inputs to 8 outputs"),
    ],
)
def test_bad_graphs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExpanderLinear(**LINEAR, **arguments)
    with pytest.raises(ValueError, match=message):
        ExpanderConv2d(**CONV, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, r"`kernel_size` \(=0\) must be at least 1"),
        ({"kernel_size": (3, 3, 3)}, r"`kernel_size` \(=\(3, 3, 3\)\) must be an int or 2 ints"),
        ({"stride": 0}, r"`stride` \(=0\) must be at least 1"),
        ({"padding": -1}, r"`padding` \(=-1\) must be at least 0"),
        ({"padding": "full"}, r"`padding` \(='full'\) must be an int, 2 ints, 'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, r"`padding`='same' needs `stride` 1"),
        ({"padding_mode": "wrap"}, r"`padding_mode` \(='wrap'\) must be one of zeros, reflect"),
        ({"groups": 3}, r"`in_channels` \(=8\) must be divisible by `groups` \(=3\)"),
        ({"groups": 0}, r"`groups` \(=0\) must be an int of at least 1"),
        ({"groups": 8}, r"`out_channels` \(=4\) must be divisible by `groups` \(=8\)"),
    ],
)
def test_bad_convolutions(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExpanderConv2d(**{**CONV, **arguments}, degree=2)


def test_bad_graph_types_and_crossing_groups() -> None:
    with pytest.raises(TypeError, match=r"`graph` must be .*BipartiteGraph, got ndarray"):
        ExpanderLinear(8, 4, graph=np.ones((4, 8)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"input 4 to output 0, which crosses the `groups` \(=2\)"):
        ExpanderConv2d(8, 4, 3, groups=2, graph=complete_graph(8, 4))


def test_bad_input(made: Any) -> None:
    make, shape = made
    layer = make(compression=2)
    with pytest.raises(ValueError, match=r"must have 24 (channels|features)"):
        layer(torch.randn(shape[0], 23, *shape[2:]))
    with pytest.raises(
        ValueError, match=r"`input` is torch.float64, but `weight` is torch.float32"
    ):
        layer(torch.randn(shape, dtype=torch.float64))
    with pytest.raises(ValueError, match="`input` is on meta, but `weight` is on cpu"):
        layer(torch.empty(shape, device="meta"))
    with pytest.raises(TypeError, match=r"`input` must be a torch\.Tensor, got ndarray"):
        layer(np.zeros(shape, dtype=np.float32))


def test_is_an_expander_layer() -> None:
    for make, _ in LAYERS.values():
        assert isinstance(make(compression=2), ExpanderLayer)
    assert list(itertools.islice(ExpanderLinear(4, 4, degree=2).state_dict(), 4)) == [
        "weight",
        "bias",
        "indptr",
        "indices",
    ]


def test_is_a_leaf_to_torch_fx() -> None:
    network = nn.Sequential(
        ExpanderConv2d(4, 8, 3, degree=2), nn.ReLU(), nn.Flatten(), ExpanderLinear(32, 3, degree=2)
    )
    traced = torch.fx.symbolic_trace(network)
    targets = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert targets == ["0", "1", "2", "3"]
    x = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(traced(x), network(x))
