"""Whether an expander network equals the same network with dense layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xnets.nn import ExpanderLayer

# Relative to the largest output; and, of each parameter's gradient, to its norm. Rounding flips
# some ReLUs, which changes a gradient by more than rounding.
_TOLERANCE, _TOLERANCE_GRADIENT = 1e-3, 2e-2
_MOST_IMAGES = 2


@contextmanager
def exact_float32() -> Iterator[None]:
    """Multiply float32 as float32 on a GPU: in TF32 two right networks would differ too much."""
    # By the older of torch's two names, which sets both: torch refuses a mixture.
    settings: Any = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [setting.allow_tf32 for setting in settings]
    for setting in settings:
        setting.allow_tf32 = False
    try:
        yield
    finally:
        for setting, allowed in zip(settings, before, strict=True):
            setting.allow_tf32 = allowed


def dense_twin(model: nn.Module) -> nn.Module:
    """A copy whose expander layers are torch's, with the same weights and zeros off the graphs.

    Args:
        model: The network.

    Returns:
        The copy.

    Examples:
        >>> import xnets
        >>> dense_twin(nn.Sequential(xnets.nn.ExpanderLinear(8, 4, degree=2)))
        Sequential(
          (0): Linear(in_features=8, out_features=4, bias=True)
        )
    """
    memo: dict[int, Any] = {}
    for layer in model.modules():
        if isinstance(layer, ExpanderLayer):
            memo[id(layer)] = cast(Any, layer).to_dense()
    return copy.deepcopy(model, memo)


def without_zeros(model: nn.Module) -> nn.Module:
    """The network with values in place of weights that start at zero, as the heads of some do.

    With such a head every network gives zeros, and no comparison of outputs could fail.

    Args:
        model: The network; it is changed.

    Returns:
        The same.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and weight.numel() and not weight.any():
                values = torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5
                weight.copy_(values)
    return model


def check_against_dense(model: nn.Module, x: Tensor, *, training: bool) -> tuple[float, str]:
    """Compare outputs, and gradients if wanted, in eval mode, where nothing is random.

    Args:
        model: The network; left in eval mode.
        x: A batch; gradients are compared on its first two inputs.
        training: Whether to compare gradients.

    Returns:
        The largest relative error, and what is wrong, "" if nothing.
    """
    twin = dense_twin(model).eval()
    model.eval()
    with torch.no_grad():
        error, wrong = compare_outputs(model(x), twin(x))
    if wrong:
        return error, wrong
    if training:
        worst, name = _compare_gradients(model, twin, x[:_MOST_IMAGES])
        error = max(error, worst)
        if not worst <= _TOLERANCE_GRADIENT:
            return worst, f"the gradient to {name} is off by {worst:.2g}"
    return error, ""


def compare_outputs(found: Any, expected: Any) -> tuple[float, str]:
    """Compare all outputs of two networks.

    Args:
        found: Tensors or arrays, in any containers.
        expected: As many, in the same order.

    Returns:
        The largest relative error, and what is wrong, "" if nothing.

    Examples:
        >>> compare_outputs([torch.ones(2)], {"logits": torch.ones(2)})
        (0.0, '')
        >>> compare_outputs(torch.ones(3), torch.ones(2))
        (inf, 'the outputs have shapes [(3,)], not [(2,)]')
    """
    ours, theirs = ([torch.as_tensor(y) for y in tree_leaves(ys)] for ys in (found, expected))
    shapes, wanted = ([tuple(y.shape) for y in ys] for ys in (ours, theirs))
    if shapes != wanted:
        return math.inf, f"the outputs have shapes {shapes}, not {wanted}"
    error = 0.0
    for a, b in zip(ours, theirs, strict=True):
        off = float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))
        error = off if not off <= error else error
    if not error <= _TOLERANCE:  # NaN is no small error
        return error, f"the output is off by {error:.2g}"
    return error, ""


def _compare_gradients(model: nn.Module, twin: nn.Module, x: Tensor) -> tuple[float, str]:
    """The worst relative error of a parameter's gradient, and that parameter's name."""
    ours, theirs = _gradients(model, x), _gradients(twin, x)
    layers = dict(model.named_modules())
    floor = 1e-4 * max((float(grad.norm()) for grad in theirs.values()), default=0.0)
    worst, where = 0.0, ""
    for name, grad in ours.items():
        wanted = theirs[name]
        layer = layers[name.rpartition(".")[0]]
        if isinstance(layer, ExpanderLayer) and name.endswith("weight"):
            mask = torch.from_numpy(layer.graph.mask()).to(grad.device)
            wanted = wanted[mask].view_as(grad)
        # What is nearly zero beside the other gradients is compared with those.
        error = float((grad - wanted).norm()) / max(float(wanted.norm()), floor, 1e-30)
        if not error <= worst:
            worst, where = error, name
    return worst, where


def _gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    outputs = tree_leaves(model(x))
    generator = torch.Generator().manual_seed(0)
    seeds = [torch.randn(y.shape, generator=generator).to(y) for y in outputs]
    found = torch.autograd.grad(outputs, list(weights.values()), seeds, allow_unused=True)
    return {name: grad for name, grad in zip(weights, found, strict=True) if grad is not None}
