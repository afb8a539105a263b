"""The layers that the tests of the Triton kernels run, on a GPU or in Triton's interpreter.

Importing this skips a test module where there is neither (conftest.py).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.ops.gpu_or_not import DEVICE
from xnets.nn import ExpanderConv1d, ExpanderConv2d, ExpanderLinear
from xnets.ops import _triton

if DEVICE == "cpu" and not _triton._INTERPRETED:
    pytest.skip("no GPU, and no interpreter (conftest.py)", allow_module_level=True)

LAYERS = {
    "linear": (
        lambda: ExpanderLinear(48, 64, degree=16, block=(32, 16), backend="triton"),
        (5, 48),
    ),
    "conv": (
        lambda: ExpanderConv2d(
            32, 16, (2, 3), degree=16, block=(16, 16), stride=(2, 1), padding=1, backend="triton"
        ),
        (2, 32, 3, 2),
    ),
    "shared lists": (
        lambda: ExpanderConv1d(20, 32, 2, degree=5, block=(16, 1), backend="triton"),
        (2, 20, 4),
    ),
}


# What torch itself takes seconds to look through: two kinds by default.
SOME_LAYERS = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "shared lists" else [])
    for name in LAYERS
]


def build(name: str) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[name]
    return make().to(DEVICE), torch.randn(shape, device=DEVICE)
