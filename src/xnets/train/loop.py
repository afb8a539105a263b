"""From a recipe to a run folder."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from xnets._errors import UserError, asked_by_user
from xnets.train._checkpoint import build_model, data_arguments
from xnets.train._distributed import World, connected, find_world
from xnets.train._evaluate import accuracy, with_workers
from xnets.train._files import default_folder, replacing
from xnets.train._machine import choose_device, cpu_threads, seeded
from xnets.train._plot import plot_curve
from xnets.train._recipe import Recipe
from xnets.train._result import RESULT, Result, Size, measure
from xnets.train._run import STATE, Run, locked, open_run
from xnets.train.data import Dataset, FolderDataset, Share, load_dataset


def train(
    recipe: Recipe,
    *,
    out: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    resume: str | None = None,
    workers: int | None = None,
    quiet: bool = False,
    command: str | None = None,
) -> Result:
    """Train a network as a recipe says and leave a run folder.

    The folder holds result.json, recipe.json, metrics.csv, checkpoint.ckpt, curve.png and, in
    tensorboard/, the same metrics for TensorBoard; until the run is finished, resume.ckpt too. The
    same recipe gives the same network on the same machine, also if it was interrupted and resumed.
    The global random state and number of threads are left as they were.

    Started by `torchrun` or `srun`, the processes train together, each with its part of every
    batch. All of them return the result.

    Args:
        recipe: What to do, from `get_recipe` or made by hand.
        out: The run folder, new or empty; by default runs/NAME/N with the next free number.
        data_dir: Where the data set's files are.
        device: "auto" takes a GPU if there is one; "cpu" or "cuda".
        resume: "auto" goes on in `out`, or else in the newest unfinished run of this very recipe,
            from the last epoch that it finished; a new run begins where there is none, and says so.
            Of a run in `out` that is finished the result is returned, and nothing is done.
        workers: Processes that read images from folders; by default as many as there are cores.
        quiet: Whether to show no progress on standard error.
        command: Recorded in result.json.

    Returns:
        The accuracy, the costs and the folder.

    Raises:
        ValueError: If the data is missing or damaged, the network cannot be built as asked, or the
            folder cannot be written, all before the first step; or, as `DivergedError`, if the loss
            is no number any more.
        OSError: If the disk is full.
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
    world = find_world()
    target = choose_device(device, world.local_rank)
    dataset = load_dataset(recipe.dataset, data_dir, image_size=recipe.image_size)
    dataset = with_workers(dataset, workers, world.local_size).to(target)
    share = Share(rank=world.rank, size=world.size, pieces=recipe.accumulate)
    share.check(recipe.batch_size, dataset.num_train)
    with cpu_threads(recipe.threads), seeded(recipe.seed, target), connected(world, target):
        model, size, dense = _build(recipe, dataset)
        world.check_same(_fingerprint(model), "the network that the recipe builds")
        run = _shared_run(recipe, out, resume, world)
        if run.finished:
            return Result.load(run.folder)
        with locked(run.folder) if world.rank == 0 else nullcontext():
            if not quiet and world.rank == 0:
                if resume is not None and run.state is None:
                    place = default_folder(recipe.name) if out is None else out
                    print(f"nothing to resume in {place}; from the first epoch", file=sys.stderr)
                _announce(recipe, size, dense, run, world, target)
            return _train(
                model,
                recipe,
                dataset,
                run,
                world,
                target,
                size,
                dense,
                quiet=quiet,
                command=command,
            )


def _train(
    model: nn.Module,
    recipe: Recipe,
    dataset: Dataset | FolderDataset,
    run: Run,
    world: World,
    device: torch.device,
    size: Size,
    dense: Size,
    *,
    quiet: bool,
    command: str | None,
) -> Result:
    from xnets.train._fit import fit

    fitted = fit(model, recipe, dataset, run, world, device, quiet=quiet)
    result = Result(
        test_accuracy=accuracy(model.to(device), dataset, world=world),
        size=size,
        dense=dense,
        recipe=recipe,
        seconds=fitted.seconds,
        folder=run.folder,
        command=command,
    )
    if world.rank == 0:
        title = f"{recipe.name}: {result.test_accuracy:.2%}"
        plot_curve(run.folder / "curve.png", fitted.rows, title)
        # The result ends the run: it comes last, but for what a finished run has no use of.
        with replacing(run.folder / RESULT) as temporary:
            text = json.dumps(result.to_dict(), indent=2) + "\n"
            temporary.write_text(text, encoding="utf-8")
        (run.folder / STATE).unlink(missing_ok=True)
    return result


def _build(recipe: Recipe, dataset: Dataset | FolderDataset) -> tuple[nn.Module, Size, Size]:
    """Build the network, and count it and its dense twin."""
    data = data_arguments(dataset)
    with asked_by_user():
        model = build_model(recipe, **data)
        dense = build_model(replace(recipe, compression=1), **data)
    try:
        return model, measure(model, dataset), measure(dense, dataset)
    except RuntimeError as error:  # the first time that the network sees an image
        height, width = dataset.image_size
        raise UserError(
            f"the network {recipe.model} cannot take images of {height} x {width}: {error}"
        ) from error


def _fingerprint(model: nn.Module) -> str:
    """Hash weights and graphs."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _shared_run(
    recipe: Recipe, out: str | os.PathLike[str] | None, resume: str | None, world: World
) -> Run:
    """Open the run in the first process, and tell the others."""
    run: Run | UserError
    try:
        run = open_run(recipe, out, resume) if world.rank == 0 else Run(Path())
    except UserError as error:
        if world.size == 1:
            raise
        run = error
    run = world.from_first(run)
    if isinstance(run, UserError):
        raise run
    return run


def _announce(
    recipe: Recipe, size: Size, dense: Size, run: Run, world: World, device: torch.device
) -> None:
    many = f"{world.size} x " if world.size > 1 else ""
    verb = "resumed in" if run.state else "run folder"
    print(
        f"{recipe.name}: {recipe.model} with {size.params:,} parameters, "
        f"{dense.params / size.params:.2f} times fewer than dense, on {many}{device.type}; "
        f"{verb} {run.folder}",
        file=sys.stderr,
    )
