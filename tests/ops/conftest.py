"""The compiled library, built once for all of these tests, and each instruction set of it."""

import os
import shutil

import pytest

from tests.ops.compiled import binding
from xnets.ops._cpu_library import _declare


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if "XNETS_CPU_LIBRARY" not in os.environ and not (
        shutil.which("cmake") and shutil.which("c++")
    ):
        pytest.skip("needs cmake and a C++ compiler")
    library = binding.load(binding.build(tmp_path_factory.mktemp("csrc")))
    _declare(library)
    return library


@pytest.fixture(params=list(binding.ISAS))
def isa(request, library):
    value = binding.ISAS[request.param]
    if not library.xn_isa_usable(value):
        pytest.skip(f"this machine has no {request.param}")
    return value
