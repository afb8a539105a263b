"""Tracing, lowering, folding and fusing: every pass leaves what a program computes as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import xnets
from tests.inference.conftest import difference, randomized
from tests.inference.nets import NETS, Lambda, bound, conv, lowered
from xnets.inference._fuse import PASSES, apart, simplify
from xnets.inference._interpret import interpret
from xnets.inference._ir import Aten, Conv, Pointwise
from xnets.inference._lower import lower
from xnets.inference._program import Program
from xnets.inference._trace import CannotOptimizeError, prepare, trace


def program_of(model: nn.Module, x: Tensor) -> Program:
    traced = trace(prepare(model), (x,), dynamic=False)
    return lower(traced).without_dead_steps()


def kinds(program: Program) -> list[str]:
    return [type(step).__name__ for step in program]


@pytest.mark.parametrize("name", NETS)
def test_every_pass_computes_the_same(name: str) -> None:
    model, program = lowered(name)
    x = torch.randn(3, 8, 7, 6)
    with torch.no_grad():
        expected = model(x.clone())
        for one in (lambda program: program, *PASSES):
            program = one(program)
            assert difference(interpret(bound(program, 3), [x.clone()]), [expected]) < 1e-5
    assert kinds(program) == NETS[name][1]


ACTS = {
    "ReLU": nn.ReLU(), "ReLU6": nn.ReLU6(), "SiLU": nn.SiLU(), "hardswish": nn.Hardswish(),
    "sigmoid": nn.Sigmoid(), "hardsigmoid": nn.Hardsigmoid(), "GELU": nn.GELU(),
    "tanh": nn.Tanh(), "leaky": nn.LeakyReLU(0.2), "clamp(-1, 2)": nn.Hardtanh(-1, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTS)
def test_activations(name: str) -> None:
    model = nn.Sequential(conv(), ACTS[name]).eval()
    x = 4 * torch.randn(2, 8, 5, 5)
    program = simplify(program_of(model, x))
    (step,) = program.steps
    assert isinstance(step, Conv)
    assert step.fused == (name,)
    with torch.no_grad():
        assert difference(interpret(program, [x]), [model(x)]) < 1e-6


def test_what_is_fused_is_said() -> None:
    layer = nn.Sequential(conv(bias=False), nn.BatchNorm2d(8))
    model = randomized(Lambda(lambda m, x: F.relu(m.a(x) + x), a=layer))
    (step,) = simplify(program_of(model, torch.randn(1, 8, 5, 5))).steps
    assert step.fused == ("BatchNorm", "add", "ReLU")
    assert step.name == "a.0"


def test_a_depthwise_convolution_joins_the_next_and_leaves_it_again() -> None:
    model = randomized(NETS["separable expander"][0])
    x = torch.randn(2, 8, 7, 6)
    (step,) = simplify(program_of(model, x)).steps
    assert isinstance(step, Conv)
    before = ("depthwise conv 3x3 before", "BatchNorm before", "hardswish before")
    assert step.fused == (*before, "BatchNorm", "SiLU")
    first, second = apart(step)
    assert (first.fused, second.fused) == (("BatchNorm", "hardswish"), ("BatchNorm", "SiLU"))
    assert first.y is second.x
    assert first.y.shape == (2, 8, 4, 3)
    with torch.no_grad():
        found = interpret(Program([first, second], [step.x], [step.y]), [x])
        assert difference(found, [model(x)]) < 1e-6


@pytest.mark.parametrize(
    "layer",
    [
        conv(groups=8, dilation=2),
        conv(kernel=7, padding=3, groups=8),
        conv(groups=8, stride=3),
        conv(groups=8, padding=(1, 0)),
        conv(8, 16, groups=8),
        conv(groups=4),
    ],
    ids=["dilated", "7x7", "stride_3", "not_square", "two_outputs_each", "groups_of_two"],
)
def test_windows_that_the_library_does_not_know_stay_apart(layer: nn.Module) -> None:
    channels = layer.weight.shape[0]
    model = nn.Sequential(layer, conv(channels, 8, 1, padding=0)).eval()
    assert kinds(simplify(program_of(model, torch.randn(1, 8, 9, 9)))) == ["Conv", "Conv"]


def test_constants_are_computed_once() -> None:
    model = Lambda(lambda m, x: x * (torch.arange(8.0).view(8, 1, 1) + m.a.weight.sum()), a=conv())
    (step,) = program_of(model.eval(), torch.randn(1, 8, 5, 5)).steps
    assert isinstance(step, Pointwise)


def test_random_numbers_are_drawn_each_time() -> None:
    model = Lambda(lambda m, x: x + torch.rand(8, 1, 1)).eval()
    x = torch.zeros(1, 8, 5, 5)
    program = program_of(model, x)
    assert any(isinstance(step, Aten) for step in program)
    first, second = interpret(program, [x])[0], interpret(program, [x])[0]
    assert not torch.equal(first, second)


def test_a_state_is_refused() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * self.calls

    with pytest.raises(CannotOptimizeError, match="writes into its parameters or buffers"):
        program_of(Counter().eval(), torch.ones(1, 2, 3, 3))


def test_scales_are_folded_exactly_along_irregular_graphs() -> None:
    graph = xnets.graphs.make_graph("random_fan_out", 8, 12, degree=3)
    assert len(set(graph.fan_in.tolist())) > 1
    layer = xnets.nn.ExpanderLinear(8, 12, graph=graph)
    model = randomized(nn.Sequential(layer, nn.BatchNorm1d(12)))
    x = torch.randn(3, 8)
    program = simplify(program_of(model, x))
    assert kinds(program) == ["Linear"]
    with torch.no_grad():
        assert difference(interpret(program, [x]), [model(x)]) < 1e-6


def test_weights_find_their_groups() -> None:
    grouped = xnets.nn.ExpanderConv2d(8, 8, 3, compression=4, family="grouped")
    shuffled = xnets.nn.ExpanderConv2d(8, 8, 3, compression=4, family="shuffled")
    found = []
    for layer in (grouped, shuffled):
        (step,) = program_of(layer.eval(), torch.randn(1, 8, 5, 5)).steps
        assert isinstance(step, Conv)
        found.append((step.weights.torch_groups, tuple(step.weights.dense().shape)))
    assert found == [(4, (8, 2, 3, 3)), (1, (8, 8, 3, 3))]
