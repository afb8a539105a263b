"""Tensors of more than 2^31 elements, in memory of which only the pages used exist.

A GPU has no such memory: there these tests want some 8 to 16 GiB each.
"""

from __future__ import annotations

import mmap
import sys
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from xnets.nn import ExpanderConv2d
from xnets.ops import _triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and not _triton._INTERPRETED:
    pytest.skip("no GPU, and no interpreter (conftest.py)", allow_module_level=True)
if DEVICE == "cpu" and sys.platform != "linux":
    pytest.skip("needs memory that is not there until used", allow_module_level=True)

FAR = 2**31 + 4096


def memory(elements: int, dtype: torch.dtype = torch.float32) -> Tensor:
    if DEVICE == "cuda":
        return torch.empty(elements, dtype=dtype, device="cuda")
    pages = mmap.mmap(-1, 4 * elements, flags=mmap.MAP_PRIVATE | 0x4000)  # MAP_NORESERVE
    return torch.frombuffer(pages, dtype=dtype)


def far_apart(values: Tensor) -> Tensor:
    """The same values, channels last, the samples 2^31 elements apart."""
    n, c, h, w = values.shape
    found = torch.as_strided(memory((n - 1) * FAR + c * h * w), values.shape, (FAR, 1, w * c, c))
    return found.copy_(values)


def layer(**settings: object) -> ExpanderConv2d:
    made = ExpanderConv2d(16, 16, 3, degree=16, block=(16, 16), padding=1, **settings)  # type: ignore[arg-type]
    return made.to(DEVICE)


def gradients(module: ExpanderConv2d, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = module(x)
    seed = torch.linspace(-1, 2, y.numel(), device=x.device).view(y.shape)
    return [y.detach(), *torch.autograd.grad(y, [x, module.weight], seed)]


def test_input() -> None:
    from xnets.ops._triton import launch

    ours = layer(backend="triton")
    x = far_apart(torch.randn(2, 16, 3, 2))
    assert launch.for_reading(x, 16) is x  # the strided tensor itself is read
    assert launch.is_big(x)
    got = gradients(ours, x)
    ours.backend = "masked"
    torch.testing.assert_close(got, gradients(ours, x.clone()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_output_and_weights(stride: int) -> None:
    """Written through the launcher, whose callers allocate outputs close together."""
    from xnets.ops._triton import launch

    class FarTaps(launch.Graph):
        edges = FAR  # the distance from tap to tap

    ours = layer(stride=stride, backend="masked")
    x = torch.randn(2, 16, 3, 2, device=DEVICE)
    expected = ours(x).detach()
    axes = launch.forward_axes((3, 3), [stride] * 2, [1, 1], [1, 1])
    graph = FarTaps(ours.indptr.int(), ours.indices.int(), (16, 16))
    packed = torch.as_strided(memory(8 * FAR + 256), (9, 256), (FAR, 1))
    packed.copy_(ours.weight.detach().reshape(256, 9).t())
    out = far_apart(torch.full(expected.shape, float("nan")))
    last = x.contiguous(memory_format=torch.channels_last)
    launch._product(last, packed, ours.bias.detach(), graph, axes, out)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_transposed_weights() -> None:
    """One block row of 2^32 weights: the last base edge is moved to the front."""
    from xnets.ops._triton import kernels

    width, b_out = 2**27, 32
    weight, indices = memory(width * b_out), memory(width, torch.int32)
    indices[-1] = 0
    rows = torch.arange(b_out, device=DEVICE)
    values = torch.randn(b_out, device=DEVICE)
    weight[rows * width + width - 1] = values
    tables = [[0, width], [0, 1], [0], [width - 1]]
    indptr, t_indptr, t_indices, t_edges = (
        torch.tensor(table, dtype=torch.int32, device=DEVICE) for table in tables
    )
    target = torch.full((b_out,), float("nan"), device=DEVICE)
    kernels.transpose_weight[(1,)](
        weight, target, indptr, indices, t_indptr, t_indices, t_edges, width * b_out,
        B_OUT=b_out, B_IN=1, TAPS=1, BIG=True, BLOCK_N=32, BLOCK_K=16,
    )  # fmt: skip
    assert torch.equal(target, values)


def test_sums_of_weight_gradients() -> None:
    """Partial sums 2^31 elements apart, by the kernel itself."""
    from xnets.ops._triton import kernels

    rows = 64
    x, grad = torch.randn(rows, 16, device=DEVICE), torch.randn(rows, 16, device=DEVICE)
    indptr = torch.tensor([0, 1], dtype=torch.int32, device=DEVICE)
    sums = memory(FAR + 256)
    ones = {
        f"{name}_{axis}": value
        for axis in "DHW"
        for name, value in {"TAPS": 1, "STRIDE": 1, "OFFSET": 0, "STEP": 1}.items()
    }
    kernels.gather_outer[(2,)](
        x, grad, sums, indptr, indptr[:1], rows, 32, FAR, 1, 1,
        1, 1, 1, 1, 1, 1, 16, 1, 0, 0, 0, 16,
        B_OUT=16, B_IN=16, **ones, POINTWISE=True, BIG=True, PRECISION="ieee", VECTOR=16,
        BLOCK_M=32, BLOCK_N=16, BLOCK_K=16,
    )  # fmt: skip
    for start, part in zip((0, FAR), (slice(0, 32), slice(32, 64)), strict=True):
        found = sums[start : start + 256].view(16, 16)
        torch.testing.assert_close(found, grad[part].t() @ x[part], rtol=1e-4, atol=1e-4)


def test_when_offsets_are_wide() -> None:
    """Just below the margin 32 bits do; above it, and for any of the tensors, 64."""
    from xnets.ops._triton import launch

    limit = 2**31 - 2**20
    sizes = [torch.empty(n, device="meta") for n in (limit - 1, limit, limit + 1)]
    assert [launch.is_big(t) for t in sizes] == [False, False, True]
    assert all(launch.is_big(a, b) for a, b in pairwise([sizes[2], sizes[0], sizes[2]]))
    assert not launch.is_big(torch.empty(0, 2**40, device="meta"))
