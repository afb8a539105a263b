"""Small networks whose norms do something, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Randomize = Callable[[nn.Module], nn.Module]


def randomized(model: nn.Module) -> nn.Module:
    """The model in eval mode with statistics, scales and biases that are not the neutral ones."""
    generator = torch.Generator().manual_seed(1)

    def draw(tensor: Tensor, low: float, high: float) -> None:
        values = torch.rand(tensor.shape, generator=generator)
        tensor.copy_(low + (high - low) * values)

    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_mean"):
                draw(tensor, -0.3, 0.3)
            elif name.endswith("running_var"):
                draw(tensor, 0.5, 1.5)
            elif tensor.is_floating_point() and tensor.dim() == 1:
                draw(tensor, 0.6, 1.4) if name.endswith("weight") else draw(tensor, -0.3, 0.3)
            elif tensor.is_floating_point() and not tensor.any():
                draw(tensor, -0.3, 0.3)
    return model.eval()


def difference(found: object, expected: object) -> float:
    """The largest difference relative to the largest expected output; shapes must be equal."""
    worst = 0.0
    pairs = list(zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert b.abs().max() > 0
        worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
