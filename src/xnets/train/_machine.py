"""The machine's state while training: device, threads, random numbers; given back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from xnets._errors import UserError

DEVICES = ("auto", "cpu", "cuda")
_MOST_WORKERS = 8  # by default: more rarely read faster from one disk


def choose_device(device: str, local_rank: int = 0) -> torch.device:
    """Return the device that a user's word means.

    Args:
        device: "auto" takes a GPU if there is one; "cpu" or "cuda".
        local_rank: Which of the processes on this machine asks: each gets a GPU of its own.

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
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU of its own: torch sees "
            f"{torch.cuda.device_count()}; start fewer processes, or use --device cpu"
        )
    return torch.device("cuda", local_rank)


def choose_workers(workers: int | None, local_size: int = 1) -> int:
    """Return the number of processes that read images.

    Args:
        workers: What the user wants; None for what the machine can use.
        local_size: Training processes that share the machine.

    Raises:
        ValueError: If it is negative.
    """
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return min(_MOST_WORKERS, max(1, (cores or 1) // local_size))
    if workers < 0:
        raise UserError(f"`workers` (={workers}) must be at least 0")
    return workers


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Compute with some number of CPU threads inside; None leaves it."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
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
