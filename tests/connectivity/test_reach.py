"""Reach: exact, against poking at real networks and against gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import xnets
from tests.connectivity.networks import IMAGE, NETS, RandomNet, poke, sensitive


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
