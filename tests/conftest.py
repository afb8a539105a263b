"""Fixtures that every test gets."""

import os
from collections.abc import Iterator
from importlib import metadata

# Before NumPy is imported: its threads spin while they wait for each other, and where another
# process has their cores, a singular value decomposition costs eight times what it does with one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402


def _triton_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in metadata.version("triton").split(".")[:2])
    except metadata.PackageNotFoundError:
        return ()


# Without a GPU the Triton kernels are interpreted; Triton must know before its first import. The
# interpreter of versions before 3.7 fails with today's NumPy wherever a kernel has a loop.
if not torch.cuda.is_available() and _triton_version() >= (3, 7):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A busy machine is no failure: examples may take as long as they do.
settings.register_profile("xnets", deadline=None)
settings.load_profile("xnets")


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    """Two threads, one seed, and uninitialised memory full of NaN.

    An output that a kernel does not write cannot pass for a result. Threads that share the cores
    with another test process would mostly wait for each other, so beside one there is one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, threads))
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    if torch.cuda.is_available():  # parity is meant to float32's own precision
        torch.backends.cudnn.allow_tf32 = False
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
