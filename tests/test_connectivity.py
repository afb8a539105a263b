"""Connectivity: exact against poking at real networks and against products of masks."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

import xnets
from xnets.connectivity import _rules
from xnets.graphs import BipartiteGraph
from xnets.nn import ExpanderConv2d, ExpanderLinear

# --- against poking ------------------------------------------------------------------------------


class Net(nn.Module):
    """A network of named layers, and a function of them and the input."""

    def __init__(self, run: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def poke(model: nn.Module, x: Tensor, dim: int) -> dict[str, np.ndarray]:
    """For each layer (unit, input channel): whether the one changes with the other."""
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.9)  # positive: nothing cancels
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, xnets.nn.ExpanderLayer)):
            spatial = getattr(module, "spatial", len(getattr(module, "kernel_size", ())))

            def keep(m: nn.Module, a: object, out: Tensor, name: str = name, s: int = spatial):
                seen[name] = out.detach().movedim(out.dim() - 1 - s, 0).flatten(1).clone()

            hooks.append(module.register_forward_hook(keep))
    x = torch.rand_like(x.double())
    reach: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        model(x)
        base = dict(seen)
        for channel in range(x.shape[dim]):
            poked = x.clone()
            poked.select(dim, channel).copy_(torch.rand_like(x.select(dim, channel)))
            model(poked)
            for name, out in seen.items():
                changed = (out - base[name]).abs() > 1e-12 * base[name].abs()
                reach.setdefault(name, []).append(changed.any(1))
    for hook in hooks:
        hook.remove()
    return {name: torch.stack(columns, 1).numpy() for name, columns in reach.items()}


def conv(num_in: int, num_out: int, kernel: int = 1, **options: object) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, **options)


def xconv(num_in: int, num_out: int, seed: int = 0) -> ExpanderConv2d:
    return ExpanderConv2d(num_in, num_out, 1, degree=2, seed=seed)


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def write_slices(net: Net, x: Tensor) -> Tensor:
    y = torch.zeros(1, 8, 4, 4, dtype=x.dtype)
    first, second = y[:, :4], y[:, 4:]
    first.copy_(net.a(x)[:, :4])
    y[:, 4:6] = x[:, :2]
    second.add_(x[:, 4:])
    F.softplus(first).mul_(2)
    return net.b(y)


def roll_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    y += x.flip(1)
    y.relu_().add_(1).clamp_(0, 9).mul_(x[:, :1])
    return net.b(torch.roll(y, 1, dims=1))


def attend(net: Net, x: Tensor) -> Tensor:  # (1, 5, 8): with a class token, in two heads
    tokens = torch.cat([torch.ones(1, 1, 8, dtype=x.dtype), net.a(x)], dim=1)
    q, k, v = net.b(tokens).view(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return net.d(net.c(out + tokens)[:, 0])


IMAGE, TOKENS = (1, 8, 4, 4), (1, 5, 8)
EYE = torch.eye(8, 12, dtype=torch.float64)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "chain": (
        lambda: nn.Sequential(xconv(8, 6), nn.Softplus(), xconv(6, 9, 1), nn.SiLU(), xconv(9, 5)),
        IMAGE,
        1,
    ),
    "groups": (
        lambda: nn.Sequential(conv(8, 8, 3, groups=4), nn.BatchNorm2d(8), conv(8, 12, groups=2)),
        IMAGE,
        1,
    ),
    "residual": (
        lambda: Net(lambda n, x: n.b(x + F.gelu(n.a(x))), a=xconv(8, 8), b=xconv(8, 8, 1)),
        IMAGE,
        1,
    ),
    "concat": (
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), x[:, 2:5], n.b(x)], 1)),
            a=xconv(8, 3),
            b=xconv(8, 4, 1),
            c=conv(10, 10, groups=5),
        ),
        IMAGE,
        1,
    ),
    "shuffle": (
        lambda: Net(
            lambda n, x: n.b(shuffle(n.a(x), 4)),
            a=conv(8, 8, groups=4),
            b=conv(8, 8, 3, groups=4),
        ),
        IMAGE,
        1,
    ),
    "torchs shuffle": (
        lambda: nn.Sequential(conv(8, 8, groups=4), nn.ChannelShuffle(2), conv(8, 8, groups=4)),
        IMAGE,
        1,
    ),
    "split": (
        lambda: Net(
            lambda n, x: n.b(torch.cat([n.a(x.chunk(2, 1)[0]), x.split([3, 5], 1)[1]], 1)),
            a=xconv(4, 4),
            b=conv(9, 9, groups=3),
        ),
        IMAGE,
        1,
    ),
    "flatten": (
        lambda: nn.Sequential(
            xconv(8, 6), nn.AvgPool2d(2), nn.Flatten(), ExpanderLinear(24, 7, degree=3)
        ),
        IMAGE,
        1,
    ),
    "pools": (
        lambda: nn.Sequential(
            xconv(8, 6),
            nn.MaxPool2d(3, 2, 1),
            nn.Upsample(scale_factor=2),
            nn.ReflectionPad2d(1),
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(),
            nn.Flatten(),
            ExpanderLinear(6, 6, degree=2),
        ),
        IMAGE,
        1,
    ),
    "gate": (
        lambda: Net(
            lambda n, x: n.c(n.a(x) * torch.sigmoid(n.b(x.mean((2, 3), keepdim=True)))),
            a=xconv(8, 8),
            b=xconv(8, 8, 1),
            c=conv(8, 8, groups=4),
        ),
        IMAGE,
        1,
    ),
    "group norm": (
        lambda: nn.Sequential(xconv(8, 8), nn.GroupNorm(4, 8), conv(8, 8, groups=8)),
        IMAGE,
        1,
    ),
    "layer norm": (
        lambda: nn.Sequential(
            ExpanderLinear(8, 8, degree=2), nn.LayerNorm(8), ExpanderLinear(8, 8, degree=1)
        ),
        TOKENS,
        2,
    ),
    "attention": (
        lambda: Net(
            attend,
            a=ExpanderLinear(8, 8, degree=1),
            b=ExpanderLinear(8, 24, degree=1, seed=1),
            c=ExpanderLinear(8, 8, degree=1, seed=2),
            d=ExpanderLinear(8, 8, degree=2, seed=3),
        ),
        TOKENS,
        2,
    ),
    "token mixing": (
        lambda: Net(
            lambda n, x: n.b(n.a(x).transpose(1, 2).contiguous() @ torch.ones(5, 3).double()),
            a=ExpanderLinear(8, 8, degree=2),
            b=nn.Conv1d(8, 8, 1, groups=4),
        ),
        TOKENS,
        2,
    ),
    "channels padded": (
        lambda: Net(
            lambda n, x: n.b(n.a(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))),
            a=nn.Conv2d(8, 12, 2, 2, groups=4),
            b=conv(12, 12, groups=6),
        ),
        IMAGE,
        1,
    ),
    "written slices": (lambda: Net(write_slices, a=xconv(8, 8), b=conv(8, 8, groups=8)), IMAGE, 1),
    "in place": (lambda: Net(roll_in_place, a=xconv(8, 8), b=conv(8, 8, groups=8)), IMAGE, 1),
    "transposed": (
        lambda: nn.Sequential(
            xconv(8, 8), nn.ConvTranspose2d(8, 12, 2, 2, groups=4), conv(12, 4, groups=4)
        ),
        IMAGE,
        1,
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(
            nn.PixelShuffle(2), conv(2, 2, groups=2), nn.PixelUnshuffle(2), conv(8, 8, groups=4)
        ),
        IMAGE,
        1,
    ),
    "convolution over channels": (
        lambda: Net(
            lambda n, x: n.b(x * torch.sigmoid(n.a(x.mean((2, 3))[:, None]))[:, 0, :, None, None]),
            a=nn.Conv1d(1, 1, 3, padding=1),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "pool over channels": (
        lambda: Net(
            lambda n, x: n.b(F.avg_pool1d(n.a(x), 2)), a=ExpanderLinear(8, 8, degree=1),
            b=ExpanderLinear(4, 4, degree=1),
        ),
        TOKENS,
        2,
    ),
    "einsum and glu": (
        lambda: Net(
            lambda n, x: n.b(F.glu(torch.einsum("nchw,cd->ndhw", n.a(x), EYE), 1)),
            a=xconv(8, 8),
            b=conv(6, 6, groups=6),
        ),
        IMAGE,
        1,
    ),
    "unfold": (
        lambda: Net(
            lambda n, x: n.b(F.fold(F.unfold(n.a(x), 2), (4, 4), 2)),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "masks": (
        lambda: Net(
            lambda n, x: n.b(
                torch.where(torch.arange(8)[:, None, None] < 3, n.a(x), x.flip(1)).masked_fill(
                    torch.arange(8)[:, None, None] == 5, 0.5
                )
            ),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "running sums": (
        lambda: Net(
            lambda n, x: n.b(n.a(x).cumsum(1) + x.logcumsumexp(-1)),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "fourier and complex": (
        lambda: Net(
            lambda n, x: n.b(
                torch.view_as_real(
                    torch.view_as_complex(
                        torch.fft.irfft2(torch.fft.rfft2(n.a(x)) * (1 + 2j)).unflatten(-1, (2, 2))
                    )
                    * (1 + 1j)
                ).flatten(-2)
            ),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "copied and embedded": (
        lambda: Net(
            lambda n, x: n.b(
                torch.diag_embed(n.a(x).index_copy(2, torch.tensor([6, 1]), x[..., 2:4])).sum(-1)
            ),
            a=ExpanderLinear(8, 8, degree=2),
            b=ExpanderLinear(8, 8, degree=1),
        ),
        TOKENS,
        2,
    ),
    "without batch": (lambda: nn.Sequential(xconv(8, 8), xconv(8, 4, 1)), (8, 4, 4), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_reach_is_what_poking_finds(name: str) -> None:
    build, shape, dim = NETS[name]
    model = build()
    expected = poke(model, torch.zeros(shape), dim)
    ignore_zeros = name == "einsum and glu"  # its matrix holds zeros
    report = xnets.connectivity(
        model, torch.rand(shape, dtype=torch.float64), ignore_zeros=ignore_zeros
    )
    assert report.assumed_mixing == ()
    found = {layer.name: layer for layer in report.layers if layer.name}
    assert set(found) == set(expected)
    for layer_name, reach in expected.items():
        np.testing.assert_array_equal(found[layer_name].reach, reach, err_msg=layer_name)
        assert found[layer_name].connected == reach.mean()
        assert found[layer_name].dead == tuple(np.flatnonzero(~reach.any(1)))


class RandomNet(nn.Module):
    """Layers and tensor operations drawn at random, with any earlier result as second argument."""

    def __init__(self, seed: int, steps: int = 12) -> None:
        super().__init__()
        draw = np.random.default_rng(seed)
        self.steps = [(int(draw.integers(12)), int(draw.integers(i + 1))) for i in range(steps)]
        for i, (kind, _) in enumerate(self.steps):
            if kind in (0, 1, 2):
                self.add_module(f"step{i}", xconv(8, 8, seed=i))
            elif kind in (3, 4):
                self.add_module(f"step{i}", conv(8, 8, 3, groups=(2, 4)[kind - 3]))
        self.last = conv(8, 8, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        past = [x]
        for i, (kind, at) in enumerate(self.steps):
            y, other = past[-1], past[at]
            if kind < 5:
                y = self.get_submodule(f"step{i}")(y)
            elif kind == 5:
                y = y + F.silu(other)
            elif kind == 6:
                y = y * torch.rsqrt(1 + other.mean((2, 3), keepdim=True))  # never saturates
            elif kind == 7:
                y = shuffle(y, 2)
            elif kind == 8:
                y = torch.cat([y[:, ::2], other[:, 1::2]], 1)
            elif kind == 9:
                y = y.clone()
                y[:, 2:5] = other[:, :3]
            elif kind == 10:
                y = torch.stack(other.unbind(1)[::-1], 1).add_(y.roll(3, 1))
            else:
                y = F.max_pool2d(y.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2), 3, 1, 1)
            past.append(y / 8)
        return self.last(past[-1])


def sensitive(model: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    """For each layer (unit, input channel): whether the gradient of the one is not zero."""
    seen: dict[str, Tensor] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, a, out, name=name: seen.update({name: out}))
    x.requires_grad_()
    model(x)
    reach = {}
    for name, out in seen.items():
        gradients = [torch.autograd.grad(u.sum(), x, retain_graph=True)[0] for u in out.unbind(1)]
        reach[name] = np.stack([(g != 0).any(-1).any(-1)[0].numpy() for g in gradients])
    return reach


@pytest.mark.parametrize("seed", range(15))
def test_reach_is_where_gradients_are_in_random_networks(seed: int) -> None:
    """A gradient sees the faintest influence, which poking loses in the rounding."""
    model = RandomNet(seed).double().eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.9)
    report = xnets.connectivity(model, torch.rand(IMAGE, dtype=torch.float64))
    expected = sensitive(model, torch.rand(IMAGE, dtype=torch.float64))
    assert report.assumed_mixing == ()
    for layer in report.layers:
        np.testing.assert_array_equal(layer.reach, expected[layer.name], err_msg=layer.name)


# --- numbers of paths ----------------------------------------------------------------------------


def masks(model: nn.Sequential) -> list[np.ndarray]:
    return [m.graph.mask().astype(np.int64) for m in model if isinstance(m, xnets.nn.ExpanderLayer)]


@pytest.mark.parametrize("backend", ["reference", "masked", "gather"])
@pytest.mark.parametrize("family", ["random", "grouped", "released"])
def test_paths_are_products_of_masks(family: str, backend: str) -> None:
    options = {"compression": 2, "family": family, "backend": backend}
    model = nn.Sequential(
        ExpanderConv2d(8, 12, 3, padding=1, seed=1, **options),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        ExpanderConv2d(12, 16, 3, stride=2, block=(2, 2), seed=2, **options),
        ExpanderConv2d(16, 8, 1, seed=3, **options),
    )
    report = xnets.connectivity(model, torch.zeros(1, 8, 9, 9))
    paths = np.eye(8, dtype=np.int64)
    for depth, (layer, mask) in enumerate(zip(report.layers, masks(model), strict=True), start=1):
        paths = mask @ paths
        np.testing.assert_allclose(10.0**layer.log10_paths, paths, rtol=1e-5)
        assert layer.depth == depth
        assert layer.connected == (paths > 0).mean()
        assert layer.fan_in == (mask.sum(1).min(), mask.sum(1).max())
        assert layer.unevenness == pytest.approx(paths.std() / paths.mean())
        assert layer.log10_paths_mean == pytest.approx(math.log10(paths.mean()))
        assert layer.log10_paths_max == pytest.approx(math.log10(paths.max()))
        low = paths.min()
        assert layer.log10_paths_min == (pytest.approx(math.log10(low)) if low else None)


def test_a_path_is_counted_once_however_many_kernels_and_positions_it_has() -> None:
    net = nn.Sequential(conv(2, 3, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    report = xnets.connectivity(net, torch.zeros(1, 2, 8, 8))
    assert [10**layer.log10_paths_max for layer in report.layers] == pytest.approx([1, 3])
    assert report.layers[1].inputs == 3  # channels, each at four positions


def test_sums_join_paths_and_gates_do_not_double_them() -> None:
    net = Net(lambda n, x: n.b(x + n.a(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    assert 10 ** xnets.connectivity(net, torch.zeros(1, 4)).layers[1].log10_paths_mean == (
        pytest.approx(1 + 4)
    )
    net = Net(lambda n, x: n.b(x * torch.sigmoid(x)), b=nn.Linear(4, 4))
    assert xnets.connectivity(net, torch.zeros(1, 4)).layers[0].log10_paths_max == 0


def test_paths_never_overflow_and_few_are_not_lost_beside_many() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(64, 64, bias=False)
            self.last = nn.Linear(128, 1)

        def forward(self, x: Tensor) -> Tensor:
            deep = x[:, :64]
            for _ in range(400):  # 64**399 paths: beyond float64
                deep = self.shared(deep)
            return self.last(torch.cat([deep, x[:, 64:]], 1))

    report = xnets.connectivity(Deep(), torch.zeros(1, 128))
    last = report.layers[-1]
    assert last.connected == 1
    assert last.log10_paths_max == pytest.approx(400 * math.log10(64))
    assert last.log10_paths_min == pytest.approx(0)
    assert report.layers[-2].name == "shared#400"
    assert report.layers[-2].depth == 400


def test_few_paths_beside_many_in_one_column() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(8, 8)
            self.last = ExpanderLinear(16, 16, graph=xnets.graphs.grouped_graph(16, 16, degree=2))

        def forward(self, x: Tensor) -> Tensor:
            deep = x
            for _ in range(400):
                deep = self.shared(deep)
            return self.last(torch.cat([deep, x], 1))

    last = xnets.connectivity(Deep(), torch.zeros(1, 8)).layers[-1]
    expected = np.full((8, 8), -np.inf)
    expected[np.arange(8), np.arange(8)] = 0
    expected[np.arange(8), np.arange(8) ^ 1] = 0
    np.testing.assert_array_equal(last.log10_paths[8:], expected)


def test_unevenness_of_separate_groups_is_the_root_of_their_number_less_one() -> None:
    net = nn.Sequential(*(ExpanderLinear(32, 32, compression=8, family="grouped") for _ in "123"))
    report = xnets.connectivity(net, torch.zeros(1, 32))
    assert [layer.unevenness for layer in report.layers] == pytest.approx([7**0.5] * 3)


# --- what the report says ------------------------------------------------------------------------


def test_dead_and_unused_units() -> None:
    first = [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]  # input 2 unused, unit 2 dead
    second = [[0, 1, 1, 0], [0, 0, 0, 0]]  # units 0 and 3 unread, so input 1 is unused too
    layers = [
        ExpanderLinear(len(m[0]), len(m), graph=BipartiteGraph.from_mask(m))
        for m in (first, second)
    ]
    report = xnets.connectivity(nn.Sequential(*layers), torch.zeros(1, 3))
    assert [(layer.dead, layer.unused) for layer in report.layers] == [((2,), (0, 3)), ((1,), ())]
    assert report.unused_inputs == (1, 2)
    assert (report.num_dead, report.num_unused) == (2, 2)
    assert "dead units: 2; unused units: 2; unused inputs: 2 of 3" in str(report)
    assert report.layers[0].fan_in == (0, 1)


def test_zeros_cut_only_if_asked() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
    assert xnets.connectivity(layer, torch.zeros(1, 4)).layers[0].connected == 1
    report = xnets.connectivity(layer, torch.zeros(1, 4), ignore_zeros=True)
    assert report.layers[0].connected == 0.25
    pruned = nn.Sequential(conv(4, 4, groups=2), ExpanderConv2d(4, 4, 1, degree=4))
    prune.l1_unstructured(pruned[0], "weight", 6)
    with torch.no_grad():
        pruned[1].weight[:4] = 0  # all of the first output's
    report = xnets.connectivity(pruned, torch.zeros(1, 4, 2, 2), ignore_zeros=True)
    assert report.layers[0].fan_in[0] < 2
    assert report.layers[0].reach.sum() == 2
    assert report.layers[1].dead == (0,)


def test_norms_may_be_left_out() -> None:
    net = nn.Sequential(nn.LayerNorm(8), ExpanderLinear(8, 8, degree=2))
    x = torch.zeros(1, 3, 8)
    assert xnets.connectivity(net, x).layers[0].connected == 1
    assert xnets.connectivity(net, x, norms="pass").layers[0].connected == 0.25
    net = nn.Sequential(nn.GroupNorm(1, 8), xconv(8, 8))
    assert xnets.connectivity(net, torch.zeros(1, 8, 2, 2), norms="pass").layers[0].connected == (
        0.25
    )


def test_the_source_may_be_a_layer_or_the_first_sparse_one() -> None:
    net = nn.Sequential(
        conv(3, 16), conv(16, 16, 3, groups=16), conv(16, 16, groups=4), xconv(16, 8)
    )
    x = torch.zeros(1, 3, 5, 5)
    whole = xnets.connectivity(net, x)
    assert (whole.num_sources, whole.depth, whole.full_at.name) == (3, 1, "0")
    named = xnets.connectivity(net, x, source="0")
    auto = xnets.connectivity(net, x, source="auto")
    assert named.source == "units of '0'"
    assert auto.source == "inputs of '2', the first sparse layer"
    assert [layer.name for layer in named.layers] == ["1", "2", "3"]
    assert [layer.name for layer in auto.layers] == ["2", "3"]
    assert named.num_sources == auto.num_sources == 16
    assert [layer.connected for layer in auto.layers] == [0.25, named.layers[2].connected]
    assert [layer.depth for layer in named.layers] == [0, 1, 2]
    assert auto.full_at is None
    assert auto.depth is None
    assert auto.bottleneck.name == "2"
    assert auto.bottleneck.gain == pytest.approx((4 / 16 - 1 / 16) / (15 / 16))
    dense = xnets.connectivity(conv(3, 4), x, source="auto")
    assert dense.source == "channels of the input"


def test_what_lies_beside_the_source_is_left_out() -> None:
    net = Net(
        lambda n, x: n.c(n.a(x) + n.b(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4)
    )
    report = xnets.connectivity(net, torch.zeros(1, 4), source="a")
    assert [layer.name for layer in report.layers] == ["c"]


def test_groups_never_mix_and_expanders_do() -> None:
    def shares(family: str) -> list[float]:
        model = xnets.create_model("mobilenet", compression=8, family=family)
        report = xnets.connectivity(model, torch.zeros(1, 3, 32, 32), source="auto")
        return [layer.connected for layer in report.layers if layer.mixes]

    assert shares("grouped") == [1 / 8] * 12 + [1]
    expander = shares("random")
    assert expander[0] == 1 / 8
    assert expander[3:] == [1] * 10


def test_several_inputs_outputs_and_integers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.a = nn.Linear(3, 4)
            self.b = nn.Linear(4, 2)

        def forward(self, x: Tensor, tokens: Tensor) -> dict[str, list[Tensor]]:
            return {"out": [self.b(self.a(x)), self.embed(tokens)]}

    args = (torch.zeros(1, 3), torch.zeros(1, 5, dtype=torch.int64))
    report = xnets.connectivity(Two(), args)
    assert report.num_sources == report.num_inputs == 4
    shares = {layer.name: layer.connected for layer in report.layers}
    assert shares == {"a": 0.75, "b": 0.75, "embed": 0.25}
    assert report.num_unused == 0
    same = xnets.connectivity(Two(), dict(zip(("x", "tokens"), args, strict=True)))
    assert same == report


def test_complex_inputs_have_channels() -> None:
    net = Net(lambda n, x: n.a(torch.view_as_real(x).mean(-1)), a=ExpanderLinear(8, 8, degree=2))
    report = xnets.connectivity(net, torch.zeros(1, 8, dtype=torch.complex64))
    assert (report.num_sources, report.layers[0].connected) == (8, 0.25)


def test_long_running_sums_are_said_to_read_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(lambda n, x: n.a(x.cumsum(1)), a=ExpanderLinear(8, 8, degree=1))
    exact = xnets.connectivity(net, torch.zeros(1, 8))
    monkeypatch.setattr(_rules, "_MANY", 63)
    report = xnets.connectivity(net, torch.zeros(1, 8))
    assert exact.assumed_mixing == ()
    assert report.assumed_mixing[0].why == "reads all along its dimension"
    assert exact.layers[0].connected < report.layers[0].connected == 1


def test_an_unknown_operation_is_reported_and_mixes_everything() -> None:
    net = Net(
        lambda n, x: n.b(torch.linalg.matrix_exp(n.a(x))),
        a=ExpanderLinear(8, 8, degree=2, family="grouped"),
        b=ExpanderLinear(8, 8, degree=2),
    )
    report = xnets.connectivity(net, torch.zeros(1, 8, 8), dim=2)
    (assumed,) = report.assumed_mixing
    assert (assumed.op, assumed.where, assumed.why) == ("linalg_matrix_exp", "", "mixes everything")
    assert [layer.connected for layer in report.layers] == [0.25, 1]
    assert "assumed: linalg_matrix_exp in 'the model' mixes everything" in str(report)

    reader = Net(lambda n, x: n.a(x) if x.sum().item() > 9 else n.a(-x), a=nn.Linear(2, 2))
    (assumed,) = xnets.connectivity(reader, torch.zeros(1, 2)).assumed_mixing
    assert "read into Python" in assumed.why


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    xnets.connectivity(net, torch.rand(3, 4))
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError):
        xnets.connectivity(net, torch.rand(3, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_nothing_need_be_computed() -> None:
    with torch.device("meta"):
        net = nn.Sequential(
            nn.Conv2d(3, 512, 3), nn.ReLU(inplace=True), ExpanderConv2d(512, 512, 3, degree=32)
        )
        image = torch.zeros(1, 3, 32, 32)
        report = xnets.connectivity(net, image, source="auto")
    assert report.num_sources == 512
    assert report.layers[0].connected == 32 / 512
    assert report.assumed_mixing == ()


def test_report_as_text_and_json() -> None:
    net = nn.Sequential(*(ExpanderLinear(16, 16, degree=4, seed=s) for s in range(3)))
    report = xnets.connectivity(net, torch.zeros(1, 16))
    loaded = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert loaded["layers"][0]["connected"] == 0.25
    assert loaded["layers"][0]["log10_paths_min"] is None
    assert loaded["full_at"] == (report.full_at.name if report.full_at else None)
    lines = str(report).splitlines()
    assert lines[0].split()[:3] == ["layer", "kind", "depth"]
    assert lines[5] == "sources: channels of the input (16)"
    assert report == xnets.connectivity(net, torch.zeros(1, 16))


def test_almost_all_is_not_printed_as_all() -> None:
    mask = np.ones((40, 40))
    mask[0, 0] = 0
    layer = ExpanderLinear(40, 40, graph=BipartiteGraph.from_mask(mask))
    assert " 99.9% " in str(xnets.connectivity(layer, torch.zeros(1, 40)))


def test_pictures_are_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    net = nn.Sequential(*(ExpanderLinear(16, 16, degree=4, seed=s) for s in range(3)))
    report = xnets.connectivity(net, torch.zeros(1, 16))
    for path in (tmp_path / "reach.png", tmp_path / "reach.svg"):
        report.plot(path)
        assert path.stat().st_size > 1000
    no_layers = xnets.connectivity(nn.ReLU(), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"there is nothing to draw: no layer"):
        no_layers.plot(tmp_path / "none.png")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["reach.png", "reach.svg"]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "1a"}, r"unknown source '1a'; .*known: auto, 0, 1"),
        ({"norms": "mixed"}, r"unknown norms 'mixed'; did you mean 'mix'\? known: mix, pass"),
        ({"dim": 2}, r"`dim` \(=2\) must be a dimension of the example input of shape \(1, 4\)"),
    ],
)
def test_bad_values(options: dict[str, object], message: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(ValueError, match=message):
        xnets.connectivity(net, torch.zeros(1, 4), **options)


def test_bad_models_and_inputs() -> None:
    compiled = nn.Sequential(nn.Linear(2, 2), torch.compile(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"its module '1' is compiled or scripted: give the plain"):
        xnets.connectivity(compiled, torch.zeros(1, 2))
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got Tensor"):
        xnets.connectivity(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match=r"`example_input` holds no tensor"):
        xnets.connectivity(nn.Linear(2, 2), {})


def test_it_loads_no_library_that_it_does_not_need() -> None:
    code = (
        "import sys, torch, xnets; xnets.connectivity(torch.nn.Linear(2, 2), torch.zeros(1, 2)); "
        "print([m for m in ('matplotlib', 'networkx', 'torchvision') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


# --- other people's networks ---------------------------------------------------------------------


def check_image_model(model: nn.Module, size: int) -> None:
    report = xnets.connectivity(model, torch.zeros(1, 3, size, size), source="auto")
    assert report.layers
    assert report.layers[-1].connected == 1
    assert report.assumed_mixing == ()
    assert report.num_dead == 0
    assert report.unused_inputs == ()


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    check_image_model(models.get_model(name), 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "maxvit_t", "mnasnet0_5"),
        *("regnet_y_400mf", "resnext50_32x4d", "squeezenet1_0", "swin_t", "vgg11_bn", "vit_b_16"),
    ],
)
def test_more_of_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    check_image_model(models.get_model(name), 224)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(
            "eca_resnet33ts",
            "mixer_s32_224",
            "poolformer_s12",
            "xcit_nano_12_p16_224",
            "levit_128s",
        ),
        *("edgenext_xx_small", "ghostnet_100", "skresnet18", "resnest14d", "volo_d1_224", "dpn68"),
        *("pvt_v2_b0", "res2net50_14w_8s", "hrnet_w18_small", "mobilevit_xxs", "cait_xxs24_224"),
    ],
)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name)
    check_image_model(model, model.default_cfg["input_size"][-1])


def test_shufflenets_shuffle_is_seen() -> None:
    """Half of the channels pass each block by, so that without shuffles they would stay apart."""
    models = pytest.importorskip("torchvision.models")
    model = models.shufflenet_v2_x0_5()
    report = xnets.connectivity(model, torch.zeros(1, 3, 64, 64), source="stage2.0.branch2.5")
    shares = {layer.name: layer.connected for layer in report.layers}
    assert shares["stage2.1.branch2.0"] == 0.5
    assert shares["stage2.2.branch2.0"] == 0.75
