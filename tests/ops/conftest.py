"""The compiled library, built once for all of these tests, and each instruction set of it."""

import os
import shutil

import pytest
from filelock import FileLock

from tests.ops.compiled import binding
from xnets.ops._cpu_library import _declare


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if "XNETS_CPU_LIBRARY" not in os.environ and not (
        shutil.which("cmake") and shutil.which("c++")
    ):
        pytest.skip("needs cmake and a C++ compiler")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the first worker builds for all
    with FileLock(folder / "csrc.lock"):
        library = binding.load(binding.build(folder / "csrc"))
    _declare(library)
    return library


@pytest.fixture(params=list(binding.ISAS))
def isa(request, library):
    value = binding.ISAS[request.param]
    if not library.xn_isa_usable(value):
        pytest.skip(f"this machine has no {request.param}")
    return value
