"""Fixtures that every test gets."""

import gc
import os
from collections.abc import Iterator
from importlib import metadata

# Before NumPy and torch are imported: threads spin while they wait for each other; where another
# process has their cores, a singular value decomposition took eight times what one thread takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # processes that tests start have them too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import HealthCheck, settings


def _triton_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in metadata.version("triton").split(".")[:2])
    except metadata.PackageNotFoundError:
        return ()


# Without a GPU the Triton kernels are interpreted; Triton must know before its first import. The
# interpreter of versions before 3.7 fails with today's NumPy wherever a kernel has a loop.
if not torch.cuda.is_available() and _triton_version() >= (3, 7):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A busy machine is no failure: examples may take as long as they do, to run and to draw.
settings.register_profile("xnets", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("xnets")


@pytest.fixture(autouse=True)
def _short_collections() -> Iterator[None]:
    """Let a garbage collection look at a test's own objects only.

    Looking through all that torch and others import takes a quarter of a second, and each timing
    begins with a collection.
    """
    gc.freeze()
    yield
    gc.unfreeze()


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
