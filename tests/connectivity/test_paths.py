"""Numbers of paths: against products of masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xnets
from tests.connectivity.networks import Net, conv
from xnets.nn import ExpanderConv2d, ExpanderLinear


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
