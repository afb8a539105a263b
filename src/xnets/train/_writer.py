"""What is written after each epoch: metrics, the network, and the state to go on from."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from xnets._errors import UserError
from xnets.train._averaging import MovingAverage
from xnets.train._checkpoint import NAME, save_checkpoint
from xnets.train._errors import DivergedError
from xnets.train._files import replacing, save_tensors
from xnets.train._run import STATE
from xnets.train.data import Dataset, FolderDataset
from xnets.train.module import Classifier

COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoint whole or not at all.

    Lightning's own writes to the system's folder for temporary files and moves from there, which
    copies if that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        save_tensors(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ValueError: If it is damaged.
        """
        try:
            return super().load_checkpoint(path, *args, **kwargs)
        except Exception as error:  # a damaged file can break its reader in any way
            reason = str(error).split("\n")[0][:200] or type(error).__name__
            raise UserError(f"{path} is damaged: {reason}; remove it to begin anew") from error


class RunWriter(Checkpoint):
    """Writes the files of a run after each epoch, so that a broken run keeps them.

    The state to go on from is written last: where it exists, the other files are as new as it.
    Being a `Checkpoint`, Lightning calls it after all other callbacks.

    Args:
        folder: The run folder.
        dataset: The data trained on.
        on_saved: Told of each epoch once all its files are there: who reads that an epoch is done
            may interrupt the run and use them.
        uninterrupted: Within it, no Ctrl-C comes between the files of one epoch.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Dataset | FolderDataset,
        on_saved: Callable[[pl.Trainer], None] = lambda trainer: None,
        uninterrupted: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.rows: list[dict[str, float]] = []
        self.saved = 0  # epochs whose files are all there
        self._folder = folder
        self._dataset = dataset
        self._on_saved = on_saved
        self._uninterrupted = uninterrupted
        self._seconds = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Time spent in the loop so far, also before a resumption."""
        if self._since is None:  # resumed when all epochs were done: the loop does not start
            return self._seconds
        return self._seconds + time.perf_counter() - self._since

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and save.

        Raises:
            DivergedError: If the loss is no number any more. The network of the last epoch is kept.
        """
        assert isinstance(pl_module, Classifier)
        with self._uninterrupted():
            self._save(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows = list(state_dict["rows"])
        self.saved = len(self.rows)
        self._seconds = state_dict["seconds"]

    def _save(self, trainer: pl.Trainer, pl_module: Classifier) -> None:
        epoch = trainer.current_epoch + 1
        row: dict[str, float] = {"epoch": epoch}
        for name in COLUMNS[1:-1]:
            row[name] = round(float(trainer.callback_metrics[name]), 6)
        row["lr"] = float(f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}")
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write_rows()
        loss = row["train_loss"]
        if not math.isfinite(loss):
            raise DivergedError(epoch, loss, pl_module.recipe)
        if trainer.is_global_zero:
            model = _tested_module(trainer, pl_module).model
            save_checkpoint(
                self._folder / NAME, model, pl_module.recipe, self._dataset, epoch=epoch
            )
        trainer.save_checkpoint(self._folder / STATE)  # in every process: they wait for each other
        self.saved = epoch
        self._on_saved(trainer)

    def _write_rows(self) -> None:
        with (
            replacing(self._folder / "metrics.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def _tested_module(trainer: pl.Trainer, module: Classifier) -> Classifier:
    """The module whose accuracy was measured: the averaged one, if there is an average."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, MovingAverage):
            averaged = callback.averaged
            assert isinstance(averaged, Classifier)
            return averaged
    return module
