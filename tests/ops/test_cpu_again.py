"""Calls of a kind that was run before: not chosen for anew, equal, and never out of date."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ops.operator_checks import assert_second_derivatives
from tests.ops.test_parity import CASES, build_call, outputs_and_gradients
from xnets import ops
from xnets.graphs import make_graph
from xnets.nn import ExpanderConv2d, ExpanderLinear
from xnets.ops import _cpu_again, _cpu_library, _dispatch


class Watched(TorchDispatchMode):
    """Sees what passes torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Chosen:
    """Counts how often a backend is chosen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, choose = 0, _dispatch.choose

        def counted(*arguments: Any) -> object:
            self.times += 1
            return choose(*arguments)

        monkeypatch.setattr(_dispatch, "choose", counted)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Chosen:
    return Chosen(monkeypatch)


def linear(**options: Any) -> ExpanderLinear:
    return ExpanderLinear(24, 16, compression=4, **options)


def known(layer: nn.Module) -> dict[Any, Any]:
    return layer.pattern.known


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_watched_operator(name: str, layout: str) -> None:
    """Whoever watches sees the operator of torch; nobody else's call passes it."""
    call = build_call(CASES[name], torch.float32, layout)
    with Watched() as watched:
        expected = outputs_and_gradients(call, "cpu")
    assert "xnets.cpu.default" in watched.seen
    assert "xnets.cpu_backward.default" in watched.seen
    assert not call.pattern.known
    for _ in range(2):
        torch.testing.assert_close(outputs_and_gradients(call, "cpu"), expected, rtol=0, atol=0)
    assert len(call.pattern.known) == 1


def test_is_chosen_for_once(chosen: Chosen) -> None:
    layer, x = linear(), torch.randn(5, 24)
    expected = layer(x)
    assert chosen.times == 1
    with torch.no_grad():
        for same in (x, x.clone(), x.detach().requires_grad_()):
            layer(same)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x.clone()), expected, rtol=0, atol=0)
    layer(x).sum().backward()
    assert chosen.times == 1
    for other in (x[:4], x[None], x[0], torch.randn(24, 5).T):
        layer(other)
        layer(other)
    assert chosen.times == 5


@pytest.mark.parametrize("threads", [1, 2])
def test_follows_the_number_of_threads(chosen: Chosen, threads: int) -> None:
    before = torch.get_num_threads()
    layer, x = linear(), torch.randn(5, 24)
    try:
        for n in (3 - threads, threads, threads):
            torch.set_num_threads(n)
            layer(x)
    finally:
        torch.set_num_threads(before)
    assert chosen.times == 2


CHANGES: dict[str, tuple[Callable[[ExpanderLinear], object], str]] = {
    "weight of another size": (
        lambda layer: setattr(layer.weight, "data", torch.ones(7, 1)),
        r"`weight` \(shape \(7, 1\)\) must have shape \(96, 1\)",
    ),
    "weight of another dtype": (
        lambda layer: setattr(layer.weight, "data", layer.weight.data.double()),
        "`input` is torch.float32, but `weight` is torch.float64",
    ),
    "bias of another size": (
        lambda layer: setattr(layer.bias, "data", torch.ones(7)),
        r"`bias` \(shape \(7,\)\) must have shape \(16,\)",
    ),
    "bias of another dtype": (
        lambda layer: setattr(layer.bias, "data", layer.bias.data.half()),
        "but `bias` is torch.float16",
    ),
    "backend": (lambda layer: setattr(layer, "backend", "groups"), "cannot run this call"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_fits_no_more_is_refused(change: str) -> None:
    layer, x = linear(), torch.randn(5, 24)
    layer(x)
    do, message = CHANGES[change]
    do(layer)
    with pytest.raises(ValueError, match=message):
        layer(x)


@pytest.mark.parametrize(
    "x",
    [None, [1.0], torch.ones(5, 23), torch.ones(5, 24, dtype=torch.float64), torch.ones(())],
    ids=["None", "list", "shape", "dtype", "0d"],
)
def test_wrong_inputs_are_refused_as_ever(x: Any) -> None:
    fresh, used = linear(), linear()
    used(torch.ones(5, 24))
    messages = []
    for layer in (fresh, used):
        with pytest.raises((TypeError, ValueError)) as error:
            layer(x)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_values_that_change_are_read_anew() -> None:
    layer, x = linear(), torch.randn(5, 24)
    layer(x)
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.bias.add_(1)
    torch.testing.assert_close(layer(x), layer.to_dense()(x))
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    layer.bias = None
    torch.testing.assert_close(layer(x), layer.to_dense()(x))


def by_copy(indices: Tensor, new: Tensor) -> None:
    indices.copy_(new)


def by_data(indices: Tensor, new: Tensor) -> None:
    indices.data = new


def by_set(indices: Tensor, new: Tensor) -> None:
    indices.set_(new)


@pytest.mark.parametrize("write", [by_copy, by_data, by_set])
def test_graphs_that_change_are_read_anew(write: Callable[[Tensor, Tensor], None]) -> None:
    layer, x = linear(), torch.randn(5, 24)
    for seed in (1, 2):
        call = layer.call(x)
        new = make_graph("random", 24, 16, compression=4, seed=seed).indices
        with torch.no_grad():
            write(call.pattern.indices, torch.tensor(new, dtype=torch.int32))
        weight = ops.dense_weight(layer.weight, replace(call.pattern))
        expected = nn.functional.linear(x, weight.squeeze(-1), layer.bias)
        torch.testing.assert_close(ops.run(call, "cpu"), expected)
        torch.testing.assert_close(ops.run(call, "cpu"), expected)


def test_a_graph_written_to_before_the_backward_pass_is_an_error() -> None:
    layer, x = linear(), torch.randn(5, 24)
    for _ in range(2):
        y = layer(x)
    with torch.no_grad():
        layer.indices.add_(0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def share(layer: ExpanderLinear) -> None:
    layer.share_memory()


def lend_other_memory(layer: ExpanderLinear) -> None:
    layer.indptr.data = layer.indptr.data.clone()
    layer.indices.data = layer.indices.data.clone()


@pytest.mark.parametrize("move", [share, lend_other_memory])
def test_a_graph_that_moved_before_the_backward_pass_is_read_anew(
    move: Callable[[ExpanderLinear], None],
) -> None:
    layer, x = ExpanderLinear(1024, 1024, degree=64), torch.randn(5, 1024, requires_grad=True)
    expected = torch.autograd.grad(layer.to_dense()(x).sum(), x)
    for _ in range(2):
        y = layer(x)
    move(layer)
    junk = [torch.full((65536,), 7, dtype=torch.int32) for _ in range(20)]  # where it was, perhaps
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x), expected, rtol=1e-4, atol=1e-4)
    assert junk


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: layer.half(),
        lambda layer, x: layer.double(),
        lambda layer, x: setattr(layer.weight, "data", torch.ones(7, 1)),
        lambda layer, x: setattr(x, "data", x.data.double()),
    ],
)
def test_what_changed_before_the_backward_pass_is_an_error(change: Callable[..., object]) -> None:
    layer, x = linear(), torch.randn(5, 24, requires_grad=True)
    y = layer(x)
    change(layer, x)
    with pytest.raises(RuntimeError, match="changed its type or size between"):
        y.sum().backward()


def test_the_memory_format_is_looked_at() -> None:
    x = torch.randn(1, 32, 9, 9)
    far = x.to(memory_format=torch.channels_last)
    for order in ((x, far), (far, x)):
        layer = ExpanderConv2d(32, 32, 3, padding=1, groups=32, degree=1)
        for image in order:
            y = layer(image)
            assert y.is_contiguous() is image.is_contiguous()


def test_steps_may_be_lists() -> None:
    layer, x = ExpanderConv2d(8, 4, 3, padding=1, degree=2), torch.randn(1, 8, 5, 5)
    call = layer.call(x)
    lists = replace(call, stride=[1, 1], padding=[1, 1], dilation=[1, 1])
    torch.testing.assert_close(ops.run(lists, "cpu"), layer(x), rtol=0, atol=0)


def test_gradients_side_by_side() -> None:
    """What torch calls batched: of several outputs at once, by tensors without memory."""
    layer, x = linear(), torch.randn(5, 24, requires_grad=True)
    seeds = torch.randn(3, 5, 16)
    leaves = (x, layer.weight, layer.bias)
    for _ in range(2):
        got = torch.autograd.grad(layer(x), leaves, seeds, is_grads_batched=True)
        for i, seed in enumerate(seeds):
            one = torch.autograd.grad(layer(x), leaves, seed)
            torch.testing.assert_close([g[i] for g in got], list(one))


def test_autocast_comes_and_goes() -> None:
    layer, x = linear(), torch.randn(5, 24)
    dtypes = []
    for enabled in (False, True, False, True):
        with torch.autocast("cpu", enabled=enabled):
            dtypes.append(layer(x).dtype)
    assert dtypes == [torch.float32, torch.bfloat16] * 2


@pytest.mark.parametrize("shape", [(24,), (2, 3, 24), (0, 24), (2, 0, 24)])
def test_any_leading_shape_and_second_derivatives(shape: tuple[int, ...]) -> None:
    layer = linear()
    x = torch.randn(shape)
    layer(x)
    assert_second_derivatives(layer, x, "cpu")


def test_one_image_and_second_derivatives() -> None:
    layer = ExpanderConv2d(8, 12, 3, compression=2, block=(4, 1), stride=2, padding=1)
    assert_second_derivatives(layer, torch.randn(8, 9, 7), "cpu")


def test_watched_backward_passes_see_the_operator() -> None:
    layer, x = linear(), torch.randn(5, 24)
    loss = layer(x).sum()
    with Watched() as watched:
        loss.backward()
    assert "xnets.cpu_backward.default" in watched.seen


def test_negated_views_and_transforms_take_the_other_way() -> None:
    layer = linear()
    layer(torch.randn(5, 24))
    z = torch.randn(5, 24, dtype=torch.complex64)
    negated = z.conj().imag
    assert negated.is_neg()
    torch.testing.assert_close(layer(negated), layer(negated.clone()))
    batch = torch.randn(2, 5, 24)
    torch.testing.assert_close(torch.func.vmap(layer)(batch), layer(batch))


def test_sparse_inputs_take_the_other_way() -> None:
    layer, x = linear(backend="cpu"), torch.randn(5, 24)
    layer(x)
    with pytest.raises(ValueError, match="it needs a strided input, not"):
        layer(x.to_sparse())


def test_copies_and_pickles_know_nothing() -> None:
    layer, x = linear(), torch.randn(5, 24)
    expected = layer(x)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    for other in (
        copy.deepcopy(layer),
        copy.copy(layer.pattern),
        torch.load(buffer, weights_only=False),
    ):
        if isinstance(other, ops.Pattern):
            assert not other.known
            continue
        assert not known(other)
        torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
        assert known(other)
        assert known(other) is not known(layer)


def test_many_shapes_keep_few_kinds() -> None:
    layer = linear()
    for rows in range(2 * _cpu_again._MOST + 3):
        layer(torch.randn(rows, 24))
        assert 1 <= len(known(layer)) <= _cpu_again._MOST


def test_graphs_of_inference_mode_are_not_trusted(chosen: Chosen) -> None:
    """Their tensors do not count how often they were written to."""
    with torch.inference_mode():
        layer, x = linear(), torch.randn(5, 24)
        for _ in range(2):
            torch.testing.assert_close(layer(x), layer.to_dense()(x))
        assert not known(layer)
    assert chosen.times == 2


def test_other_backends_are_chosen_at_every_call(chosen: Chosen) -> None:
    layer, x = linear(backend="gather"), torch.randn(5, 24)
    for _ in range(2):
        layer(x)
    assert chosen.times == 2
    assert not known(layer)


def test_without_the_library_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = linear(), torch.randn(5, 24)
    monkeypatch.setattr("xnets.ops._cpu.LIBRARY", None)
    layer(x)
    assert not known(layer)
    assert _cpu_library.LIBRARY is not None


def test_compiled_code_does_not_depend_on_what_is_known() -> None:
    layer, graphs = linear(), []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    pattern, weight = layer.pattern, layer.weight

    def run(x: Tensor) -> Tensor:
        return ops.expander_linear(x, weight, None, pattern, backend="cpu")

    compiled = torch.compile(run, backend=backend, dynamic=True)
    for rows in range(3, 7):
        x = torch.randn(rows, 24)
        torch.testing.assert_close(compiled(x), run(x))
    assert len(graphs) == 1
