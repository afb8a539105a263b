"""What happens beside the training loop: files after each epoch, and progress on the screen."""

from __future__ import annotations

import csv
from pathlib import Path
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

from xnets.train._checkpoint import NAME, save_checkpoint
from xnets.train._files import replacing
from xnets.train.data import Dataset
from xnets.train.module import Classifier

COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr")


class RunWriter(pl.Callback):
    """Writes metrics.csv and the checkpoint after each epoch, so that a broken run keeps them.

    Args:
        folder: The run folder.
        dataset: The data trained on.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.rows: list[dict[str, float]] = []
        self._folder = folder
        self._dataset = dataset

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row."""
        assert isinstance(pl_module, Classifier)
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        for name in COLUMNS[1:-1]:
            row[name] = round(float(trainer.callback_metrics[name]), 6)
        row["lr"] = float(f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}")
        self.rows.append(row)
        with (
            replacing(self._folder / "metrics.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        save_checkpoint(
            self._folder / NAME,
            pl_module.model,
            pl_module.recipe,
            self._dataset,
            epoch=trainer.current_epoch + 1,
        )


class EpochProgress(pl.Callback):
    """One bar over all steps on a terminal, and a line per epoch anywhere.

    Lightning's own bar starts anew each epoch and writes to standard output.

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

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        steps = int(trainer.estimated_stepping_batches)
        self._task = self._progress.add_task("training", total=steps)
        self._progress.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        assert self._task is not None
        self._progress.advance(self._task)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's line."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        width = len(str(trainer.max_epochs))
        self._console.print(
            f"epoch {trainer.current_epoch + 1:>{width}}/{trainer.max_epochs}"
            f"  loss {metrics['train_loss']:.4f}"
            f"  train {metrics['train_accuracy']:7.2%}"
            f"  test {metrics['test_accuracy']:7.2%}",
            highlight=False,
        )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the bar, also after an interruption."""
        self._progress.stop()
