"""Initialisation with the true fan: compression does not change the scale of activations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import xnets
from xnets.nn import ExpanderConv2d, ExpanderLinear, init

WIDTH, DEPTH = 512, 20


def variances(layers: list[nn.Module], x: Tensor, *, relu: bool) -> list[float]:
    """Mean square of the activations after each layer."""
    result = []
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
            result.append(float(x.square().mean()))
            x = x.relu() if relu else x
    return result


@pytest.mark.parametrize("family", ["random", "random_fan_out", "shuffled"])
@pytest.mark.parametrize("compression", [1, 2, 8, 64])
def test_a_deep_stack_keeps_the_variance_of_its_activations(
    compression: float, family: str
) -> None:
    layers: list[nn.Module] = []
    for depth in range(DEPTH):
        layer = ExpanderLinear(
            WIDTH, WIDTH, bias=False, compression=compression, family=family, seed=depth
        )
        init.kaiming_normal_(layer, nonlinearity="relu")
        layers.append(layer)
    x = torch.randn(64, WIDTH)
    last = variances(layers, x, relu=True)[-1] / 2  # He's rule: pre-activations have variance 2
    # The dense stack's own spread at this width, over seeds, is 0.4 to 2.2.
    assert 0.25 < last < 4


@pytest.mark.parametrize("compression", [2, 8, 64])
def test_the_default_has_torchs_scale_at_any_compression(compression: float) -> None:
    """Layer by layer, the gain is what torch's default gives a dense layer: 1/3."""
    layers: list[nn.Module] = [
        ExpanderLinear(WIDTH, WIDTH, bias=False, compression=compression, seed=depth)
        for depth in range(10)
    ]
    gains = variances(layers, torch.randn(256, WIDTH), relu=False)
    mean_gain = gains[-1] ** (1 / len(layers))
    assert mean_gain == pytest.approx(1 / 3, rel=0.06)


def test_convolution_counts_its_kernel() -> None:
    layer = ExpanderConv2d(256, 256, 3, padding=1, padding_mode="circular", bias=False, degree=16)
    init.kaiming_normal_(layer, nonlinearity="linear")
    y = layer(torch.randn(4, 256, 8, 8))
    assert float(y.detach().var()) == pytest.approx(1, rel=0.1)


def test_irregular_fan_is_each_outputs_own() -> None:
    layer = ExpanderLinear(2048, 1024, bias=False, compression=64, family="random_fan_out")
    init.kaiming_uniform_(layer, nonlinearity="linear")
    y = layer(torch.randn(2000, 2048)).detach()
    used = torch.tensor(layer.graph.fan_in > 0)
    variance = y.var(0)[used]
    fan = torch.tensor(layer.graph.fan_in)[used]
    few, many = variance[fan <= fan.median()].mean(), variance[fan > fan.median()].mean()
    assert float(few) == pytest.approx(1, rel=0.15)
    assert float(many) == pytest.approx(1, rel=0.15)


def test_fan_out_keeps_the_variance_backward() -> None:
    layer = ExpanderLinear(512, 2048, bias=False, compression=8)
    init.kaiming_normal_(layer, mode="fan_out", nonlinearity="linear")
    x = torch.randn(64, 512, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x), x, torch.randn(64, 2048))
    assert float(gradient.var()) == pytest.approx(1, rel=0.1)


def test_xavier_is_between() -> None:
    layer = ExpanderLinear(512, 2048, bias=False, degree=64)
    for rule in (init.xavier_normal_, init.xavier_uniform_):
        rule(layer, gain=2)
        expected = 4 * 2 / (64 + 64 * 4)  # fan-out is 4 times fan-in, in the mean
        assert float(layer.weight.detach().var()) == pytest.approx(expected, rel=0.05)


def test_an_output_without_inputs_starts_at_zero() -> None:
    graph = xnets.graphs.BipartiteGraph(4, 3, [0, 2, 2, 4], [0, 1, 2, 3])
    layer = ExpanderLinear(4, 3, graph=graph)
    assert torch.isfinite(layer.weight).all()
    assert layer.bias[1] == 0
    assert layer.bias[0] != 0
    assert (
        ExpanderLinear(4, 3, graph=xnets.graphs.BipartiteGraph(4, 3, [0] * 4, [])).bias.eq(0).all()
    )


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="must be an expander layer, got Linear"):
        init.kaiming_normal_(nn.Linear(4, 4))  # type: ignore[arg-type]
    layer = ExpanderLinear(4, 4, degree=2)
    with pytest.raises(ValueError, match=r"`mode` \(='fan'\) must be 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(layer, mode="fan")
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.kaiming_normal_(layer, nonlinearity="step")
