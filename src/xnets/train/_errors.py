"""How a training run can end early."""

from __future__ import annotations

from xnets._errors import UserError
from xnets.train._recipe import Recipe


class Interrupted(KeyboardInterrupt):
    """Training was stopped from the keyboard; the message says what is left."""


class DivergedError(UserError):
    """The loss is not a number any more.

    Args:
        epoch: In which it happened, from 1.
        loss: What it was.
        recipe: What was trained.
    """

    def __init__(self, epoch: int, loss: float, recipe: Recipe) -> None:
        super().__init__(
            f"training diverged in epoch {epoch} of {recipe.epochs}: the loss is {loss}; lower "
            f"`lr` (={recipe.lr:g})"
        )
        self.epoch = epoch
