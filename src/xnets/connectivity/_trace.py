"""Running a model once to find its units and what each one reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from xnets._run_once import run_once
from xnets.connectivity._graph import IntArray, UnitGraph
from xnets.connectivity._sets import Ids
from xnets.connectivity._tracer import Assumption as Assumption
from xnets.connectivity._tracer import TracedLayer as TracedLayer
from xnets.connectivity._tracer import Tracer
from xnets.nn import (
    ExpanderConv1d,
    ExpanderConv2d,
    ExpanderConv3d,
    ExpanderLinear,
)

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, ExpanderConv1d, ExpanderConv2d, ExpanderConv3d)


@dataclass(frozen=True)
class Trace:
    """What one run of a model shows.

    Args:
        graph: All units.
        inputs: Units of the example input, one a channel.
        outputs: Units of what the model returns.
        layers: Products with weights in order of execution.
        assumptions: Where the trace is not exact.
    """

    graph: UnitGraph
    inputs: IntArray
    outputs: IntArray
    layers: tuple[TracedLayer, ...]
    assumptions: tuple[Assumption, ...]


def trace_units(
    model: nn.Module,
    example_input: Any,
    *,
    dim: int | None = None,
    norms: str = "mix",
    ignore_zeros: bool = False,
) -> Trace:
    """Run a model once and find its units; see connectivity() for the arguments."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tracer = Tracer(norms_mix=norms == "mix", ignore_zeros=ignore_zeros)
    tensors = [t for t in pytree.tree_leaves(example_input) if isinstance(t, Tensor)]
    if not tensors:
        raise ValueError("`example_input` holds no tensor: give what the model takes")
    inputs = []
    for tensor in tensors:
        ids = _input_ids(tracer.graph, model, tensor, dim)
        tracer.note(tensor, ids)
        inputs.append(ids.reshape(-1))
    hooks = tracer.watch(model)
    try:
        # The math backend shows attention as matrix products.
        with sdpa_kernel(SDPBackend.MATH), tracer:
            returned = run_once(model, example_input)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [tracer.ids_of(leaf) for leaf in _tensors_in(returned)]
    found = [torch.unique(ids) for ids in outputs if ids is not None]
    return Trace(
        tracer.graph,
        torch.cat(inputs).numpy(),
        torch.unique(torch.cat(found)).numpy() if found else np.zeros(0, dtype=np.int64),
        tuple(tracer.layers),
        tuple(dict.fromkeys(tracer.assumptions)),
    )


def _input_ids(graph: UnitGraph, model: nn.Module, tensor: Tensor, dim: int | None) -> Ids:
    """One unit a channel; token numbers and other integers are one unit in all."""
    size = [1] * tensor.dim()
    if (tensor.is_floating_point() or tensor.is_complex()) and tensor.dim() > 0:
        channel = _channel_dim(model, tensor) if dim is None else dim
        if not -tensor.dim() <= channel < tensor.dim():
            raise ValueError(
                f"`dim` (={dim}) must be a dimension of the example input of shape "
                f"{tuple(tensor.shape)}"
            )
        size[channel] = tensor.shape[channel]
    return torch.from_numpy(graph.sources(math.prod(size))).view(size)


def _channel_dim(model: nn.Module, tensor: Tensor) -> int:
    """The last dimension of what a first linear layer reads, else the one after the batch.

    A first convolution also takes images without batch.
    """
    for module in model.modules():
        if isinstance(module, _CONVS):
            unbatched = tensor.dim() == len(module.kernel_size) + 1
            return 0 if unbatched and tensor.shape[0] == module.in_channels else 1
        if isinstance(module, (nn.Linear, ExpanderLinear)):
            if tensor.shape[-1] == module.in_features:
                return -1
            break
    return min(1, tensor.dim() - 1)


def _tensors_in(value: Any) -> list[Tensor]:
    """All tensors in what a model returns, dataclasses and other plain objects included."""
    found = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, (type, nn.Module)):
            found += _tensors_in(dict(vars(leaf)))
    return found
