"""Every backend equals the reference: outputs and every gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from xnets import ops
from xnets.graphs import BipartiteGraph, disjoint_union, make_graph
from xnets.ops import _triton

BACKENDS = [name for name in ops.list_backends() if name != "reference"]
if not (torch.cuda.is_available() or _triton._INTERPRETED):  # see conftest.py
    BACKENDS.remove("triton")
# Our kernels know no float64; every other backend is held to it, too.
EXACT = [name for name in BACKENDS if name not in ("cpu", "triton")]
BACKENDS_AND_DTYPES = [(name, torch.float64) for name in EXACT] + [
    (name, torch.float32) for name in BACKENDS
]


@dataclass
class Case:
    """One set of arguments; sizes are odd on purpose."""

    num_in: int
    num_out: int
    kernel: tuple[int, ...] = ()  # () is linear
    size: tuple[int, ...] = ()  # leading shape for linear, else spatial size
    batch: int | None = 3
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    family: str = "random"
    degree: int = 3
    block: tuple[int, int] = (1, 1)
    bias: bool = True
    graph: BipartiteGraph | None = field(default=None, repr=False)

    def build_graph(self) -> BipartiteGraph:
        if self.graph is not None:
            return self.graph
        parts = [
            make_graph(
                self.family,
                self.num_in // self.groups,
                self.num_out // self.groups,
                degree=self.degree,
                block=self.block,
                seed=group,
            )
            for group in range(self.groups)
        ]
        return disjoint_union(parts)


def irregular(num_in: int, num_out: int, block: tuple[int, int] = (1, 1)) -> BipartiteGraph:
    """A graph with an empty row, a full row, an unused input and everything between."""
    rows, columns = num_out // block[0], num_in // block[1]
    mask = np.arange(columns) < (np.arange(rows) * columns // max(1, rows - 1))[:, None]
    mask[:, columns // 2] = False
    return BipartiteGraph.from_mask(np.kron(mask, np.ones(block)), block=block)


def groups_in_any_order(
    num_in: int, num_out: int, groups: int, block: tuple[int, int] = (1, 1), seed: int = 0
) -> BipartiteGraph:
    """Complete graphs of one size on inputs and outputs that are scattered about."""
    rows, columns = num_out // block[0], num_in // block[1]
    generator = np.random.default_rng(seed)
    of_row, of_column = (generator.permutation(n) % groups for n in (rows, columns))
    mask = of_row[:, None] == of_column
    return BipartiteGraph.from_mask(np.kron(mask, np.ones(block)), block=block)


CASES = {
    "linear": Case(7, 5, size=(3,)),
    "linear degree 1": Case(7, 5, size=(3,), degree=1),
    "linear dense": Case(7, 5, size=(3,), family="complete", degree=7),
    "linear 1d": Case(7, 5, size=()),
    "linear 3d no bias": Case(7, 5, size=(2, 3), bias=False),
    "linear block (4, 1)": Case(7, 12, size=(3,), block=(4, 1)),
    "linear block (1, 4)": Case(12, 5, size=(3,), block=(1, 4), degree=8),
    "linear block (4, 4)": Case(12, 20, size=(3,), block=(4, 4), degree=8),
    "linear one block": Case(4, 4, size=(3,), block=(4, 4), degree=4),
    "linear 1 x 1": Case(1, 1, size=(3,), degree=1),
    "linear irregular": Case(7, 5, size=(3,), graph=irregular(7, 5)),
    "linear irregular block (2, 3)": Case(9, 10, size=(3,), graph=irregular(9, 10, (2, 3))),
    "linear no edge": Case(3, 2, size=(3,), graph=BipartiteGraph(3, 2, [0, 0, 0], [])),
    "linear blocks with tails": Case(80, 96, size=(19,), block=(48, 16), degree=32),
    "linear irregular block (16, 16)": Case(64, 96, size=(3,), graph=irregular(64, 96, (16, 16))),
    "linear shared lists": Case(40, 64, size=(18,), block=(32, 1), degree=9),
    "linear wide rows": Case(320, 16, size=(2,), block=(16, 32), degree=160),
    "linear fan-out": Case(9, 20, size=(3,), family="random_fan_out"),
    "linear groups": Case(12, 9, size=(3,), family="grouped", degree=4),
    "linear shuffled": Case(12, 9, size=(2, 5), family="shuffled", degree=4, bias=False),
    "linear shuffled, one sample": Case(12, 9, family="shuffled", degree=4),
    "linear shuffled, empty batch": Case(12, 9, size=(0, 2), family="shuffled", degree=4),
    "linear groups in any order": Case(
        24, 12, size=(3,), graph=groups_in_any_order(24, 12, 3, (2, 4))
    ),
    "linear groups 1 x 1": Case(7, 7, size=(3,), graph=groups_in_any_order(7, 7, 7)),
    "linear empty batch": Case(7, 5, size=(0,)),
    "conv1d": Case(7, 5, (3,), (11,)),
    "conv1d strided, dilated": Case(7, 5, (3,), (13,), stride=(2,), padding=(2,), dilation=(3,)),
    "conv1d block (2, 2)": Case(6, 4, (4,), (9,), degree=4, block=(2, 2)),
    "conv 1x1": Case(7, 5, (1, 1), (5, 3)),
    "conv 1x1 degree 1": Case(7, 5, (1, 1), (5, 3), degree=1),
    "conv 1x1 strided": Case(7, 5, (1, 1), (5, 4), stride=(2, 2)),
    "conv 3x3": Case(7, 5, (3, 3), (5, 6), padding=(1, 1)),
    "conv 3x3 no bias": Case(7, 5, (3, 3), (5, 6), bias=False),
    "conv 3x3 strided": Case(7, 5, (3, 3), (9, 7), stride=(2, 1), padding=(0, 1)),
    "conv 3x3 dilated": Case(7, 5, (3, 3), (9, 7), dilation=(2, 3), padding=(2, 3)),
    "conv 2x5": Case(7, 5, (2, 5), (9, 7), padding=(1, 4), stride=(1, 3)),
    "conv padding above kernel": Case(3, 5, (2, 2), (3, 3), padding=(3, 4), degree=2),
    "conv block (4, 1)": Case(7, 12, (3, 3), (5, 6), block=(4, 1), padding=(1, 1)),
    "conv block (8, 8)": Case(24, 16, (1, 1), (3, 3), block=(8, 8), degree=16),
    "conv blocks": Case(32, 64, (3, 3), (5, 4), block=(32, 16), degree=16, padding=(1, 1)),
    "conv blocks with tails, strided": Case(
        48, 40, (3, 2), (7, 6), block=(20, 24), degree=24, stride=(2, 3), padding=(1, 0)
    ),
    "conv irregular blocks, dilated": Case(
        64, 48, (2, 2), (6, 5), graph=irregular(64, 48, (16, 16)), dilation=(2, 3), stride=(1, 2)
    ),
    "conv 1x1 blocks": Case(64, 32, (1, 1), (5, 6), block=(16, 32), degree=32),
    "conv 1x1 blocks, strided": Case(
        32, 32, (1, 1), (5, 6), block=(16, 16), degree=16, stride=(2, 2)
    ),
    "conv shared lists": Case(20, 32, (3, 3), (4, 5), block=(16, 1), degree=5, padding=(1, 1)),
    "conv1d blocks": Case(32, 32, (5,), (9,), block=(16, 16), degree=16, padding=(2,), stride=(3,)),
    "conv irregular": Case(7, 5, (3, 3), (5, 6), graph=irregular(7, 5)),
    "conv irregular block (2, 3)": Case(9, 10, (3, 3), (5, 5), graph=irregular(9, 10, (2, 3))),
    "conv no edge": Case(3, 2, (3, 3), (4, 4), graph=BipartiteGraph(3, 2, [0, 0, 0], [])),
    "conv fan-out": Case(9, 20, (3, 3), (5, 5), family="random_fan_out"),
    "conv grouped": Case(12, 6, (3, 3), (5, 5), groups=3, degree=2),
    "conv grouped block": Case(12, 18, (3, 3), (5, 5), groups=3, degree=2, block=(2, 2)),
    "conv grouped fan-out": Case(12, 18, (1, 1), (4, 4), groups=3, family="random_fan_out"),
    "conv grouped blocks": Case(
        32, 32, (2, 2), (3, 3), groups=2, block=(16, 16), family="complete", degree=16
    ),
    "conv complete": Case(7, 5, (3, 3), (5, 6), family="complete", degree=7),
    "conv groups": Case(12, 6, (3, 3), (5, 5), family="grouped", degree=4, padding=(1, 1)),
    "conv shuffled": Case(
        12, 6, (3, 2), (7, 5), family="shuffled", degree=4, stride=(2, 1), dilation=(1, 2)
    ),
    "conv shuffled unbatched": Case(8, 4, (1, 1), (3, 2), batch=None, family="shuffled", degree=2),
    "conv shuffled, empty batch": Case(8, 4, (1, 1), (3, 2), batch=0, family="shuffled", degree=2),
    "conv shuffled block": Case(32, 64, (1, 1), (3, 3), family="shuffled", degree=8, block=(4, 2)),
    "conv groups in any order": Case(
        24, 12, (3, 3), (5, 4), graph=groups_in_any_order(24, 12, 3, (2, 4)), bias=False
    ),
    "conv1d groups in any order": Case(9, 12, (3,), (6,), graph=groups_in_any_order(9, 12, 3)),
    "conv3d groups in any order": Case(
        8, 8, (2, 1, 2), (3, 2, 3), graph=groups_in_any_order(8, 8, 2, (2, 1))
    ),
    "conv depthwise": Case(6, 6, (3, 3), (5, 5), groups=6, degree=1),
    "conv depthwise, two each": Case(5, 10, (3, 3), (5, 5), groups=5, degree=1, padding=(1, 1)),
    "conv unbatched": Case(7, 5, (3, 3), (5, 6), batch=None),
    "conv unbatched block": Case(16, 16, (3, 1), (4, 3), batch=None, block=(16, 16), degree=16),
    "conv empty batch": Case(7, 5, (3, 3), (5, 6), batch=0),
    "conv3d": Case(5, 4, (2, 3, 1), (5, 4, 3), stride=(1, 2, 1), padding=(1, 1, 0)),
    "conv3d blocks": Case(
        32, 16, (2, 1, 2), (3, 4, 3), block=(16, 16), degree=16, stride=(1, 2, 2), padding=(1, 0, 1)
    ),
    "conv3d dilated block": Case(4, 6, (2, 2, 2), (5, 5, 4), dilation=(1, 2, 1), block=(2, 1)),
}


def build_call(case: Case, dtype: torch.dtype, layout: str = "contiguous") -> ops.Call:
    graph = case.build_graph()
    pattern = ops.make_pattern(
        torch.from_numpy(graph.indptr.copy()),
        torch.from_numpy(graph.indices.copy()),
        graph.num_in,
        graph.num_out,
        graph.block,
    )
    spatial = len(case.kernel)
    if spatial:
        shape = (() if case.batch is None else (case.batch,)) + (case.num_in, *case.size)
    else:
        shape = (*case.size, case.num_in)
    x = torch.randn(shape, dtype=dtype)
    if layout == "strided":  # every other element of a larger tensor, dimensions reversed
        x = torch.randn(*reversed([2 * n for n in shape]), dtype=dtype)
        x = x[tuple(slice(None, None, 2) for _ in shape)].permute(*reversed(range(len(shape))))
    elif layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    weight = torch.randn(graph.num_edges, *(case.kernel or (1,)), dtype=dtype)
    ones = (1,) * spatial
    return ops.Call(
        x.requires_grad_(),
        weight.requires_grad_(),
        torch.randn(case.num_out, dtype=dtype).requires_grad_() if case.bias else None,
        pattern,
        spatial,
        case.stride or ones,
        case.padding or (0,) * spatial,
        case.dilation or ones,
        case.groups,
    )


# Triton's interpreter runs programs one by one: of each kind of launch one case, and the rest slow.
INTERPRETED_BY_DEFAULT = (
    "linear",
    "linear block (1, 4)",
    "linear irregular block (2, 3)",
    "linear no edge",
    "linear blocks with tails",
    "linear irregular block (16, 16)",
    "linear shared lists",
    "linear wide rows",
    "linear empty batch",
    "conv 1x1 blocks",
    "conv 1x1 blocks, strided",
    "conv blocks with tails, strided",
    "conv irregular blocks, dilated",
    "conv shared lists",
    "conv no edge",
    "conv grouped blocks",
    "conv unbatched block",
    "conv1d blocks",
    "conv3d blocks",
)


def fits(name: str, backend: str) -> bool:
    """Whether the backend can run this graph."""
    return backend != "groups" or name in IN_GROUPS


IN_GROUPS = [name for name in CASES if build_call(CASES[name], torch.float32).pattern.components]


def interpreted(backend: str) -> bool:
    return backend == "triton" and not torch.cuda.is_available()


def parity_cases() -> list[object]:
    """(case, backend, dtype), the interpreter's seconds marked as slow."""
    return [
        pytest.param(
            name,
            backend,
            dtype,
            id=f"{name}-{backend}-{dtype}",
            marks=[pytest.mark.slow]
            if interpreted(backend) and name not in INTERPRETED_BY_DEFAULT
            else [],
        )
        for backend, dtype in BACKENDS_AND_DTYPES
        for name in CASES
        if fits(name, backend)
    ]


def on_its_device(call: ops.Call, backend: str) -> ops.Call:
    """The call where the backend runs: Triton's on the GPU where there is one."""
    if backend != "triton" or not torch.cuda.is_available():
        return call
    pattern = replace(
        call.pattern, indptr=call.pattern.indptr.cuda(), indices=call.pattern.indices.cuda()
    )
    input, weight, bias = (
        None if t is None else t.detach().cuda().requires_grad_()
        for t in (call.input, call.weight, call.bias)
    )
    return replace(call, input=input, weight=weight, bias=bias, pattern=pattern)


def outputs_and_gradients(call: ops.Call, backend: str) -> list[Tensor]:
    call.check()
    call = on_its_device(call, backend)
    assert ops.choose(call, backend).name == backend  # the path that is meant is the one that runs
    output = ops.run(call, backend)
    leaves = [t for t in (call.input, call.weight, call.bias) if t is not None]
    seed = torch.linspace(-1, 2, output.numel(), dtype=output.dtype, device=output.device)
    grads = torch.autograd.grad(output, leaves, seed.view(output.shape))
    return [tensor.cpu() for tensor in (output.detach(), *grads)]


def assert_equal(actual: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}[dtype]
    names = ["output", "input gradient", "weight gradient", "bias gradient"]
    for name, a, e in zip(names, actual, expected, strict=False):
        assert a.shape == e.shape, name
        scale = float(e.abs().max()) if e.numel() else 1.0
        torch.testing.assert_close(a, e, rtol=0, atol=tolerance * max(scale, 1.0), msg=name)


@pytest.mark.parametrize(("name", "backend", "dtype"), parity_cases())
def test_equals_the_reference(name: str, backend: str, dtype: torch.dtype) -> None:
    call = build_call(CASES[name], dtype)
    expected = outputs_and_gradients(call, "reference")
    assert_equal(outputs_and_gradients(call, backend), expected, dtype)


@pytest.mark.parametrize("layout", ["strided", "channels_last"])
@pytest.mark.parametrize(("backend", "dtype"), BACKENDS_AND_DTYPES, ids=str)
def test_any_memory_layout(backend: str, dtype: torch.dtype, layout: str) -> None:
    names = ["conv 1x1", "conv 3x3", "conv block (4, 1)", "conv irregular", "conv blocks"]
    if interpreted(backend):
        names = ["conv 1x1 blocks", "conv shared lists"]
    if backend == "groups":
        names = ["conv groups", "conv shuffled", "conv groups in any order", "conv depthwise"]
    for name in names:
        call = build_call(CASES[name], dtype, layout)
        assert not call.input.is_contiguous()
        expected = outputs_and_gradients(call, "reference")
        assert_equal(outputs_and_gradients(call, backend), expected, dtype)


NUMERICALLY = ["linear block (4, 4)", "conv 3x3 strided", "conv irregular block (2, 3)"]
NUMERICALLY += ["linear groups in any order", "conv groups in any order"]


@pytest.mark.parametrize(
    ("name", "backend"),
    [(n, b) for n in NUMERICALLY for b in ["reference", *EXACT] if fits(n, b)],
)
def test_gradients_numerically(name: str, backend: str) -> None:
    call = build_call(CASES[name], torch.float64)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        arguments = (call.pattern, call.spatial, call.stride, call.padding, call.dilation)
        return ops.run(ops.Call(x, weight, bias, *arguments, call.groups), backend)

    inputs = (call.input, call.weight, call.bias)
    # Along random directions: entry by entry it takes a minute.
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_torch_with_a_masked_weight(name: str) -> None:
    """The definition itself, against a mask that the graph (not the ops) makes."""
    case = CASES[name]
    call = build_call(case, torch.float64)
    graph = case.build_graph()
    inputs, outputs = torch.from_numpy(graph.edges().T.copy())
    dense = torch.zeros(case.num_out, case.num_in, *call.weight.shape[1:], dtype=torch.float64)
    dense[outputs, inputs] = call.weight.detach()
    dense_input = call.input
    if not call.spatial:
        expected = F.linear(dense_input, dense.squeeze(-1), call.bias)
    else:  # without groups: the mask alone keeps them apart
        conv = (F.conv1d, F.conv2d, F.conv3d)[call.spatial - 1]
        expected = conv(dense_input, dense, call.bias, call.stride, call.padding, call.dilation)
    torch.testing.assert_close(ops.run(call, "reference"), expected)


@st.composite
def random_graphs(draw: st.DrawFn) -> BipartiteGraph:
    block = (draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 3])))
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cells = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    mask = np.kron(np.array(cells).reshape(rows, columns), np.ones(block))
    return BipartiteGraph.from_mask(mask, block=block)


@st.composite
def random_groups(draw: st.DrawFn) -> BipartiteGraph:
    block = (draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 3])))
    groups = draw(st.integers(1, 4))
    sizes = [groups * draw(st.integers(1, 3)) * side for side in block]
    return groups_in_any_order(sizes[1], sizes[0], groups, block, draw(st.integers(0, 99)))


@st.composite
def random_cases(draw: st.DrawFn, graphs: st.SearchStrategy[BipartiteGraph]) -> Case:
    graph = draw(graphs)
    spatial = draw(st.integers(0, 2))
    ints = st.integers(1, 3)
    kernel = tuple(draw(ints) for _ in range(spatial))
    dilation = tuple(draw(ints) for _ in range(spatial))
    extra = [draw(st.integers(0, 4)) for _ in range(spatial)]
    size = tuple(d * (k - 1) + 1 + e for d, k, e in zip(dilation, kernel, extra, strict=True))
    return Case(
        graph.num_in,
        graph.num_out,
        kernel,
        size or (draw(st.integers(0, 3)),),
        batch=draw(st.sampled_from([None, 0, 1, 3])),
        stride=tuple(draw(ints) for _ in range(spatial)),
        padding=tuple(draw(st.integers(0, 3)) for _ in range(spatial)),
        dilation=dilation,
        bias=draw(st.booleans()),
        graph=graph,
    )


@settings(deadline=None, max_examples=60)
@given(random_cases(random_graphs()))
def test_equals_the_reference_on_random_arguments(case: Case) -> None:
    call = build_call(case, torch.float64)
    expected = outputs_and_gradients(call, "reference")
    for backend in EXACT:
        if backend != "groups" or call.pattern.components:
            assert_equal(outputs_and_gradients(call, backend), expected, torch.float64)
    single = build_call(case, torch.float32)
    expected = outputs_and_gradients(single, "reference")
    assert_equal(outputs_and_gradients(single, "cpu"), expected, torch.float32)


@settings(deadline=None, max_examples=40)
@given(random_cases(random_groups()))
def test_groups_equal_the_reference_on_random_arguments(case: Case) -> None:
    call = build_call(case, torch.float64)
    assert call.pattern.components
    expected = outputs_and_gradients(call, "reference")
    assert_equal(outputs_and_gradients(call, "groups"), expected, torch.float64)
