"""How the learning rate changes over a training run."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from xnets.train._recipe import Recipe


def make_schedule(recipe: Recipe, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Make torch's scheduler of a recipe, to be stepped after every optimizer step.

    Args:
        recipe: Gives `schedule`, `lr`, `warmup`, `milestones`, `gamma`, `min_lr`.
        optimizer: Whose learning rate is changed; it is at `recipe.lr`.
        total_steps: Optimizer steps in all epochs together.

    Returns:
        The scheduler.

    Examples:
        >>> import torch
        >>> from xnets.train import get_recipe
        >>> recipe = get_recipe("digits", schedule="step", milestones=(0.5, 0.75), epochs=4, lr=1.0)
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = make_schedule(recipe, optimizer, total_steps=8)
        >>> for _ in range(8):
        ...     print(round(optimizer.param_groups[0]["lr"], 4), end=" ")
        ...     optimizer.step()
        ...     schedule.step()
        1.0 1.0 1.0 1.0 0.1 0.1 0.01 0.01
    """
    if recipe.schedule == "step":
        return _steps(recipe, optimizer, total_steps)
    if recipe.schedule == "one-cycle":
        # torch divides by zero where exactly one step rises; no step to rise then.
        warmup = 0.0 if recipe.warmup * total_steps == 1 else recipe.warmup
        return OneCycleLR(
            optimizer,
            max_lr=recipe.lr,
            total_steps=total_steps,
            pct_start=warmup,
            cycle_momentum=False,
        )
    rise = round(recipe.warmup * total_steps)
    fall = CosineAnnealingLR(optimizer, max(1, total_steps - rise), eta_min=recipe.min_lr)
    if rise == 0:
        return fall
    up = LinearLR(optimizer, start_factor=1 / (rise + 1), total_iters=rise)
    return SequentialLR(optimizer, [up, fall], milestones=[rise])


def _steps(recipe: Recipe, optimizer: Optimizer, total_steps: int) -> LambdaLR:
    # torch's MultiStepLR knows no floor. Changes come at whole epochs: 150 and 225 of 300.
    per_epoch = total_steps // recipe.epochs
    changes = [round(part * recipe.epochs) * per_epoch for part in recipe.milestones]
    floor = recipe.min_lr / recipe.lr
    return LambdaLR(
        optimizer, lambda step: max(recipe.gamma ** sum(step >= c for c in changes), floor)
    )
