"""The exponential moving average of the weights, by Lightning's callback."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(WeightAveraging):
    """Keeps the moving average that is tested and saved in place of the weights.

    Args:
        decay: What part of the average stays, per step.
    """

    def __init__(self, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)

        def update(averages: list[Tensor], values: list[Tensor], number: Tensor) -> None:
            # torch would average integers too and round them down: a graph would lose its edges.
            if averages[0].is_floating_point():
                average(averages, values, number)
            else:
                torch._foreach_copy_(averages, values)

        super().__init__(multi_avg_fn=update)

    @property
    def averaged(self) -> nn.Module:
        """The averaged copy of the Lightning module."""
        assert self._average_model is not None
        module: nn.Module = self._average_model.module
        return module
