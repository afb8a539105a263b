"""Small networks to follow, and what they reach, found by poking at them or by gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import xnets
from xnets.nn import ExpanderConv2d, ExpanderLinear


class Net(nn.Module):
    """A network of named layers, and a function of them and the input."""

    def __init__(self, run: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def poke(model: nn.Module, x: Tensor, dim: int) -> dict[str, np.ndarray]:
    """For each layer (unit, input channel): whether the one changes with the other."""
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.9)  # positive: nothing cancels
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, xnets.nn.ExpanderLayer)):
            spatial = getattr(module, "spatial", len(getattr(module, "kernel_size", ())))

            def keep(m: nn.Module, a: object, out: Tensor, name: str = name, s: int = spatial):
                seen[name] = out.detach().movedim(out.dim() - 1 - s, 0).flatten(1).clone()

            hooks.append(module.register_forward_hook(keep))
    x = torch.rand_like(x.double())
    reach: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        model(x)
        base = dict(seen)
        for channel in range(x.shape[dim]):
            poked = x.clone()
            poked.select(dim, channel).copy_(torch.rand_like(x.select(dim, channel)))
            model(poked)
            for name, out in seen.items():
                changed = (out - base[name]).abs() > 1e-12 * base[name].abs()
                reach.setdefault(name, []).append(changed.any(1))
    for hook in hooks:
        hook.remove()
    return {name: torch.stack(columns, 1).numpy() for name, columns in reach.items()}


def conv(num_in: int, num_out: int, kernel: int = 1, **options: object) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, **options)


def xconv(num_in: int, num_out: int, seed: int = 0) -> ExpanderConv2d:
    return ExpanderConv2d(num_in, num_out, 1, degree=2, seed=seed)


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def write_slices(net: Net, x: Tensor) -> Tensor:
    y = torch.zeros(1, 8, 4, 4, dtype=x.dtype)
    first, second = y[:, :4], y[:, 4:]
    first.copy_(net.a(x)[:, :4])
    y[:, 4:6] = x[:, :2]
    second.add_(x[:, 4:])
    F.softplus(first).mul_(2)
    return net.b(y)


def roll_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    y += x.flip(1)
    y.relu_().add_(1).clamp_(0, 9).mul_(x[:, :1])
    return net.b(torch.roll(y, 1, dims=1))


def attend(net: Net, x: Tensor) -> Tensor:  # (1, 5, 8): with a class token, in two heads
    tokens = torch.cat([torch.ones(1, 1, 8, dtype=x.dtype), net.a(x)], dim=1)
    q, k, v = net.b(tokens).view(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return net.d(net.c(out + tokens)[:, 0])


IMAGE, TOKENS = (1, 8, 4, 4), (1, 5, 8)
EYE = torch.eye(8, 12, dtype=torch.float64)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "chain": (
        lambda: nn.Sequential(xconv(8, 6), nn.Softplus(), xconv(6, 9, 1), nn.SiLU(), xconv(9, 5)),
        IMAGE,
        1,
    ),
    "groups": (
        lambda: nn.Sequential(conv(8, 8, 3, groups=4), nn.BatchNorm2d(8), conv(8, 12, groups=2)),
        IMAGE,
        1,
    ),
    "residual": (
        lambda: Net(lambda n, x: n.b(x + F.gelu(n.a(x))), a=xconv(8, 8), b=xconv(8, 8, 1)),
        IMAGE,
        1,
    ),
    "concat": (
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), x[:, 2:5], n.b(x)], 1)),
            a=xconv(8, 3),
            b=xconv(8, 4, 1),
            c=conv(10, 10, groups=5),
        ),
        IMAGE,
        1,
    ),
    "shuffle": (
        lambda: Net(
            lambda n, x: n.b(shuffle(n.a(x), 4)),
            a=conv(8, 8, groups=4),
            b=conv(8, 8, 3, groups=4),
        ),
        IMAGE,
        1,
    ),
    "torchs shuffle": (
        lambda: nn.Sequential(conv(8, 8, groups=4), nn.ChannelShuffle(2), conv(8, 8, groups=4)),
        IMAGE,
        1,
    ),
    "split": (
        lambda: Net(
            lambda n, x: n.b(torch.cat([n.a(x.chunk(2, 1)[0]), x.split([3, 5], 1)[1]], 1)),
            a=xconv(4, 4),
            b=conv(9, 9, groups=3),
        ),
        IMAGE,
        1,
    ),
    "flatten": (
        lambda: nn.Sequential(
            xconv(8, 6), nn.AvgPool2d(2), nn.Flatten(), ExpanderLinear(24, 7, degree=3)
        ),
        IMAGE,
        1,
    ),
    "pools": (
        lambda: nn.Sequential(
            xconv(8, 6),
            nn.MaxPool2d(3, 2, 1),
            nn.Upsample(scale_factor=2),
            nn.ReflectionPad2d(1),
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(),
            nn.Flatten(),
            ExpanderLinear(6, 6, degree=2),
        ),
        IMAGE,
        1,
    ),
    "gate": (
        lambda: Net(
            lambda n, x: n.c(n.a(x) * torch.sigmoid(n.b(x.mean((2, 3), keepdim=True)))),
            a=xconv(8, 8),
            b=xconv(8, 8, 1),
            c=conv(8, 8, groups=4),
        ),
        IMAGE,
        1,
    ),
    "group norm": (
        lambda: nn.Sequential(xconv(8, 8), nn.GroupNorm(4, 8), conv(8, 8, groups=8)),
        IMAGE,
        1,
    ),
    "layer norm": (
        lambda: nn.Sequential(
            ExpanderLinear(8, 8, degree=2), nn.LayerNorm(8), ExpanderLinear(8, 8, degree=1)
        ),
        TOKENS,
        2,
    ),
    "attention": (
        lambda: Net(
            attend,
            a=ExpanderLinear(8, 8, degree=1),
            b=ExpanderLinear(8, 24, degree=1, seed=1),
            c=ExpanderLinear(8, 8, degree=1, seed=2),
            d=ExpanderLinear(8, 8, degree=2, seed=3),
        ),
        TOKENS,
        2,
    ),
    "token mixing": (
        lambda: Net(
            lambda n, x: n.b(n.a(x).transpose(1, 2).contiguous() @ torch.ones(5, 3).double()),
            a=ExpanderLinear(8, 8, degree=2),
            b=nn.Conv1d(8, 8, 1, groups=4),
        ),
        TOKENS,
        2,
    ),
    "channels padded": (
        lambda: Net(
            lambda n, x: n.b(n.a(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))),
            a=nn.Conv2d(8, 12, 2, 2, groups=4),
            b=conv(12, 12, groups=6),
        ),
        IMAGE,
        1,
    ),
    "written slices": (lambda: Net(write_slices, a=xconv(8, 8), b=conv(8, 8, groups=8)), IMAGE, 1),
    "in place": (lambda: Net(roll_in_place, a=xconv(8, 8), b=conv(8, 8, groups=8)), IMAGE, 1),
    "transposed": (
        lambda: nn.Sequential(
            xconv(8, 8), nn.ConvTranspose2d(8, 12, 2, 2, groups=4), conv(12, 4, groups=4)
        ),
        IMAGE,
        1,
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(
            nn.PixelShuffle(2), conv(2, 2, groups=2), nn.PixelUnshuffle(2), conv(8, 8, groups=4)
        ),
        IMAGE,
        1,
    ),
    "convolution over channels": (
        lambda: Net(
            lambda n, x: n.b(x * torch.sigmoid(n.a(x.mean((2, 3))[:, None]))[:, 0, :, None, None]),
            a=nn.Conv1d(1, 1, 3, padding=1),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "pool over channels": (
        lambda: Net(
            lambda n, x: n.b(F.avg_pool1d(n.a(x), 2)), a=ExpanderLinear(8, 8, degree=1),
            b=ExpanderLinear(4, 4, degree=1),
        ),
        TOKENS,
        2,
    ),
    "einsum and glu": (
        lambda: Net(
            lambda n, x: n.b(F.glu(torch.einsum("nchw,cd->ndhw", n.a(x), EYE), 1)),
            a=xconv(8, 8),
            b=conv(6, 6, groups=6),
        ),
        IMAGE,
        1,
    ),
    "unfold": (
        lambda: Net(
            lambda n, x: n.b(F.fold(F.unfold(n.a(x), 2), (4, 4), 2)),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "masks": (
        lambda: Net(
            lambda n, x: n.b(
                torch.where(torch.arange(8)[:, None, None] < 3, n.a(x), x.flip(1)).masked_fill(
                    torch.arange(8)[:, None, None] == 5, 0.5
                )
            ),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "running sums": (
        lambda: Net(
            lambda n, x: n.b(n.a(x).cumsum(1) + x.logcumsumexp(-1)),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "fourier and complex": (
        lambda: Net(
            lambda n, x: n.b(
                torch.view_as_real(
                    torch.view_as_complex(
                        torch.fft.irfft2(torch.fft.rfft2(n.a(x)) * (1 + 2j)).unflatten(-1, (2, 2))
                    )
                    * (1 + 1j)
                ).flatten(-2)
            ),
            a=xconv(8, 8),
            b=conv(8, 8, groups=8),
        ),
        IMAGE,
        1,
    ),
    "copied and embedded": (
        lambda: Net(
            lambda n, x: n.b(
                torch.diag_embed(n.a(x).index_copy(2, torch.tensor([6, 1]), x[..., 2:4])).sum(-1)
            ),
            a=ExpanderLinear(8, 8, degree=2),
            b=ExpanderLinear(8, 8, degree=1),
        ),
        TOKENS,
        2,
    ),
    "without batch": (lambda: nn.Sequential(xconv(8, 8), xconv(8, 4, 1)), (8, 4, 4), 0),
}  # fmt: skip


class RandomNet(nn.Module):
    """Layers and tensor operations drawn at random, with any earlier result as second argument."""

    def __init__(self, seed: int, steps: int = 12) -> None:
        super().__init__()
        draw = np.random.default_rng(seed)
        self.steps = [(int(draw.integers(12)), int(draw.integers(i + 1))) for i in range(steps)]
        for i, (kind, _) in enumerate(self.steps):
            if kind in (0, 1, 2):
                self.add_module(f"step{i}", xconv(8, 8, seed=i))
            elif kind in (3, 4):
                self.add_module(f"step{i}", conv(8, 8, 3, groups=(2, 4)[kind - 3]))
        self.last = conv(8, 8, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        past = [x]
        for i, (kind, at) in enumerate(self.steps):
            y, other = past[-1], past[at]
            if kind < 5:
                y = self.get_submodule(f"step{i}")(y)
            elif kind == 5:
                y = y + F.silu(other)
            elif kind == 6:
                y = y * torch.rsqrt(1 + other.mean((2, 3), keepdim=True))  # never saturates
            elif kind == 7:
                y = shuffle(y, 2)
            elif kind == 8:
                y = torch.cat([y[:, ::2], other[:, 1::2]], 1)
            elif kind == 9:
                y = y.clone()
                y[:, 2:5] = other[:, :3]
            elif kind == 10:
                y = torch.stack(other.unbind(1)[::-1], 1).add_(y.roll(3, 1))
            else:
                y = F.max_pool2d(y.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2), 3, 1, 1)
            past.append(y / 8)
        return self.last(past[-1])


def sensitive(model: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    """For each layer (unit, input channel): whether the gradient of the one is not zero."""
    seen: dict[str, Tensor] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, a, out, name=name: seen.update({name: out}))
    x.requires_grad_()
    model(x)
    reach = {}
    for name, out in seen.items():
        gradients = [torch.autograd.grad(u.sum(), x, retain_graph=True)[0] for u in out.unbind(1)]
        reach[name] = np.stack([(g != 0).any(-1).any(-1)[0].numpy() for g in gradients])
    return reach
