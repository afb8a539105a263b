"""Fixtures that every test gets."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# A busy machine is no failure: examples may take as long as they do.
settings.register_profile("xnets", deadline=None)
settings.load_profile("xnets")


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    """Two threads, one seed, and uninitialised memory full of NaN.

    An output that a kernel does not write cannot pass for a result.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, threads))
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
