"""Trials on a Ray cluster, whose machines need not share a disk with this one."""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xnets._errors import UserError
from xnets.compare._execute import run_trial
from xnets.compare._trials import Trial
from xnets.train import Result
from xnets.train._files import replacing
from xnets.train._result import RESULT

_PATIENCE = 10.0  # seconds
# A worker that srun or torchrun started trains alone all the same.
_LAUNCHERS = ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def run_on_ray(
    trials: Sequence[Trial], folders: Sequence[Path], address: str, options: dict[str, Any]
) -> Iterator[tuple[Trial, Result | Exception]]:
    """Train trials on a cluster, as many at a time as it has room for.

    A trial takes as many cores as its recipe has threads, else one, and a GPU where the cluster has
    some. What it leaves comes back over the network, so a trial that was cut off begins anew.

    Args:
        trials: What to train.
        folders: Where to, on this machine.
        address: Of the cluster, as in `ray.init`; "local" starts one on this machine.
        options: As in `run_trial`.

    Yields:
        Each trial when it is finished, with its result or what went wrong.

    Raises:
        ValueError: If Ray is not installed, or the cluster cannot be reached.
    """
    with _cluster(address) as ray:
        gpus = int(options["device"] != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        if options["device"] == "cuda" and not gpus:
            raise UserError("`device` (='cuda') is not available: the Ray cluster has no GPU")
        remote = ray.remote(_train_in_scratch)
        running = {
            remote.options(
                name=trial.name, num_cpus=trial.recipe.threads or 1, num_gpus=gpus
            ).remote(trial, options): (trial, folder)
            for trial, folder in zip(trials, folders, strict=True)
        }
        while running:
            [reference], _ = ray.wait(list(running), num_returns=1)
            trial, folder = running.pop(reference)
            try:
                yield trial, _store(ray.get(reference), folder)
            except ray.exceptions.RayTaskError as error:
                yield trial, error.cause if isinstance(error.cause, Exception) else error
            except (ray.exceptions.RayError, OSError) as error:
                yield trial, error


def _train_in_scratch(trial: Trial, options: dict[str, Any]) -> dict[str, bytes]:
    """Train on a worker; return the files that the run leaves."""
    for name in _LAUNCHERS:
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="xnets-") as scratch:
        folder = Path(scratch) / trial.name
        run_trial(trial, folder, **options)
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _store(files: dict[str, bytes], folder: Path) -> Result:
    """Write a run's files here, the result last: it says that the run is finished."""
    result = {**json.loads(files[RESULT]), "folder": str(folder)}
    files = {**files, RESULT: (json.dumps(result, indent=2) + "\n").encode()}
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == RESULT):
        with replacing(folder / name) as temporary:
            temporary.write_bytes(files[name])
    return Result.load(folder)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connect to a cluster, quietly."""
    try:
        import ray
    except ImportError as error:
        raise UserError("`ray` needs Ray: python -m pip install 'xnets[ray]'") from error
    alone: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    tries = 3 if alone else 1  # Ray gives its own node 30 seconds, too few on a busy machine
    for left in reversed(range(tries)):
        try:
            _check_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
            break
        except Exception as error:  # Ray raises many kinds, the bare one among them
            ray.shutdown()
            if not left:
                reason = " ".join(str(error).split())[:300]
                message = f"`ray` (={address!r}): no cluster can be reached: {reason}"
                raise UserError(message) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock at a host and port: Ray itself would wait for minutes.

    Raises:
        OSError: If nobody answers.
        ValueError: If the port is no number.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
