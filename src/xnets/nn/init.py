"""torch.nn.init's variance-preserving rules, with the fan that an expander layer really has.

torch's functions read the fan off the weight's shape, which for a weight of (num_edges, *kernel) is
wrong. These take the layer and use the number of weights that meet at each edge's output or input.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from xnets.nn._base import ExpanderLayer


def kaiming_normal_(
    layer: ExpanderLayer, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Draw the weights from N(0, gain^2 / fan), He's rule, with the true fan of every edge.

    Source: He et al., ICCV 2015.

    Args:
        layer: An expander layer.
        a: Negative slope of the leaky ReLU that follows.
        mode: "fan_in" keeps the variance forward, "fan_out" backward.
        nonlinearity: As in torch.nn.init.calculate_gain.

    Returns:
        The layer's weight, changed in place.

    Raises:
        TypeError: If `layer` is no expander layer.
        ValueError: If the mode or the nonlinearity is unknown.

    Examples:
        >>> import xnets
        >>> layer = xnets.nn.ExpanderLinear(512, 512, compression=8)
        >>> kaiming_normal_(layer, nonlinearity="relu").shape
        torch.Size([32768, 1])
    """
    std = _gain(nonlinearity, a) * _fan(layer, mode).rsqrt()
    return _draw_normal(layer, std)


def kaiming_uniform_(
    layer: ExpanderLayer, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """As `kaiming_normal_`, from a uniform distribution of the same variance.

    Args:
        layer: An expander layer.
        a: Negative slope of the leaky ReLU that follows.
        mode: "fan_in" keeps the variance forward, "fan_out" backward.
        nonlinearity: As in torch.nn.init.calculate_gain.

    Returns:
        The layer's weight, changed in place.

    Raises:
        TypeError: If `layer` is no expander layer.
        ValueError: If the mode or the nonlinearity is unknown.

    Examples:
        >>> import xnets
        >>> kaiming_uniform_(xnets.nn.ExpanderLinear(8, 4, degree=2)).shape
        torch.Size([8, 1])
    """
    std = _gain(nonlinearity, a) * _fan(layer, mode).rsqrt()
    return _draw_uniform(layer, std)


def xavier_normal_(layer: ExpanderLayer, gain: float = 1.0) -> Tensor:
    """Draw the weights from N(0, 2 gain^2 / (fan_in + fan_out)), Glorot's rule, with true fans.

    Source: Glorot and Bengio, AISTATS 2010.

    Args:
        layer: An expander layer.
        gain: Scales the standard deviation.

    Returns:
        The layer's weight, changed in place.

    Raises:
        TypeError: If `layer` is no expander layer.

    Examples:
        >>> import xnets
        >>> xavier_normal_(xnets.nn.ExpanderLinear(8, 4, degree=2)).shape
        torch.Size([8, 1])
    """
    mean_fan = (_fan(layer, "fan_in") + _fan(layer, "fan_out")) / 2
    return _draw_normal(layer, gain * mean_fan.rsqrt())


def xavier_uniform_(layer: ExpanderLayer, gain: float = 1.0) -> Tensor:
    """As `xavier_normal_`, from a uniform distribution of the same variance.

    Args:
        layer: An expander layer.
        gain: Scales the standard deviation.

    Returns:
        The layer's weight, changed in place.

    Raises:
        TypeError: If `layer` is no expander layer.

    Examples:
        >>> import xnets
        >>> xavier_uniform_(xnets.nn.ExpanderLinear(8, 4, degree=2)).shape
        torch.Size([8, 1])
    """
    mean_fan = (_fan(layer, "fan_in") + _fan(layer, "fan_out")) / 2
    return _draw_uniform(layer, gain * mean_fan.rsqrt())


def _gain(nonlinearity: Any, a: float) -> float:
    return nn.init.calculate_gain(nonlinearity, a)


def _fan(layer: ExpanderLayer, mode: str) -> Tensor:
    if not isinstance(layer, ExpanderLayer):
        raise TypeError(
            f"`layer` must be an expander layer, got {type(layer).__name__}; "
            "for torch's layers use torch.nn.init"
        )
    return layer.edge_fan(mode)


def _draw_normal(layer: ExpanderLayer, std: Tensor) -> Tensor:
    with torch.no_grad():
        return layer.weight.normal_().mul_(std.to(layer.weight))


def _draw_uniform(layer: ExpanderLayer, std: Tensor) -> Tensor:
    with torch.no_grad():
        return layer.weight.uniform_(-math.sqrt(3), math.sqrt(3)).mul_(std.to(layer.weight))
