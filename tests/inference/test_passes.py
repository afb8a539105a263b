"""Tracing, lowering, folding and fusing: every pass leaves what a program computes as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import xnets
from tests.inference.conftest import difference, randomized
from xnets.inference._fuse import PASSES, simplify
from xnets.inference._interpret import interpret
from xnets.inference._ir import Aten, Conv, Pointwise, Program
from xnets.inference._lower import lower
from xnets.inference._trace import CannotOptimizeError, prepare, trace


def program_of(model: nn.Module, x: Tensor) -> Program:
    traced = trace(prepare(model), (x,), dynamic=False)
    return lower(traced).without_dead_steps()


def kinds(program: Program) -> list[str]:
    return [type(step).__name__ for step in program]


class Lambda(nn.Module):
    def __init__(self, function: object, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[operator]


def conv(num_in: int = 8, num_out: int = 8, kernel: int = 3, **options: object) -> nn.Module:
    padding = options.pop("padding", kernel // 2)
    return nn.Conv2d(num_in, num_out, kernel, padding=padding, **options)  # type: ignore[arg-type]


def expander(num_in: int = 8, num_out: int = 8, **options: object) -> nn.Module:
    return xnets.nn.ExpanderConv2d(num_in, num_out, 3, padding=1, compression=2, **options)  # type: ignore[arg-type]


def normed(layer: nn.Module, act: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(layer, nn.BatchNorm2d(8), act or nn.ReLU(inplace=True))


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


# network -> what it becomes, step by step
NETS = {
    "norm and relu": (normed(conv(bias=False)), ["Conv"]),
    "expander": (normed(expander()), ["Conv"]),
    "expander block": (normed(expander(block=(4, 1), bias=False)), ["Conv"]),
    "expander groups": (normed(expander(groups=2)), ["Conv"]),
    "expander same": (
        nn.Sequential(xnets.nn.ExpanderConv2d(8, 8, 2, padding="same", degree=4), nn.ReLU()),
        ["Aten", "Conv"],
    ),
    "depthwise": (normed(conv(groups=8)), ["Conv"]),
    "grouped": (normed(conv(groups=2), nn.Hardswish()), ["Conv"]),
    "residual": (
        Lambda(lambda m, x: F.relu_(m.b(F.relu(m.a(x))) + x), a=conv(), b=normed(conv())[:2]),
        ["Conv", "Conv"],
    ),
    "two branches": (
        Lambda(lambda m, x: (m.a(x) + m.b(x)).relu(), a=normed(conv())[:2], b=normed(conv())[:2]),
        ["Conv", "Conv"],
    ),
    "own sum": (Lambda(lambda m, x: (y := m.a(x)) + y, a=conv()), ["Conv", "Pointwise"]),
    "act between": (
        Lambda(lambda m, x: F.batch_norm(m.a(x).relu(), m.n.running_mean, m.n.running_var),
               a=conv(), n=nn.BatchNorm2d(8)),
        ["Conv", "Pointwise"],
    ),
    "before": (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), conv(bias=False)), ["Conv"]),
    "before two": (
        Lambda(lambda m, x: (y := m.n(x).relu()) + m.a(y), a=conv(), n=nn.BatchNorm2d(8)),
        ["Pointwise", "Conv"],
    ),
    "numbers": (Lambda(lambda m, x: (m.a(x) * 2 + 1 - 0.25) / 4, a=conv()), ["Conv"]),
    "silu": (Lambda(lambda m, x: (y := m.a(x)) * y.sigmoid(), a=conv()), ["Conv"]),
    "excite": (
        Lambda(lambda m, x: x * m.b(F.silu(m.a(x.mean((2, 3), keepdim=True)))).sigmoid(),
               a=conv(kernel=1), b=conv(kernel=1)),
        ["Pool", "Conv", "Conv", "ScaleBy"],
    ),
    "pools": (
        nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)),
        ["Pool", "Pool", "Pool"],
    ),
    "ceil": (nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, 2, ceil_mode=True)),
             ["Pool", "Pool"]),
    "head": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 6),
                      nn.BatchNorm1d(6), nn.GELU(), xnets.nn.ExpanderLinear(6, 4, degree=2)),
        ["Pool", "View", "Linear", "Linear"],
    ),
    "concatenation": (Lambda(lambda m, x: torch.cat([m.a(x), x, m.a(x)], 1), a=conv()),
                      ["Conv", "Conv", "Concat"]),
    "shuffle": (Lambda(lambda m, x: shuffle(m.a(x), 2), a=conv()),
                ["Conv", "Copy", "View", "View"]),
    "halves": (
        Lambda(lambda m, x: torch.cat([(h := m.a(x).chunk(2, 1))[0], h[1] * 3], 1), a=conv()),
        ["Conv", "Slice", "Slice", "Pointwise", "Concat"],
    ),
    "view written": (  # a view of the old value is read after it was written to
        Lambda(lambda m, x: (y := m.a(x), v := y.flatten(1), y.relu_(), v * 2)[-1], a=conv()),
        ["Conv", "View", "Pointwise"],
    ),
    "rows": (
        Lambda(lambda m, x: m.a(x.flatten(2).transpose(1, 2)) + 0.5, a=nn.Linear(8, 8)),
        ["View", "Aten", "Linear", "Pointwise"],
    ),
    "prelu": (nn.Sequential(conv(), nn.PReLU()), ["Conv", "Aten"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_every_pass_computes_the_same(name: str) -> None:
    model, expected_kinds = NETS[name]
    model = randomized(model)
    x = torch.randn(2, 8, 7, 6)
    program = program_of(model, x)
    with torch.no_grad():
        expected = model(x.clone())
        assert difference(interpret(program, [x.clone()]), [expected]) < 1e-5
        for one in PASSES:
            program = one(program)
            assert difference(interpret(program, [x.clone()]), [expected]) < 1e-5
    assert kinds(program) == expected_kinds


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
