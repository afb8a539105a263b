"""Ctrl-C during training: an epoch's files and the logger's thread are not torn in two by it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from xnets._errors import UserError
from xnets.train._errors import Interrupted


class Interrupts(pl.Callback):
    """Raises KeyboardInterrupt on Ctrl-C, as Python does, but never within `held`.

    Python raises KeyboardInterrupt between any two steps of the main thread. Where it is within a
    library's exchange with a thread of its own, that thread may wait for ever; where it is within
    a destructor, it is lost, which the next batch finds out.
    """

    def __init__(self) -> None:
        self._asked = False  # at any time
        self._late = False  # within `held`
        self._held = 0

    @contextmanager
    def caught(self, trainer: pl.Trainer, folder: Path, writer: Any) -> Iterator[None]:
        """Take Ctrl-C for as long as Lightning trains, and say what is left.

        Args:
            trainer: Which trains inside.
            folder: The run folder.
            writer: The `RunWriter`, which knows how many epochs are saved.

        Raises:
            Interrupted: On Ctrl-C, to which Lightning answers with SystemExit(1).
        """
        before = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        try:
            if in_main_thread and before is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._handle)
            yield
        except (SystemExit, Exception) as error:
            # Workers that read images get Ctrl-C too; that they end may be noticed first.
            ours = self._asked and not isinstance(error, UserError)
            if not ours and not (isinstance(error, SystemExit) and trainer.interrupted):
                raise
            raise Interrupted(
                f"interrupted after {writer.saved} epochs; what is done is in {folder}"
            ) from error
        finally:
            # Lightning leaves it ignored. A handler that is not Python's cannot be put back.
            if in_main_thread and before is not None:
                signal.signal(signal.SIGINT, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let what is inside end first."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            late, self._late = self._late and not self._held, self._late and self._held > 0
        if late:
            raise KeyboardInterrupt

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ask again: only an interruption that was lost can have come so far."""
        if self._asked:
            raise KeyboardInterrupt

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask again."""
        if self._asked:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: Any) -> None:
        self._asked = True
        if self._held:
            self._late = True
        else:
            raise KeyboardInterrupt


class SteadyLogger(TensorBoardLogger):
    """TensorBoard's logger, whose queue loses a wake-up if Ctrl-C comes while it is written to.

    Args:
        folder: The run folder.
        interrupts: Who holds Ctrl-C back.
    """

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False)
        self._interrupts = interrupts

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers."""
        with self._interrupts.held():
            super().log_metrics(metrics, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write the recipe."""
        with self._interrupts.held():
            super().log_hyperparams(*args, **kwargs)

    def save(self) -> None:
        """Write what is waiting."""
        with self._interrupts.held():
            super().save()

    def finalize(self, status: str) -> None:
        """Write what is waiting, and end the thread."""
        with self._interrupts.held():
            super().finalize(status)
