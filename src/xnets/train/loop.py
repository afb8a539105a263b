"""From a recipe to a run folder, and from a run folder back to an accuracy."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xnets._errors import UserError, asked_by_user
from xnets.count import count
from xnets.train._checkpoint import build_model, load_checkpoint
from xnets.train._files import make_run_folder, replacing
from xnets.train._plot import plot_curve
from xnets.train._recipe import Recipe
from xnets.train.data import Dataset, load_dataset

DEVICES = ("auto", "cpu", "cuda")


class Interrupted(KeyboardInterrupt):
    """Training was stopped from the keyboard; the message says what is left."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a network costs.

    Args:
        params: Trained numbers.
        macs: Multiply-accumulate operations for one image.
        bytes: What parameters and buffers take in memory, the tables of the graphs included.
        edges: Edges of all expander layers; none in a dense network.
        layers: Layers with a weight matrix or convolution.
        expander_layers: How many of them are expander layers.
    """

    params: int
    macs: int
    bytes: int
    edges: int
    layers: int
    expander_layers: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training run gave.

    Args:
        test_accuracy: Correct share of the test set after the last epoch.
        size: What the network costs.
        dense: What its dense twin costs, which is counted but not trained.
        recipe: The recipe that was run.
        seconds: Wall time of the training loop, tests after each epoch included.
        folder: The run folder.
        command: The command line, if one started this.
    """

    test_accuracy: float
    size: Size
    dense: Size
    recipe: Recipe
    seconds: float
    folder: Path
    command: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of result.json."""
        return {
            "test_accuracy": self.test_accuracy,
            **asdict(self.size),
            "dense": asdict(self.dense),
            "seed": self.recipe.seed,
            "seconds": round(self.seconds, 3),
            "folder": str(self.folder),
            "command": self.command,
            "versions": _versions(),
            "recipe": self.recipe.to_dict(),
        }


def train(
    recipe: Recipe,
    *,
    out: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    quiet: bool = False,
    command: str | None = None,
) -> Result:
    """Train a network as a recipe says and leave a run folder.

    The folder holds result.json, metrics.csv, checkpoint.ckpt, curve.png and, in tensorboard/, the
    same metrics for TensorBoard. The same recipe gives the same network on the same machine. The
    global random state and number of threads are left as they were.

    Args:
        recipe: What to do, from `get_recipe` or made by hand.
        out: The run folder, new or empty; by default runs/NAME/N with the next free number.
        data_dir: Where the data set's files are.
        device: "auto" takes a GPU if there is one; "cpu" or "cuda".
        quiet: Whether to show no progress on standard error.
        command: Recorded in result.json.

    Returns:
        The accuracy, the costs and the folder.

    Raises:
        ValueError: If the data is missing or damaged, the network cannot be built as asked, or the
            folder cannot be written; all before the first step.
        KeyboardInterrupt: On Ctrl-C. Epochs that were finished are in the folder.

    Examples:
        >>> import tempfile
        >>> from xnets.train import evaluate, get_recipe
        >>> recipe = get_recipe("digits", epochs=1, batch_size=256)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(recipe, out=folder, quiet=True)
        ...     evaluate(folder) == result.test_accuracy
        True
    """
    target = choose_device(device)
    dataset = load_dataset(recipe.dataset, data_dir)
    if recipe.batch_size > len(dataset.train_labels):
        raise UserError(
            f"`batch_size` (={recipe.batch_size}) must be at most the number of training images "
            f"(={len(dataset.train_labels)})"
        )
    with _threads(recipe.threads), _seeded(recipe.seed, target):
        with asked_by_user():
            model, dense = (
                build_model(r, dataset.in_channels, dataset.num_classes)
                for r in (recipe, replace(recipe, compression=1))
            )
        size, dense_size = measure(model, dataset), measure(dense, dataset)
        folder = make_run_folder(recipe.name, out)
        if not quiet:
            ratio = dense_size.params / size.params
            print(
                f"{recipe.name}: {recipe.model} with {size.params:,} parameters, {ratio:.2f} times "
                f"fewer than dense, on {target.type}; run folder {folder}",
                file=sys.stderr,
            )
        start = time.perf_counter()
        rows = _fit(model, recipe, dataset.to(target), folder, target, quiet=quiet)
        seconds = time.perf_counter() - start
        test_accuracy = accuracy(model.to(target), dataset.to(target))
    result = Result(
        test_accuracy=test_accuracy,
        size=size,
        dense=dense_size,
        recipe=recipe,
        seconds=seconds,
        folder=folder,
        command=command,
    )
    title = f"{recipe.name}, compression {recipe.compression:g}: {result.test_accuracy:.2%}"
    plot_curve(folder / "curve.png", rows, title)
    with replacing(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    return result


def evaluate(
    run: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> float:
    """Measure the test accuracy of a checkpoint anew.

    Args:
        run: A run folder or a checkpoint file. It is read without running code from it.
        data_dir: Where the data set's files are.
        device: "auto" takes a GPU if there is one; "cpu" or "cuda".
        threads: CPU threads; by default as in training.

    Returns:
        The correct share of the test set.

    Raises:
        ValueError: If there is no checkpoint, the file is not one, or the data is missing.

    Examples:
        >>> evaluate("no/such/run")
        Traceback (most recent call last):
        xnets._errors.UserError: no such file or folder: no/such/run
    """
    if threads is not None and threads < 1:
        raise UserError(f"`threads` (={threads}) must be at least 1")
    target = choose_device(device)
    checkpoint = load_checkpoint(run)
    dataset = load_dataset(checkpoint.recipe.dataset, data_dir)
    with _threads(threads or checkpoint.recipe.threads):
        return accuracy(checkpoint.model.to(target), dataset.to(target))


def accuracy(model: nn.Module, dataset: Dataset) -> float:
    """Return the correct share of the test set; model and data are on one device."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        correct = sum(
            int((model(images).argmax(dim=1) == labels).sum())
            for images, labels in dataset.test_batches()
        )
    model.train(was_training)
    return correct / len(dataset.test_labels)


def measure(model: nn.Module, dataset: Dataset) -> Size:
    """Count what a network costs on one image of a data set."""
    total = count(model, dataset.normalize(dataset.test_images[:1]))
    return Size(
        params=total.params,
        macs=total.macs,
        bytes=total.bytes,
        edges=total.edges,
        layers=sum(layer.macs > 0 for layer in total.layers),
        expander_layers=sum(layer.edges > 0 for layer in total.layers),
    )


def choose_device(device: str) -> torch.device:
    """Return the device that a user's word means.

    Raises:
        ValueError: If there is no such device here.

    Examples:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if device not in DEVICES:
        raise UserError(f"`device` (={device!r}) must be one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("`device` (='cuda') is not available: torch sees no GPU")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _fit(
    model: nn.Module,
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    *,
    quiet: bool,
) -> list[dict[str, float]]:
    """Run Lightning's loop; return the rows of metrics.csv."""
    import lightning.pytorch as pl
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch.loggers import TensorBoardLogger
    from rich.console import Console

    from xnets.train._callbacks import EpochProgress, RunWriter
    from xnets.train.module import Classifier

    writer = RunWriter(folder, dataset)
    console = Console(stderr=True, quiet=quiet)
    batches = dataset.train_batches(
        recipe.batch_size, seed=recipe.seed, flip=recipe.flip, shift=recipe.shift
    )
    logger = TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
    logger.log_hyperparams(recipe.to_dict())
    with _quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            logger=logger,
            callbacks=[writer, EpochProgress(console)],
            plugins=[LightningEnvironment()],  # one process, also inside a cluster's job
            log_every_n_steps=len(batches),
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with _keyboard_interrupts(trainer, folder):
            trainer.fit(
                Classifier(model, recipe, dataset.num_classes), batches, dataset.test_batches()
            )
    return writer.rows


@contextmanager
def _keyboard_interrupts(trainer: Any, folder: Path) -> Iterator[None]:
    """Give Ctrl-C its usual meaning back: Lightning answers it with SystemExit(1)."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not trainer.interrupted:
            raise
        done = trainer.current_epoch
        raise Interrupted(
            f"interrupted after {done} epochs; what is done is in {folder}"
        ) from error
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


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


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Compute with some number of CPU threads inside; None leaves it."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw reproducibly inside; leave the global state as it was."""
    with ExitStack() as stack:
        cuda = device.type == "cuda"
        stack.enter_context(
            torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else [])
        )
        if cuda:
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True))
        torch.manual_seed(seed)
        yield


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("xnets", "torch", "lightning", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "unknown"
    return versions
