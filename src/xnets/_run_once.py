"""Running a user's model once, to look at it, and leaving it as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def run_once(model: nn.Module, example_input: Any) -> Any:
    """Run `model` in eval mode without gradients, and restore every module's mode.

    Attention's fused path is off meanwhile: neither hooks nor the FLOP counter see into it.

    Args:
        model: Any module.
        example_input: A tensor, a tuple (or list) of arguments, or a dict of keyword arguments.

    Returns:
        What the model returns.
    """
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        if isinstance(example_input, dict):
            return model(**example_input)
        if isinstance(example_input, (tuple, list)):
            return model(*example_input)
        return model(example_input)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training
