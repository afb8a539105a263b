"""Torch's depthwise convolutions on our kernels: equal, and torch's own where they must be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xnets
from xnets import ops
from xnets.nn import DepthwiseConv2d, ExpanderConv2d
from xnets.nn._depthwise import run_depthwise


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends that run, in turn; torch's own op is none."""
    found: list[str] = []
    run = ops.run

    def spy(call: ops.Call, backend: str = "auto") -> Tensor:
        found.append(ops.choose(call, backend).name)
        return run(call, backend)

    monkeypatch.setattr(ops, "run", spy)
    return found


def pair(*arguments: Any, **options: Any) -> tuple[DepthwiseConv2d, nn.Conv2d]:
    """A layer and torch's with the same parameters."""
    ours = DepthwiseConv2d(*arguments, **options)
    dense = nn.Conv2d(*arguments, **options)
    dense.load_state_dict(ours.state_dict())
    return ours, dense


def results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(leaf)
    leaves = [leaf, *layer.parameters()]
    seed = torch.linspace(-1, 2, y.numel()).view(y.shape).to(y)
    return [y.detach(), *torch.autograd.grad(y, leaves, seed)]


@pytest.mark.parametrize("size", [(2, 9, 7), (1, 33, 20), (3, 5, 5), (0, 6, 6)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 2), (5, 1)])
def test_equals_torch(
    taken: list[str],
    kernel: int,
    padding: int,
    stride: int,
    multiplier: int,
    bias: bool,
    size: tuple[int, ...],
) -> None:
    ours, dense = pair(
        6, 6 * multiplier, kernel, stride=stride, padding=padding, groups=6, bias=bias
    )
    x = torch.randn(size[0], 6, *size[1:])
    for _ in range(2):
        torch.testing.assert_close(results(ours, x), results(dense, x), rtol=1e-4, atol=1e-4)
    assert taken == ["cpu"] * 2
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), dense(x), rtol=1e-4, atol=1e-5)


OTHERS: dict[str, tuple[dict[str, Any], Any]] = {
    "channels_last": ({}, lambda x: x.to(memory_format=torch.channels_last)),
    "one image": ({}, lambda x: x[0]),
    "same": ({"padding": "same"}, lambda x: x),
    "circular": ({"padding_mode": "circular"}, lambda x: x),
    "few groups": ({"groups": 3}, lambda x: x),
}


@pytest.mark.parametrize("name", OTHERS)
def test_leaves_the_rest_to_torch(taken: list[str], name: str) -> None:
    options, change = OTHERS[name]
    ours, dense = pair(6, 6, 3, **{"padding": 1, "groups": 6, **options})
    x = change(torch.randn(2, 6, 9, 8))
    torch.testing.assert_close(results(ours, x), results(dense, x), rtol=0, atol=0)
    assert not taken


def test_other_windows_are_torchs(taken: list[str]) -> None:
    ours, dense = pair(6, 6, (7, 3), stride=(1, 3), padding=(3, 0), dilation=(1, 2), groups=6)
    x = torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(results(ours, x), results(dense, x), rtol=0, atol=0)
    assert not taken


def test_other_dtypes_are_torchs(taken: list[str]) -> None:
    ours, dense = pair(6, 6, 3, padding=1, groups=6)
    x = torch.randn(2, 6, 9, 8)
    with torch.autocast("cpu"):
        assert torch.equal(ours(x), dense(x))
        assert ours(x).dtype == torch.bfloat16
    torch.testing.assert_close(ours.double()(x.double()), dense.double()(x.double()))
    assert not taken


@pytest.mark.parametrize(
    "x",
    [torch.ones(2, 5, 9, 9), torch.ones(2, 6, 2, 9), torch.ones(6), torch.ones(2, 6, 9, 9).half()],
)
def test_errors_are_torchs(x: Tensor) -> None:
    messages = []
    for layer in pair(6, 6, 3, groups=6):
        with pytest.raises(RuntimeError) as error:
            layer(x)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_what_is_compiled_exported_or_traced_is_torchs(taken: list[str]) -> None:
    ours, dense = pair(6, 6, 3, padding=1, groups=6)
    x = torch.randn(2, 6, 9, 8)
    ours(x)
    assert taken == ["cpu"]
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), dense(x))
    program = torch.export.export(ours, (x,))
    assert "conv2d" in str(program.graph)
    assert "xnets" not in str(program.graph)
    traced = torch.fx.symbolic_trace(nn.Sequential(ours))
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
    torch.testing.assert_close(traced(x), dense(x))
    torch.testing.assert_close(torch.func.vmap(ours)(x[None])[0], dense(x))
    assert ours.to("meta")(x.to("meta")).is_meta
    assert taken == ["cpu"] * 2  # the traced module calls the layer itself


def test_follows_its_weights_and_is_torchs_in_files() -> None:
    ours, dense = pair(6, 12, 3, groups=6)
    x = torch.randn(2, 6, 9, 8)
    ours(x)
    with torch.no_grad():
        ours.weight.mul_(2)
        dense.weight.mul_(2)
    torch.testing.assert_close(ours(x), dense(x))
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in dense.state_dict().items()
    }


class Doubled(nn.Module):
    times = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.times += 1
        return 2 * weight


def test_weights_that_are_computed_are_computed_once(taken: list[str]) -> None:
    ours, dense = pair(6, 6, 3, groups=6)
    doubled = Doubled()
    for layer in (ours, dense):
        nn.utils.parametrize.register_parametrization(layer, "weight", doubled)
    x = torch.randn(2, 6, 9, 8)
    doubled.times = 0
    y = ours(x)
    assert doubled.times == 1
    torch.testing.assert_close(y, dense(x))
    assert taken == ["cpu"]


def test_what_users_do_to_layers_of_torch(taken: list[str]) -> None:
    x = torch.randn(2, 6, 9, 8)
    for padding in (1, [1, 1]):
        ours, dense = pair(6, 6, 3, groups=6)
        ours.padding = dense.padding = padding  # type: ignore[assignment]
        torch.testing.assert_close(ours(x), dense(x), rtol=0, atol=0)
    ours, dense = pair(6, 6, 3, groups=6)
    ours._conv_forward = lambda input, weight, bias: input  # type: ignore[method-assign]
    assert ours(x) is x
    for layer in (ours, dense):
        layer.weight.data, layer.bias.data = layer.weight.data[:4], layer.bias.data[:4]
        layer.groups = layer.in_channels = 4
    del ours._conv_forward
    torch.testing.assert_close(ours(x[:, :4]), dense(x[:, :4]), rtol=0, atol=0)
    with pytest.raises(TypeError):
        ours(None)
    assert not taken


def test_gradients_side_by_side() -> None:
    ours, dense = pair(6, 6, 3, groups=6)
    x = torch.randn(2, 6, 9, 8, requires_grad=True)
    seeds = torch.randn(3, 2, 6, 7, 6)
    got, expected = (
        torch.autograd.grad(m(x), (x, *m.parameters()), seeds, is_grads_batched=True)
        for m in (ours, dense)
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_only_depthwise_layers_of_torch_become_one() -> None:
    class Own(nn.Conv2d):
        pass

    for layer in (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2), Own(4, 4, 3, groups=4)):
        kind = type(layer)
        assert not run_depthwise(layer)
        assert type(layer) is kind
    assert not run_depthwise(nn.Conv2d(1, 4, 3))
    assert run_depthwise(DepthwiseConv2d(4, 4, 3, groups=4))


def test_optimised_and_loaded(tmp_path: Any) -> None:
    model = xnets.create_model("X-MobileNet-0.5-4", num_classes=5).eval()
    assert sum(isinstance(layer, DepthwiseConv2d) for layer in model.modules()) == 13
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        fast = xnets.optimize(model, x)
        torch.testing.assert_close(fast(x), expected, rtol=1e-4, atol=1e-5)
        xnets.save(model, tmp_path / "model.safetensors")
        dense = xnets.create_model("X-MobileNet-0.5-4", num_classes=5, compression=1).eval()
        loaded = xnets.load(tmp_path / "model.safetensors", into=dense)
        torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-5)
    assert sum(isinstance(layer, DepthwiseConv2d) for layer in loaded.modules()) == 13


@pytest.mark.parametrize("grad", [False, True])
def test_auto_takes_the_kernels_for_expander_layers_too(grad: bool) -> None:
    layer = ExpanderConv2d(32, 32, 3, padding=1, groups=32, degree=1)
    x = torch.randn(1, 32, 28, 28, requires_grad=grad)
    assert ops.choose(layer.call(x)).name == "cpu"
    assert ops.choose(layer.call(x.to(memory_format=torch.channels_last))).name == "groups"
    wide = ExpanderConv2d(32, 32, 7, padding=3, groups=32, degree=1)
    assert ops.choose(wide.call(x)).name == "groups"
