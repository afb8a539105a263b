"""One process or many: who this one is, as `torchrun` or Slurm's `srun` says, and how they talk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from xnets._errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Args:
        rank: Which of them this is.
        size: How many there are.
        local_rank: Which of those on its machine.
        local_size: How many there are on its machine.
        launcher: "torchrun", "slurm" or "none".
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str = "none"

    def from_first(self, value: T) -> T:
        """Return what the first process has."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum(self, number: int, device: torch.device) -> int:
        """Add a number up over the processes."""
        if self.size == 1:
            return number
        total = torch.tensor(number, device=device)
        dist.all_reduce(total)
        return int(total)

    def check_same(self, value: str, what: str) -> None:
        """Refuse to go on where the processes differ.

        Args:
            value: What must be the same everywhere.
            what: What it describes.

        Raises:
            RuntimeError: If it is not.
        """
        if self.size == 1:
            return
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        if len(set(values)) > 1:
            raise RuntimeError(
                f"the processes differ in {what}; do all machines run the same versions?"
            )


def find_world() -> World:
    """Read who this process is from the environment.

    Returns:
        One process alone, unless `torchrun` started it, or `srun` with more than one task. A job
        script that runs without `srun` is one process, however many tasks the job may have.

    Raises:
        ValueError: If the environment contradicts itself.
    """
    env = os.environ
    try:
        if "RANK" in env and "WORLD_SIZE" in env:
            size = int(env["WORLD_SIZE"])
            local_rank = int(env.get("LOCAL_RANK", "0"))
            local_size = int(env.get("LOCAL_WORLD_SIZE", "1"))
            return World(int(env["RANK"]), size, local_rank, local_size, "torchrun")
        size = int(env.get("SLURM_STEP_NUM_TASKS", "1"))
        if size > 1:
            nodes = int(env.get("SLURM_STEP_NUM_NODES", "1"))
            if size % nodes:
                raise UserError(
                    f"srun started {size} tasks on {nodes} machines; start as many on each"
                )
            rank, local_rank = int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"])
            return World(rank, size, local_rank, size // nodes, "slurm")
    except (KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read the launcher's environment variables: {error}") from error
    return World()


def cluster_environment(world: World) -> Any:
    """Return Lightning's description of the same."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if world.launcher == "torchrun":
        return TorchElasticEnvironment()
    if world.launcher == "slurm":
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()  # one process, also inside a cluster's job


@contextmanager
def connected(world: World, device: torch.device) -> Iterator[None]:
    """Connect the processes inside; one alone needs no connection.

    Args:
        world: From `find_world`.
        device: Of this process; GPUs talk through NCCL, CPUs through gloo.
    """
    if world.size == 1 or dist.is_initialized():
        yield
        return
    environment = cluster_environment(world)
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size)
    try:
        yield
    finally:
        dist.destroy_process_group()
