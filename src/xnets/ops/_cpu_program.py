"""Lists of inference steps that the compiled kernels run in one call: the structures of xnets.h."""

from __future__ import annotations

import ctypes
from enum import IntEnum


class Act(IntEnum):
    """Activation functions; CLAMP is between `low` and `high`, LEAKY has the slope `low`."""

    NONE = 0
    CLAMP = 1
    SILU = 2
    HARDSWISH = 3
    SIGMOID = 4
    HARDSIGMOID = 5
    GELU = 6
    TANH = 7
    LEAKY = 8


class Kind(IntEnum):
    """Kinds of steps; xnets.h has their formulas."""

    CONV = 0
    LINEAR = 1
    MAX_POOL = 2
    AVG_POOL = 3
    POINTWISE = 4
    COPY = 5
    SCALE_BY = 6


class CTensor(ctypes.Structure):
    """`xn_tensor` of xnets.h: where a tensor lies, in floats."""

    _fields_ = (
        ("slot", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("image", ctypes.c_int64),
    )


class CStep(ctypes.Structure):
    """`xn_step` of xnets.h. Holds addresses, not tensors: what they belong to must outlive it."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("act", ctypes.c_int32),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
        ("in_act", ctypes.c_int32),
        ("in_low", ctypes.c_float),
        ("in_high", ctypes.c_float),
        ("channels_in", ctypes.c_int32),
        ("channels_out", ctypes.c_int32),
        ("exclude_padding", ctypes.c_int32),
        ("output", ctypes.c_int32 * 3),
        ("graph", ctypes.c_void_p),
        ("conv", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        *((n, ctypes.c_void_p) for n in ("weight", "winograd", "bias", "scale", "shift", "index")),
        *((n, CTensor) for n in ("x", "y", "residual")),
        ("before", ctypes.c_void_p),
        ("before_weight", ctypes.c_void_p),
    )
