"""How long the networks of a comparison take, all of them on one machine and in turns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from xnets.bench.timer import Run, Timing, time_interleaved
from xnets.compare._rows import TrialRow
from xnets.compare._trials import Trial
from xnets.train._checkpoint import build_model, data_arguments
from xnets.train._machine import cpu_threads
from xnets.train.data import Dataset, FolderDataset

IMAGES = 16  # of a forward pass
SECONDS = 0.1  # for each network, about


def time_networks(
    trials: Mapping[str, Trial],
    data: Dataset | FolderDataset,
    device: torch.device,
    *,
    seconds: float | None = None,
) -> dict[str, Timing]:
    """Time a forward pass of each network, without its training: weights do not change the time.

    Args:
        trials: A trial of each network, by its label.
        data: Whose images the networks take.
        device: Where they run.
        seconds: How long to time each, about; 0.1 by default.

    Returns:
        Milliseconds for `IMAGES` images, by label.
    """
    threads = next(iter(trials.values())).recipe.threads if trials else None
    with cpu_threads(threads), torch.inference_mode(), torch.random.fork_rng(devices=[]):
        images = torch.randn(IMAGES, data.in_channels, *data.image_size).to(device)
        runs: dict[str, list[Run]] = {}
        for label, trial in trials.items():
            net = build_model(trial.recipe, **data_arguments(data)).to(device).eval()
            net(images)  # the first call prepares tables
            runs[label] = [_forward(net, images)]
        return time_interleaved(runs, seconds=seconds or SECONDS, device=device.type)


def first_of_each(trials: list[Trial], rows: Mapping[str, TrialRow]) -> dict[str, Trial]:
    """The first finished trial of each network, by its label."""
    found: dict[str, Trial] = {}
    for trial in trials:
        if trial.name in rows:
            found.setdefault(trial.label, trial)
    return found


def _forward(net: nn.Module, images: torch.Tensor) -> Run:
    return lambda: net(images)
