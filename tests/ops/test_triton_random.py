"""The Triton kernels against the definition on whatever Hypothesis thinks of.

Graphs with empty and full rows, blocks that no tile divides, kernels beyond the padding, tensors
that lie between NaN or share memory, tiles far from the table's. Few examples in the interpreter by
default, more among the slow tests and on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from xnets import ops
from xnets.graphs import BipartiteGraph
from xnets.ops import _triton
from xnets.ops._triton import config, operator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and not _triton._INTERPRETED:
    pytest.skip("no GPU, and no interpreter (conftest.py)", allow_module_level=True)

TILES = (None, config.Tile(16, 16, 16, 4, 2), config.Tile(128, 32, 64, 8, 3))
# Rounding of operands and results; sums are float32. Relative to the largest value.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Example:
    """One call; `layout` says how its tensors lie in memory."""

    graph: BipartiteGraph
    batch: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    bias: bool
    dtype: torch.dtype
    layout: str
    tile: config.Tile | None
    dense_input_gradient: bool | None
    processors: int


@st.composite
def examples(draw: st.DrawFn) -> Example:
    block = draw(
        st.tuples(st.sampled_from([1, 3, 16, 17, 32, 40]), st.sampled_from([1, 2, 7, 16, 24, 32]))
    )
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    cells = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    mask = np.kron(np.array(cells).reshape(rows, columns), np.ones(block))
    spatial = draw(st.sampled_from([0, 1, 2, 2, 3]))

    def each(values: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(values) for _ in range(spatial))

    kernel = each(st.integers(1, 3 if spatial < 3 else 2))
    dilation, padding = each(st.integers(1, 3)), each(st.integers(0, 3))
    least = [
        max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    return Example(
        BipartiteGraph.from_mask(mask, block=block),
        draw(st.sampled_from([1, 2, 3, 0])) if spatial else draw(st.sampled_from([1, 5, 33, 0])),
        tuple(n + draw(st.integers(0, 3)) for n in least),
        kernel,
        each(st.integers(1, 3)),
        padding,
        dilation,
        draw(st.booleans()),
        draw(st.sampled_from(list(TOLERANCE))),
        draw(st.sampled_from(["contiguous", "channels last", "among NaN", "expanded", "turned"])),
        draw(st.sampled_from(TILES)),
        draw(st.sampled_from([None, False, True])),
        draw(st.sampled_from([1, 8])),
    )


def lay(values: Tensor, layout: str) -> Tensor:
    """The same values elsewhere in memory."""
    if layout == "channels last":
        return values.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "among NaN":  # what lies beyond an edge is not 0, and nothing is aligned
        around = values.new_full([n + 2 for n in values.shape], float("nan"))
        inner = around[tuple(slice(1, -1) for _ in values.shape)]
        inner.copy_(values)
        return inner
    if layout == "turned":
        return (
            values.permute(*reversed(range(values.dim())))
            .contiguous()
            .permute(*reversed(range(values.dim())))
        )
    return values


def build(example: Example) -> ops.Call:
    graph, dtype = example.graph, example.dtype
    x = torch.randn(example.batch, graph.num_in, *example.size, dtype=dtype)
    if example.layout == "expanded" and example.batch:
        x = x[:1].expand_as(x)  # every sample is the same memory
    weight = torch.randn(graph.num_edges, *(example.kernel or (1,)), dtype=dtype)
    return ops.Call(
        lay(x.to(DEVICE), example.layout).requires_grad_(),
        lay(weight.to(DEVICE), example.layout).requires_grad_(),
        torch.randn(graph.num_out, dtype=dtype, device=DEVICE).requires_grad_()
        if example.bias
        else None,
        ops.make_pattern(
            torch.from_numpy(graph.indptr.copy()).to(DEVICE),
            torch.from_numpy(graph.indices.copy()).to(DEVICE),
            graph.num_in,
            graph.num_out,
            graph.block,
        ),
        len(example.kernel),
        example.stride,
        example.padding,
        example.dilation,
    )


def exact(call: ops.Call) -> ops.Call:
    x, weight, bias = (
        None if t is None else t.detach().double().requires_grad_()
        for t in (call.input, call.weight, call.bias)
    )
    arguments = (call.pattern, call.spatial, call.stride, call.padding, call.dilation)
    return ops.Call(x, weight, bias, *arguments)


def results(call: ops.Call, backend: str, seed: Tensor | None = None) -> list[Tensor]:
    y = ops.run(call, backend)
    leaves = [t for t in (call.input, call.weight, call.bias) if t is not None]
    if seed is None:
        seed = torch.linspace(-1, 2, y.numel(), device=y.device).view(y.shape)
    return [y.detach(), *torch.autograd.grad(y, leaves, seed.to(y.dtype))]


def check(example: Example) -> None:
    torch.manual_seed(0)
    call = build(example)
    found_dense = operator.padded_inputs_are_dense
    found_processors = operator._processors
    try:
        if example.dense_input_gradient is not None:
            operator.padded_inputs_are_dense = lambda *_, **__: example.dense_input_gradient
        operator._processors = lambda device: example.processors
        with config.forced(example.tile):
            got = results(call, "triton")
    finally:
        operator.padded_inputs_are_dense = found_dense
        operator._processors = found_processors
    seed = torch.linspace(-1, 2, got[0].numel(), device=DEVICE).view(got[0].shape)
    expected = results(exact(call), "masked", seed.to(example.dtype))
    for name, a, b in zip(("output", "input", "weight", "bias"), got, expected, strict=False):
        assert a.dtype == example.dtype
        assert a.shape == b.shape, name
        scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(
            a.double(), b, rtol=0, atol=TOLERANCE[example.dtype] * scale, msg=name
        )


UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(UNTIMED, max_examples=100 if DEVICE == "cuda" else 15)
@given(examples())
def test_equals_the_definition_on_random_arguments(example: Example) -> None:
    check(example)


@pytest.mark.slow
@settings(UNTIMED, max_examples=1000 if DEVICE == "cuda" else 200)
@given(examples())
def test_equals_the_definition_on_many_random_arguments(example: Example) -> None:
    check(example)
