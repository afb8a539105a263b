"""Lightning's loop, set up for a recipe and quiet about itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xnets.train._distributed import World, cluster_environment
from xnets.train._recipe import Recipe
from xnets.train._run import Run
from xnets.train.data import Augmentation, Dataset, FolderDataset, Share


@dataclass(frozen=True)
class Fitted:
    """What the loop leaves beside the trained network.

    Args:
        rows: Of metrics.csv.
        seconds: Spent in the loop, also before a resumption.
    """

    rows: list[dict[str, float]]
    seconds: float


def fit(
    model: nn.Module,
    recipe: Recipe,
    dataset: Dataset | FolderDataset,
    run: Run,
    world: World,
    device: torch.device,
    *,
    quiet: bool,
) -> Fitted:
    """Train a network in place.

    Args:
        model: The network; afterwards it has the weights that are tested: the average, if any.
        recipe: How.
        dataset: On what, on the device.
        run: Where, and from what state on.
        world: With which other processes.
        device: Of this process.
        quiet: Whether to show no progress.

    Returns:
        The metrics of each epoch, and the time.
    """
    import lightning.pytorch as pl
    from rich.console import Console

    from xnets.train._averaging import MovingAverage
    from xnets.train._interrupts import Interrupts, SteadyLogger
    from xnets.train._progress import EpochProgress
    from xnets.train._writer import AtomicCheckpointIO, RunWriter
    from xnets.train.module import Classifier

    share = Share(rank=world.rank, size=world.size, pieces=recipe.accumulate)
    batches = dataset.train_batches(
        recipe.batch_size,
        seed=recipe.seed,
        augment=Augmentation(flip=recipe.flip, shift=recipe.shift, fill=recipe.fill),
        share=share,
    )
    console = Console(stderr=True, quiet=quiet or world.rank > 0)
    progress = EpochProgress(console)
    interrupts = Interrupts()
    writer = RunWriter(
        run.folder, dataset, on_saved=progress.print_epoch, uninterrupted=interrupts.held
    )
    average = [] if recipe.ema is None else [MovingAverage(recipe.ema)]
    logger = SteadyLogger(run.folder, interrupts)
    logger.log_hyperparams(recipe.to_dict())
    module = Classifier(model, recipe, dataset.num_classes)
    with _quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=_devices(world, device),
            num_nodes=world.size // world.local_size,
            strategy=_strategy(world),
            precision=recipe.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=recipe.accumulate,
            logger=logger,
            callbacks=[*average, progress, interrupts, writer],
            plugins=[cluster_environment(world), AtomicCheckpointIO()],
            sync_batchnorm=world.size > 1 and device.type == "cuda",
            use_distributed_sampler=False,  # our batches are shared out already
            log_every_n_steps=len(batches),
            num_sanity_val_steps=0,
            enable_checkpointing=True,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with interrupts.caught(trainer, run.folder, writer):
            trainer.fit(
                module,
                batches,
                dataset.test_batches(share=share),
                ckpt_path=run.state,
                weights_only=True,
            )
    for callback in average:
        # Lightning does so at the end of its loop, which does not run if all epochs were done.
        module.load_state_dict(callback.averaged.state_dict())
    return Fitted(writer.rows, writer.seconds)


def _devices(world: World, device: torch.device) -> Any:
    if device.type == "cuda" and world.size == 1:
        return [device.index]
    return world.local_size


def _strategy(world: World) -> Any:
    from lightning.pytorch.strategies import DDPStrategy

    if world.size == 1:
        return "auto"
    # The graphs of expander layers are buffers: sending them at every step would cost much, and
    # batch statistics are averaged before each test.
    known = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DDPStrategy(**{name: False}, gradient_as_bucket_view=True)  # type: ignore[arg-type]


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's notes about the machine and its tips off the screen; its warnings stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 asks torch's pytree in the old way.
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
            yield
    finally:
        logger.setLevel(level)
