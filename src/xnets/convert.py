"""One call from any model to its expander version, with a report of every layer."""

from __future__ import annotations

import copy
import warnings
import zlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from xnets._conversion_report import ConversionReport as ConversionReport
from xnets._conversion_report import LayerChange as LayerChange
from xnets._convert_rules import (
    DEPTHWISE,
    EXCLUDED,
    NOT_NAMED,
    Dense,
    check_model,
    extra_attributes,
    find_ends,
    find_layers,
    layer_size,
    tied_weights,
    weights_read_by_parents,
    why_leave,
)
from xnets._suggest import unknown_name
from xnets.graphs import (
    BipartiteGraph,
    check_block,
    check_block_sides,
    check_seed,
    degree_for,
    list_families,
    make_graph,
)
from xnets.nn import (
    ExpanderConv1d,
    ExpanderConv2d,
    ExpanderConv3d,
    ExpanderLayer,
    ExpanderLinear,
)
from xnets.nn._depthwise import run_depthwise, torch_type
from xnets.ops import check_backend

_CONV = {nn.Conv1d: ExpanderConv1d, nn.Conv2d: ExpanderConv2d, nn.Conv3d: ExpanderConv3d}
INITS = ("fresh", "copy", "magnitude")


def convert(
    model: nn.Module,
    compression: float | Mapping[str, float] = 4,
    *,
    family: str = "random",
    block: tuple[int, int] = (1, 1),
    where: Callable[[str, nn.Module], bool] | None = None,
    keep_ends: bool = True,
    example_input: Any = None,
    seed: int = 0,
    init: str = "fresh",
    backend: str = "auto",
) -> tuple[nn.Module, ConversionReport]:
    """Replace the linear and convolution layers of a model by expander layers.

    The first and the last layer stay dense, as in the paper; so do grouped and depthwise
    convolutions, layers with fewer inputs than `compression`, and layers whose weight somebody else
    reads. (Depthwise ones of torch become `DepthwiseConv2d`, which is torch's on faster kernels.)
    `model` itself is not changed: what is not replaced is deep-copied. Shared layers stay shared;
    mode, dtype, device, hooks and requires_grad are kept.

    Args:
        model: Any module.
        compression: How many times fewer weights in each converted layer; or a mapping from names
            of layers, with the wildcards `*`, `?` and `[abc]`, to numbers: the first name that fits
            a layer holds, and a layer that none fits is left alone.
        family: Family of the graphs; see xnets.graphs.list_families.
        block: (b_out, b_in) of the graphs; a layer that it does not divide is left alone.
        where: Called with a layer's name and module; the layer is left alone if it returns False.
        keep_ends: Whether the first and the last layer stay dense. A model that is one layer has no
            ends.
        example_input: If given, the model is run once on it (a tensor, or a tuple of arguments) to
            find which layers really come first and last; else the order of registration tells.
        seed: Each layer's graph is drawn from this and the layer's name, so that leaving one layer
            out changes no other's graph.
        init: "fresh": new weights, of the variance that keeps the scale of each layer's output as
            it was. "copy": kept edges keep their weights. "magnitude": each output keeps its D
            strongest inputs (by norm of the kernel), weights included; `family` is not used.
        backend: Backend of the new layers.

    Returns:
        The new model and the report.

    Raises:
        TypeError: If `model` is no module, or one that must be converted before it is wrapped.
        ValueError: If an argument is unknown or out of range, or a name fits no layer.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(64, 10)
        ... )
        >>> sparse, report = convert(net, compression=4)
        >>> print(report)
        layer  kind    size      C  became
        ---------------------------------------------
        0      Conv2d  3 -> 64      left: first layer
        1      Conv2d  64 -> 64  4  ExpanderConv2d
        3      Linear  64 -> 10     left: last layer
        1 of 3 layers converted; parameters 39,370 -> 11,722 (3.36 times fewer)
    """
    check_model(model)
    by_name = {"*": compression} if not isinstance(compression, Mapping) else dict(compression)
    for number in by_name.values():
        degree_for(1, number)
    check_backend(backend)
    check_seed(seed)
    check_block_sides(block)
    if where is not None and not callable(where):
        raise TypeError(f"`where` must be callable with (name, module), got {where!r}")
    if init not in INITS:
        raise ValueError(unknown_name("init", init, INITS))
    if family not in list_families():
        raise ValueError(unknown_name("family", family, list_families()))
    layers = list(find_layers(model))
    if isinstance(compression, Mapping):
        _check_names(by_name, [name for name, _ in layers])
    ends = find_ends(model, [m for _, m in layers], example_input) if keep_ends else {}
    tied, read = tied_weights(model), weights_read_by_parents(model)
    memo: dict[int, Any] = {}
    changes, depthwise = [], []
    for name, layer in layers:
        new: ExpanderLayer | None = None
        key = id(layer)
        factor = next((c for pattern, c in by_name.items() if fnmatchcase(name, pattern)), None)
        reason = ends.get(key) or ("" if factor else NOT_NAMED)
        reason = reason or read.get(key) or tied.get(key) or why_leave(layer, factor or 1)
        if not reason and where is not None and not where(name, layer):
            reason = EXCLUDED
        if reason == DEPTHWISE:
            depthwise.append(layer)
        layer_seed = _layer_seed(seed, name)
        if not reason:
            try:
                new = _expander(layer, factor or 1, family, block, layer_seed, init, backend)
                memo[id(layer)] = new
            except ValueError as error:
                reason = str(error)
        changes.append(
            LayerChange(
                name=name,
                kind=type(layer).__name__,
                size=layer_size(layer),
                became=type(new).__name__ if new else None,
                compression=new.compression if new else 1.0,
                seed=layer_seed if new and init != "magnitude" else None,
                reason=reason,
            )
        )
    replaced = [(layer, memo[id(layer)]) for _, layer in layers if id(layer) in memo]
    for module in model.modules():  # pruning keeps computed tensors, which deepcopy refuses
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    # What deepcopy finds in its memo it does not copy: this puts the new layers wherever the old
    # ones are referred to, be it shared, held in a plain list, or as the root itself.
    try:
        converted = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"`model` cannot be copied by copy.deepcopy: {error}") from error
    inside = set(converted.modules())
    for old, new_layer in replaced:
        if new_layer not in inside:
            raise TypeError(
                f"{type(old).__name__} could not be replaced: a module above it defines its own "
                "__deepcopy__, which does not pass the memo on; leave it out with `where`"
            )
    for old, new_layer in replaced:
        _keep_state(old, new_layer, memo)
    for layer in depthwise if replaced else []:
        if id(layer) in memo:  # else a module's own __deepcopy__ did not pass the memo on
            run_depthwise(memo[id(layer)])
    turn_off_fast_paths(converted)
    if not replaced:
        warnings.warn("xnets.convert: no layer was converted; print the report", stacklevel=2)
    report = ConversionReport(tuple(changes), _num_params(model), _num_params(converted))
    return converted, report


def _check_names(patterns: Mapping[str, float], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(unknown_name("layer in `compression`:", pattern, names))


def _layer_seed(seed: int, name: str) -> int:
    entropy = [seed, zlib.crc32(name.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _expander(
    layer: Any,
    compression: float,
    family: str,
    block: tuple[int, int],
    seed: int,
    init: str,
    backend: str,
) -> ExpanderLayer:
    num_in, num_out = layer_size(layer) or (0, 0)
    if init == "magnitude":
        graph = strongest_inputs(layer.weight, compression, block)
    else:
        graph = make_graph(family, num_in, num_out, compression=compression, block=block, seed=seed)
    new_type = ExpanderLinear if isinstance(layer, nn.Linear) else _CONV[torch_type(layer)]
    new: ExpanderLayer = new_type.from_dense(layer, graph=graph, backend=backend)
    if init == "fresh":
        _draw_fresh(layer, new)
    return new


def strongest_inputs(
    weight: torch.Tensor, compression: float, block: tuple[int, int] = (1, 1)
) -> BipartiteGraph:
    """The graph in which each output keeps its D strongest inputs, by the norm of their kernels.

    Args:
        weight: A dense weight, shape (num_out, num_in, *kernel_size).
        compression: How many times fewer edges; D = max(1, num_in // compression).
        block: (b_out, b_in); blocks are kept whole, by the norm of all their kernels.

    Returns:
        A graph of constant degree.

    Raises:
        ValueError: If the block does not divide the weight, or the weight holds no values (meta).

    Examples:
        >>> import torch
        >>> weight = torch.tensor([[3.0, 0.1, -5.0, 0.2], [0.1, 1.0, 0.3, -2.0]])
        >>> strongest_inputs(weight, compression=2).mask().astype(int)
        array([[1, 0, 1, 0],
               [0, 1, 0, 1]])
    """
    if weight.is_meta:
        raise ValueError("init='magnitude' needs the weights' values, but they are on 'meta'")
    num_out, num_in = weight.shape[:2]
    b_out, b_in = check_block(block, num_in, num_out)
    rows, columns = num_out // b_out, num_in // b_in
    energy = weight.detach().float().square()
    blocks = energy.reshape(rows, b_out, columns, b_in, -1).sum((1, 3, 4))
    if b_in > 1 and columns < compression:
        raise ValueError(f"`num_in` (={num_in}) has only {columns} blocks of {b_in}")
    degree = degree_for(columns, compression)
    order = np.argsort(-blocks.cpu().numpy(), axis=1, kind="stable")  # ties go to the first input
    return BipartiteGraph.from_neighbors(order[:, :degree], num_in, block=block)


@torch.no_grad()
def _draw_fresh(old: Dense, new: ExpanderLayer) -> None:
    """New weights of the old scale: the variance of each output's sum stays what it was.

    The author of a model chose an initialisation (or training found a scale); fewer inputs need
    larger weights, by the square root of dense fan over true fan.
    """
    if new.weight.is_meta:
        return
    scale = old.weight.float().norm() / old.weight.numel() ** 0.5
    dense_fan = old.weight[0].numel()
    gain = (dense_fan / new.edge_fan()).sqrt().to(new.weight)
    new.weight.normal_().mul_(gain * scale)
    # A constant bias, zeros as a rule, is the author's choice; from_dense has copied it.
    if new.bias is not None and old.bias is not None and bool((old.bias != old.bias[0]).any()):
        bound = float(new.edge_fan().mean().rsqrt())
        new.bias.uniform_(-bound, bound)


_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


def _keep_state(old: nn.Module, new: ExpanderLayer, memo: dict[int, Any]) -> None:
    """Carry over hooks, mode and requires_grad."""
    for name in _HOOKS:
        setattr(new, name, copy.deepcopy(getattr(old, name), memo))
    new.train(old.training)
    for name, parameter in new.named_parameters(recurse=False):
        dense = getattr(old, name)
        parameter.requires_grad_(dense.requires_grad)
        vars(parameter).update(vars(dense))  # marks such as timm's `_no_weight_decay`
    for name, value in extra_attributes(old).items():
        setattr(new, name, copy.deepcopy(value, memo))


def turn_off_fast_paths(model: nn.Module) -> None:
    """Keep torch's fused transformer layers, which read the weights of their linears, off.

    Args:
        model: Any module, changed in place where it holds expander layers.

    Examples:
        >>> import torch, xnets
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).eval()
        >>> layer.linear1 = xnets.nn.ExpanderLinear(16, 64, compression=4)
        >>> turn_off_fast_paths(layer)
        >>> layer(torch.ones(1, 5, 16)).shape
        torch.Size([1, 5, 16])
    """
    for module in model.modules():
        if any(isinstance(inner, ExpanderLayer) for inner in module.modules()):
            if hasattr(module, "activation_relu_or_gelu"):
                module.activation_relu_or_gelu = 0  # type: ignore[assignment]
            if isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False


def _num_params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if not nn.parameter.is_lazy(p))
