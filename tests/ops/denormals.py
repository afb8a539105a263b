"""Whether arithmetic met a number below the normal ones, which some processors are slow at."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Callable

import torch
from torch import Tensor

WATCHED = platform.machine().lower() in ("x86_64", "amd64") and platform.system() == "Linux"
DENORMAL_OPERAND = 2  # of the flags in mxcsr, which stay until they are cleared
_MATH = ctypes.CDLL(ctypes.util.find_library("m")) if WATCHED else None


class _Environment(ctypes.Structure):
    """glibc's fenv_t on x86-64: the old unit's 28 bytes, then mxcsr."""

    _fields_ = (("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32))


def fill(memory: Tensor) -> None:
    """Leave numbers below the normal ones, as small integers are, in bytes that begin anywhere."""
    room = torch.full((len(memory) // 4 + 2,), 3, dtype=torch.int32).view(torch.uint8)
    shift = memory.data_ptr() % 4
    memory.copy_(room[shift : shift + len(memory)])


def met_in(run: Callable[[], object]) -> bool:
    """Whether `run`, on this thread, computed with a number below the normal ones."""
    if _MATH is None:
        run()
        return False
    environment = _Environment()
    _MATH.fegetenv(ctypes.byref(environment))
    environment.mxcsr &= ~DENORMAL_OPERAND
    _MATH.fesetenv(ctypes.byref(environment))
    run()
    _MATH.fegetenv(ctypes.byref(environment))
    return bool(environment.mxcsr & DENORMAL_OPERAND)
