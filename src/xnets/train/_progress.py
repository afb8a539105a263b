"""Progress on standard error: a bar on a terminal, lines in a file."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from xnets.train._errors import DivergedError
from xnets.train.module import Classifier

SECONDS = 30.0  # between two lines within an epoch, where there is no bar


class EpochProgress(pl.Callback):
    """One bar over all steps on a terminal, and a line per epoch (`print_epoch`) anywhere.

    Where there is no terminal, long epochs get a line every `SECONDS`. Lightning's own bar starts
    anew each epoch and writes to standard output.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._start = (0.0, 0)  # time and step when this process began
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        total, done = int(trainer.estimated_stepping_batches), trainer.global_step
        self._task = self._progress.add_task("training", total=total, completed=done)
        self._progress.start()
        self._last = time.monotonic()
        self._start = (self._last, done)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar; from time to time, look at the loss.

        Raises:
            DivergedError: If it is no number any more.
        """
        assert self._task is not None
        self._progress.update(self._task, completed=trainer.global_step)
        now = time.monotonic()
        if now - self._last < SECONDS:
            return
        self._last = now
        assert isinstance(pl_module, Classifier)
        loss = float(outputs["loss"])  # waits for the device, hence not at every step
        if not math.isfinite(loss):
            raise DivergedError(trainer.current_epoch + 1, loss, pl_module.recipe)
        if not self._console.is_terminal:
            self._print_step(trainer, batch_idx, loss, now)

    def print_epoch(self, trainer: pl.Trainer) -> None:
        """Print the line of an epoch that was saved."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._print(
            f"{_epoch(trainer)}"
            f"  loss {metrics['train_loss']:.4f}"
            f"  train {metrics['train_accuracy']:7.2%}"
            f"  test {metrics['test_accuracy']:7.2%}"
        )
        self._last = time.monotonic()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the bar, also after an interruption."""
        self._progress.stop()

    def _print_step(self, trainer: pl.Trainer, batch_idx: int, loss: float, now: float) -> None:
        began, first = self._start
        done = max(1, trainer.global_step - first)
        left = (
            (now - began) / done * (int(trainer.estimated_stepping_batches) - trainer.global_step)
        )
        self._print(
            f"{_epoch(trainer)}  step {batch_idx + 1}/{int(trainer.num_training_batches)}"
            f"  loss {loss:.4f}  {_clock(left)} left"
        )

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _epoch(trainer: pl.Trainer) -> str:
    width = len(str(trainer.max_epochs))
    return f"epoch {trainer.current_epoch + 1:>{width}}/{trainer.max_epochs}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
