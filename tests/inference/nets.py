"""Networks that together have every kind of step, traced once for all tests."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import xnets
from tests.inference.conftest import randomized
from xnets.inference._lower import lower
from xnets.inference._program import Program
from xnets.inference._trace import prepare, trace


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
    "separable": (
        nn.Sequential(normed(conv(groups=8)), normed(conv(kernel=1, padding=0))),
        ["Conv"],
    ),
    "separable expander": (
        nn.Sequential(
            normed(conv(groups=8, stride=2, bias=False), nn.Hardswish()),
            normed(xnets.nn.ExpanderConv2d(8, 8, 1, degree=4, block=(4, 1)), nn.SiLU()),
        ),
        ["Conv"],
    ),
    "separable residual": (
        Lambda(
            lambda m, x: F.relu(m.b(m.a(y := F.relu(m.c(x)))) + y),
            a=normed(conv(kernel=5, padding=2, groups=8), nn.ReLU6()), b=conv(kernel=1, padding=0),
            c=conv(),
        ),
        ["Conv", "Conv"],
    ),
    "separable, read twice": (
        Lambda(lambda m, x: m.b(y := m.a(x)) + y, a=conv(groups=8), b=conv(kernel=1, padding=0)),
        ["Conv", "Conv"],
    ),
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
    "layer scale": (
        Lambda(lambda m, x: (y := x.flatten(2).transpose(1, 2)) + m.a(y) * m.s.bias,
               a=nn.Linear(8, 8), s=nn.BatchNorm2d(8)),
        ["View", "Aten", "Linear"],
    ),
    "layer scale read twice": (
        Lambda(lambda m, x: (y := m.a(x.flatten(2).transpose(1, 2))) * m.s.bias + y,
               a=nn.Linear(8, 8), s=nn.BatchNorm2d(8)),
        ["View", "Aten", "Linear", "Aten", "Pointwise"],
    ),
    "rows of one feature": (  # a number for all features is no factor for each
        Lambda(lambda m, x: m.a(x.flatten(2).transpose(1, 2)) * m.s.bias.view(8, 1)[:1],
               a=nn.Linear(8, 8), s=nn.BatchNorm2d(8)),
        ["View", "Aten", "Linear", "Pointwise"],
    ),
    "rows": (
        Lambda(lambda m, x: m.a(x.flatten(2).transpose(1, 2)) + 0.5, a=nn.Linear(8, 8)),
        ["View", "Aten", "Linear", "Pointwise"],
    ),
    "grouped linear": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                      xnets.nn.ExpanderLinear(8, 4, compression=2, family="grouped"), nn.ReLU()),
        ["Pool", "View", "Linear"],
    ),
    "prelu": (nn.Sequential(conv(), nn.PReLU()), ["Conv", "Aten"]),
}  # fmt: skip


def dense_block() -> nn.Module:
    """Three layers of a DenseNet, each of which reads all before it."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        features = [m.stem(x)]
        for layer in (m.a, m.b, m.c):
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)

    layers = {"stem": conv()}
    for name, width in (("a", 8), ("b", 12), ("c", 16)):
        layers[name] = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, 4, 3, padding=1)
        )
    return Lambda(forward, **layers)


def inception() -> nn.Module:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = torch.cat([m.a(x), m.b(x)], 1)
        z = torch.cat([m.c(y), y, m.d(y)], 1)  # y is a piece, and whole
        return z + torch.cat([z[:, :16], z[:, 16:]], 1)

    return Lambda(forward, a=normed(conv()), b=conv(), c=conv(16), d=nn.MaxPool2d(3, 1, 1))


def attention() -> nn.Module:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        rows = m.patches(x).flatten(2).transpose(1, 2)
        rows = torch.cat([m.token.expand(x.shape[0], -1, -1), rows], 1)
        q, k, v = m.qkv(m.norm(rows)).chunk(3, dim=-1)
        rows = rows + m.out(nn.functional.scaled_dot_product_attention(q, k, v))
        return rows + m.mlp(rows)

    model = Lambda(
        forward, patches=conv(), norm=nn.LayerNorm(8), qkv=nn.Linear(8, 24), out=nn.Linear(8, 8),
        mlp=nn.Sequential(xnets.nn.ExpanderLinear(8, 32, degree=2), nn.GELU(), nn.Linear(32, 8)),
    )  # fmt: skip
    model.token = nn.Parameter(torch.zeros(1, 1, 8))
    return model


def several() -> nn.Module:
    def forward(m: nn.Module, x: Tensor) -> dict[str, object]:
        y = m.a(x)
        return {"input": x, "first": y, "parts": (y.flatten(1), y[:, 2:4], y.permute(0, 2, 3, 1))}

    return Lambda(forward, a=normed(conv()))


def shuffled() -> nn.Module:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        for layer in (m.a, m.b):
            y = torch.cat([left, layer(right)], 1)
            n, c, h, w = y.shape
            y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            left, right = y.chunk(2, 1)
        return torch.cat([left, right], 1)

    return Lambda(forward, a=conv(4, 4), b=nn.Sequential(conv(4, 4, groups=4), nn.Conv2d(4, 4, 1)))


def volume() -> nn.Module:
    return Lambda(
        lambda m, x: m.b(m.a(x.unsqueeze(2))).flatten(2),
        a=nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1)),
        b=xnets.nn.ExpanderConv3d(8, 4, (1, 3, 3), stride=(1, 2, 2), degree=2),
    )


LARGER = {
    "dense block": dense_block,
    "inception": inception,
    "attention": attention,
    "several": several,
    "shuffled": shuffled,
    "volume": volume,
}


@cache
def lowered(name: str) -> tuple[nn.Module, Program]:
    """A network and its steps before any pass, for any batch of (8, 7, 6)."""
    torch.manual_seed(0)
    model = randomized(LARGER[name]() if name in LARGER else NETS[name][0])
    found = trace(prepare(model), (torch.randn(2, 8, 7, 6),), dynamic=True)
    return model, lower(found).without_dead_steps()


def bound(program: Program, batch: int) -> Program:
    """The steps for one batch size."""
    (symbol,) = program.inputs[0].shape[0].free_symbols
    return program.bind({symbol: batch})
