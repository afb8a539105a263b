"""How much memory one call needs beyond what is there already."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

from xnets.ops._cpu_library import release_scratch


def peak_memory(run: Callable[[], object], device: str = "cpu", *, tries: int = 3) -> int | None:
    """The most memory that one call adds to what was held before it: outputs, gradients, scratch.

    On Linux the resident memory of the whole process, whoever allocates it (torch, oneDNN, our
    kernels, other libraries), to the page: freed memory goes back to the system first, then the
    kernel's own high-water mark is reset and read. The least of some calls counts, as fragmented
    memory only ever adds. What the first call
    of all keeps for later ones, such as tables of a graph, is there already and not counted; our
    kernels' scratch, which a thread keeps, is. On CUDA what torch's allocator hands out.

    Args:
        run: What to call; it has run before.
        device: "cpu" or "cuda".
        tries: How many calls.

    Returns:
        Bytes, or None where the system cannot say: no Linux, no glibc, or a heap with so much freed
        memory that it cannot give back that a call's would not show.

    Examples:
        >>> peak = peak_memory(lambda: torch.ones(1 << 20))
        >>> peak is None or peak > 3 << 20
        True
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        if _resident_peak(_touch) < _PROBE // 2:
            return None
        return min(_resident_peak(run) for _ in range(tries))
    except (OSError, AttributeError, KeyError):  # no Linux, or no glibc
        return None


def resident_memory() -> int | None:
    """The resident memory of this process, after freed memory went back to the system.

    Returns:
        Bytes, or None where the system cannot say.

    Examples:
        >>> memory = resident_memory()
        >>> memory is None or memory > 1 << 20
        True
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        return _status(Path("/proc/self"))["VmRSS"]
    except (OSError, AttributeError, KeyError):  # no Linux, or no glibc
        return None


_PROBE = 1 << 22


def _touch() -> None:
    """Use `_PROBE` bytes of the C library's memory."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    memory = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(_PROBE)))
    if not memory:
        raise OSError("out of memory")
    ctypes.memset(memory, 1, _PROBE)
    libc.free(memory)


def _resident_peak(run: Callable[[], object]) -> int:
    process = Path("/proc/self")
    release_scratch()
    ctypes.CDLL(None).malloc_trim(0)
    (process / "clear_refs").write_text("5")
    before = _status(process)["VmRSS"]
    run()
    return max(0, _status(process)["VmHWM"] - before)


def _status(process: Path) -> dict[str, int]:
    """The sizes that the kernel keeps of a process, in bytes."""
    fields = {}
    for line in (process / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith("kB"):
            fields[name] = 1024 * int(value.removesuffix("kB"))
    return fields
