"""The compiled kernels as a backend: what torch asks of an operator, threads, no library."""

from __future__ import annotations

import contextlib
import copy
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import xnets
from tests.ops.operator_checks import (
    assert_only_wanted_gradients,
    assert_second_derivatives,
    operator_arguments,
)
from xnets import ops
from xnets.graphs import make_graph
from xnets.nn import ExpanderConv2d, ExpanderLinear
from xnets.ops import _cpu, _cpu_library, _cpu_ops

LAYERS = {
    "linear": (lambda: ExpanderLinear(24, 16, compression=4, backend="cpu"), (5, 24)),
    "conv": (
        lambda: ExpanderConv2d(
            8, 12, 3, compression=2, block=(4, 1), stride=2, padding=1, backend="cpu"
        ),
        (2, 8, 9, 7),
    ),
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[name]
    return make(), torch.randn(shape)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own doing
@pytest.mark.parametrize("name", LAYERS)
def test_is_a_good_operator(name: str) -> None:
    """Schema, fake tensors, autograd and AOT dispatch, by torch's own check."""
    torch.library.opcheck(torch.ops.xnets.cpu.default, operator_arguments(*build(name)))


@pytest.mark.parametrize("name", LAYERS)
def test_compiles_without_a_graph_break(name: str) -> None:
    layer, x = build(name)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in (x, torch.cat([x, x])):
        torch.testing.assert_close(compiled(batch), layer(batch))
        compiled(batch).square().sum().backward()
        got = [p.grad for p in layer.parameters()]
        layer.zero_grad()
        layer(batch).square().sum().backward()
        torch.testing.assert_close(got, [p.grad for p in layer.parameters()])
        layer.zero_grad()


@pytest.mark.parametrize("name", LAYERS)
def test_exports(name: str) -> None:
    layer, x = build(name)
    program = torch.export.export(layer, (x,))
    assert "xnets.cpu" in str(program.graph)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives(name: str) -> None:
    assert_second_derivatives(*build(name), "cpu")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_makes_only_the_gradients_that_are_wanted(name: str, frozen: str) -> None:
    assert_only_wanted_gradients(*build(name), frozen)


def test_weights_of_nn_utils_and_bias_of_none() -> None:
    layer = ExpanderLinear(8, 8, degree=2, bias=False, backend="cpu")
    layer = torch.nn.utils.parametrizations.weight_norm(layer)
    layer(torch.randn(3, 8)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    """What a dense layer would return: low precision out, float32 gradients of the weights."""
    for name in LAYERS:
        layer, x = build(name)
        expected = layer(x)
        for batch in (x, x.to(dtype)):
            with torch.autocast("cpu", dtype=dtype):
                output = layer(batch)
                assert output.dtype == dtype
            torch.testing.assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)
            output.float().sum().backward()
            assert layer.weight.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by forward_ad itself
def test_says_what_it_cannot_do() -> None:
    layer, x = build("linear")
    with pytest.raises(ValueError, match="'cpu' cannot run this call: it computes in float32, not"):
        layer.double()(x.double())
    layer.float()
    with pytest.raises(ValueError, match=r"torch\.func and forward-mode derivatives"):
        torch.func.vmap(layer)(x[None])
    with torch.autograd.forward_ad.dual_level(), pytest.raises(ValueError, match="forward-mode"):
        layer(torch.autograd.forward_ad.make_dual(x, x))
    layer.backend = "auto"
    torch.testing.assert_close(torch.func.vmap(layer)(x[None])[0], layer(x))
    assert layer.double()(x.double()).dtype == torch.float64
    meta = layer.float().to("meta")
    assert "it runs on the CPU, and the input is on meta" in meta.explain(x.to("meta"))


def test_a_kernel_larger_than_its_input() -> None:
    layer = ExpanderConv2d(4, 4, 3, degree=2, backend="cpu")
    with pytest.raises(
        ValueError, match=r"kernel \(size \(3, 3\), .* larger than the padded input"
    ):
        layer(torch.randn(1, 4, 2, 2))


def test_tables_follow_a_graph_that_changes() -> None:
    layer, x = build("linear")
    layer(x).sum().backward()
    for seed in (1, 2):
        graph = make_graph("random", 24, 16, compression=4, seed=seed)
        with torch.no_grad():  # in place, as DDP's first broadcast does
            layer.indices.copy_(torch.from_numpy(graph.indices.copy()))
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(layer(leaf).sum(), leaf)
        torch.testing.assert_close(grad, layer.dense_weight().sum(0).expand_as(grad))


def test_tables_die_with_their_layer() -> None:
    gc.collect()
    before = len(_cpu_ops.graph_of)
    layer, x = build("linear")
    layer(x).sum().backward()
    twin = copy.deepcopy(layer)
    twin(x)
    assert len(_cpu_ops.graph_of) == before + 2
    del layer, twin
    gc.collect()
    assert len(_cpu_ops.graph_of) == before


def test_many_shapes_keep_few_plans() -> None:
    layer, _ = build("linear")
    for rows in range(2 * _cpu_library._MOST_PLANS):
        layer(torch.randn(rows, 24))
    graph = _cpu_ops.graph_of(layer.indptr, layer.indices, 24, 16, 1, 1)
    assert len(graph._plans) <= _cpu_library._MOST_PLANS


def test_tables_and_plans_go_with_the_layer() -> None:
    """At once, without a collection of garbage."""
    layer, x = build("linear")
    layer(x)
    graph = weakref.ref(_cpu_ops.graph_of(layer.indptr, layer.indices, 24, 16, 1, 1))
    gc.collect()
    gc.disable()
    try:
        del layer
        assert graph() is None
    finally:
        gc.enable()


def test_inference_tensors() -> None:
    with torch.inference_mode():
        layer, x = build("conv")
        output = layer(x)
    layer.backend = "masked"
    with torch.inference_mode():
        torch.testing.assert_close(output, layer(x))


def test_the_same_bits_every_time() -> None:
    layer = ExpanderConv2d(64, 64, 3, compression=4, padding=1, backend="cpu")
    x = torch.randn(4, 64, 14, 14, requires_grad=True)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs = []
        for _ in range(3):
            output = layer(x)
            grads = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
            runs.append([output, *grads])
        for again in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_torch_governs_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library runs on torch's OpenMP runtime, and is told torch's number of threads."""
    path = _cpu_library.LIBRARY.xn_openmp_path().decode()
    assert path, "torch brings an OpenMP runtime, and the library should have found it"
    maps = Path("/proc/self/maps")
    if maps.exists():
        names = {line.split()[-1] for line in maps.read_text().splitlines() if "omp" in line}
        runtimes = {n for n in names if Path(n).name.startswith(("libgomp", "libomp", "libiomp"))}
        assert str(Path(path).resolve()) in {str(Path(n).resolve()) for n in runtimes}
    layer, x = build("conv")
    seen = []
    plan = _cpu_library.Plan.__init__

    def spy(self: object, *arguments: object) -> None:
        seen.append(arguments[-1])
        plan(self, *arguments)

    monkeypatch.setattr(_cpu_library.Plan, "__init__", spy)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        layer(x)
    assert seen == [1, 2]


def test_many_python_threads_at_once() -> None:
    """One layer, eight threads, sizes of their own: each gets what it would get alone."""
    layer = ExpanderConv2d(32, 32, 3, compression=4, padding=1, backend="cpu")
    inputs = [torch.randn(1 + i % 3, 32, 5 + i, 9, requires_grad=True) for i in range(8)]

    def work(x: Tensor) -> list[Tensor]:
        output = layer(x)
        return [output.detach(), *torch.autograd.grad(output.square().sum(), [x, layer.weight])]

    torch.set_num_threads(1)  # which is per thread in OpenMP: the others would start with more
    alone = [work(x) for x in inputs]
    wrong: list[object] = []

    def repeat(index: int) -> None:
        torch.set_num_threads(1)
        try:
            for _ in range(30):
                together = work(inputs[index])
                if not all(torch.equal(a, b) for a, b in zip(together, alone[index], strict=True)):
                    wrong.append(index)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lets_go_of_the_interpreter() -> None:
    """A thread that counts goes on while a kernel runs."""
    layer = ExpanderConv2d(256, 256, 3, compression=2, padding=1, backend="cpu")
    x = torch.randn(8, 256, 28, 28)
    layer(x)
    ticks, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            ticks[0] += 1
            stop.wait(1e-4)

    counter = threading.Thread(target=count)
    plan = _cpu_library.Plan
    during = []
    run = plan.run

    def measured(self: _cpu_library.Plan, *arguments: object) -> None:
        before = ticks[0]
        run(self, *arguments)
        during.append(ticks[0] - before)

    counter.start()
    try:
        plan.run = measured
        with torch.no_grad():
            layer(x)
    finally:
        plan.run = run
        stop.set()
        counter.join()
    assert during[0] > 3


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ("nowhere.so", "cannot be loaded: .*nowhere.so"),
        ("text.so", "cannot be loaded"),
        (None, "missing: reinstall xnets with a C"),
    ],
)
def test_works_without_the_library(
    library: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library is None:
        monkeypatch.setattr(_cpu_library, "find_library", lambda: None)
    else:
        (tmp_path / "text.so").write_text("not a library")
        monkeypatch.setenv("XNETS_CPU_LIBRARY", str(tmp_path / library))
    found, why = _cpu_library.load_library()
    assert found is None
    monkeypatch.setattr(_cpu, "LIBRARY", found)
    monkeypatch.setattr(_cpu, "WHY_NO_LIBRARY", why)
    layer = ExpanderLinear(24, 16, compression=4)
    x = torch.randn(5, 24)
    with pytest.raises(ValueError, match=message):
        ops.choose(layer.call(x), "cpu")
    assert "no: the compiled kernels" in layer.explain(x)
    assert layer(x).shape == (5, 16)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = _cpu_library.ABI_VERSION
    monkeypatch.setattr(_cpu_library, "ABI_VERSION", 999)
    why = _cpu_library.load_library()[1]
    assert f"is of another version ({ours}, not 999): reinstall xnets" in why


def test_imports_without_the_library(tmp_path: Path) -> None:
    code = (
        "import torch, xnets; layer = xnets.nn.ExpanderLinear(8, 8, degree=2); "
        "x = torch.ones(1, 8); layer(x).sum().backward(); print(layer.explain(x))"
    )
    source = str(Path(xnets.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={"XNETS_CPU_LIBRARY": str(tmp_path / "gone.so"), "PYTHONPATH": source},
    )
    assert "no: the compiled kernels cannot be loaded" in run.stdout


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (4, 4)])
def test_pixels_that_no_tap_reaches_have_no_gradient(block: tuple[int, int]) -> None:
    """Between the strides of a 1x1 convolution, larger than the second-level cache."""
    layer = ExpanderConv2d(64, 64, 1, stride=2, degree=16, block=block, bias=False, backend="cpu")
    x = torch.randn(2, 64, 57, 56, requires_grad=True)
    found = torch.autograd.grad(layer(x).sum(), x)[0]
    layer.backend = "masked"
    torch.testing.assert_close(found, torch.autograd.grad(layer(x).sum(), x)[0])
    assert not found[:, :, 1::2].any()


def test_scratch_is_kept_by_each_thread_and_given_back():
    """Scratch grows with the largest call; what is too large to keep is not kept."""
    _cpu_library.release_scratch()
    small, large = _cpu_library._scratch(1000), _cpu_library._scratch(100_000)
    assert large.numel() >= 100_000
    assert _cpu_library._scratch(1000).data_ptr() == large.data_ptr() != small.data_ptr()
    others = []
    thread = threading.Thread(target=lambda: others.append(_cpu_library._scratch(10)))
    thread.start()
    thread.join()
    assert others[0].data_ptr() != large.data_ptr()
    huge = _cpu_library._scratch(_cpu_library._MOST_SCRATCH + 1)
    assert _cpu_library._scratch(10).data_ptr() == large.data_ptr() != huge.data_ptr()
    _cpu_library.release_scratch()
    assert _cpu_library._HELD.memory is None


@pytest.mark.parametrize("name", LAYERS)
def test_scratch_too_large_to_keep_lives_until_the_call_returns(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is freed at this size is unmapped, or another tensor's."""
    layer, x = build(name)
    made, alive = [], []

    def make(size: int) -> Tensor:
        made.append(weakref.ref(memory := torch.empty(size, dtype=torch.uint8)))
        return memory

    def watched(function: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            alive.append(made[-1]() is not None)
            return function(*arguments) if alive[-1] else 1  # an error

        return call

    monkeypatch.setattr(_cpu_library, "_scratch", make)
    for step in _cpu_library._STEPS:
        full_name = f"xn_{name}_{step}"
        function = getattr(_cpu_library.LIBRARY, full_name)
        monkeypatch.setattr(_cpu_library.LIBRARY, full_name, watched(function))
    layer(x.requires_grad_()).sum().backward()
    assert alive == [True] * 3
    assert not any(memory() for memory in made)


def test_a_table_found_for_other_shapes_changes_no_measured_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls that share what rows read need more scratch than was measured without the table."""
    layer = ExpanderConv2d(64, 64, 1, compression=2, padding=1, backend="cpu")
    small, large = torch.randn(1, 64, 5, 5), torch.randn(1, 64, 10, 10)
    made = []

    def make(size: int) -> Tensor:
        made.append((memory := torch.full((size + (1 << 20),), 77, dtype=torch.uint8), size))
        return memory

    monkeypatch.setattr(_cpu_library, "_scratch", make)
    with torch.no_grad():
        first, _, second = (layer(x) for x in (small, large, small))
        torch.testing.assert_close(second, first)
        layer.backend = "masked"
        torch.testing.assert_close(second, layer(small))
    assert len(made) == 3
    assert all(memory[size:].eq(77).all() for memory, size in made)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_other_default_dtypes(name: str, dtype: torch.dtype) -> None:
    """Results are of the input's type, whatever torch makes by default."""
    layer, x = build(name)
    expected = layer(x.requires_grad_())
    wanted = torch.autograd.grad(expected.sum(), [x, *layer.parameters()])
    torch.set_default_dtype(dtype)
    try:
        y = layer(x)
        found = torch.autograd.grad(y.sum(), [x, *layer.parameters()])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_reads_negated_views(name: str) -> None:
    layer, x = build(name)
    torch.testing.assert_close(layer(torch._neg_view(x)), layer(-x))
    y = layer(x.requires_grad_())
    grad = torch.randn(y.shape)
    negated, wanted = (
        torch.autograd.grad(y, [x, *layer.parameters()], g, retain_graph=True)
        for g in (torch._neg_view(grad), -grad)
    )
    torch.testing.assert_close(negated, wanted)
    zeros = torch.autograd.grad(y, x, torch._efficientzerotensor(y.shape))[0]
    assert not zeros.any()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes become constants
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("backend", ["auto", "cpu"])
@pytest.mark.parametrize("name", LAYERS)
def test_torchscript_records_the_operator(name: str, backend: str) -> None:
    layer, x = build(name)
    layer.backend = backend
    with torch.no_grad():
        traced = torch.jit.trace(layer, x, check_trace=False)
        other = torch.randn(x.shape)
        torch.testing.assert_close(traced(other), layer(other))


def test_graphs_of_inference_mode_may_be_loaded_over():
    """Tensors of that mode do not say that they were written to."""
    with torch.inference_mode():
        layer, other = (ExpanderLinear(24, 16, compression=4, seed=s) for s in (0, 1))
        layer.backend = other.backend = "cpu"
        x = torch.randn(5, 24)
        assert not torch.allclose(layer(x), other(x))
        layer.load_state_dict(other.state_dict())
        torch.testing.assert_close(layer(x), other(x))


@pytest.mark.parametrize("option", ["stride", "padding", "dilation"])
def test_numbers_that_do_not_fit_are_for_others(option: str) -> None:
    layer = ExpanderConv2d(8, 8, 1, degree=2, **{option: 2**32 + 1})
    with pytest.raises(ValueError, match="at most 2,147,483,647"):
        ops.choose(layer.call(torch.randn(1, 8, 5, 5)), "cpu")


def test_transposed_tables_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that come at once get the same: one's must not go while the other reads it."""
    layer, _ = build("linear")
    graph = _cpu_ops.graph_of(layer.indptr, layer.indices, 24, 16, 1, 1)
    meeting, calls = threading.Barrier(2), []
    transpose = _cpu_library.LIBRARY.xn_transpose

    def slow(*arguments: object) -> int:
        calls.append(arguments)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=0.5)
        return transpose(*arguments)

    monkeypatch.setattr(_cpu_library.LIBRARY, "xn_transpose", slow)
    threads = [threading.Thread(target=graph.transpose) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
