"""What reaches what through a whole network, and over how many paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from xnets._suggest import unknown_name
from xnets.connectivity._graph import FloatArray, IntArray, Paths
from xnets.connectivity._report import Connectivity, LayerConnectivity
from xnets.connectivity._trace import Trace, TracedLayer, trace_units

NORMS = ("mix", "pass")


def connectivity(
    model: nn.Module,
    example_input: Any,
    *,
    source: str | None = None,
    dim: int | None = None,
    norms: str = "mix",
    ignore_zeros: bool = False,
) -> Connectivity:
    """Find which units of a network reach which, layer by layer, and over how many paths.

    A unit is a channel of a convolution, a feature of a linear layer, or a channel of the input,
    at all its positions: positions are told apart only where they differ in what reaches them, as
    a class token does. A path goes from unit to unit through weights, one step an edge, however
    many kernel elements or positions it has; sums and products of tensors join the paths of their
    parts. Weights count by their place, not their value (see `ignore_zeros`). The model is run once
    in eval mode, every operation is followed at the ATen level, and an expander layer is its graph,
    whatever backend runs it. Operations without a rule are assumed to mix everything, and listed.

    Source: section 3.4 of the paper; Theorem 1 for `connected` and `depth`, Theorem 2 for
    `unevenness`.

    Args:
        model: Any module; it is left as it was.
        example_input: What the model takes: a tensor, or a tuple of arguments, or a dict of keyword
            arguments. Batch size 1 is enough, and images may be as small as the model takes. A
            tensor of integers, such as token numbers, is one source in all.
        source: Whose reach to follow: None for the channels of the input; the name of a layer for
            its units; "auto" for the inputs of the first sparse layer (one whose units read several
            of its inputs, not all), or of the network if there is none.
        dim: The channel dimension of the input; None lets the first layer tell.
        norms: "mix": the mean and variance of layer and group norms connect all that they are
            taken over, as they do. "pass": only weights connect.
        ignore_zeros: Whether a weight of exactly zero is no connection, as in a pruned network.

    Returns:
        The report.

    Raises:
        TypeError: If `model` is no module, or holds a compiled one.
        ValueError: If the source or another argument is unknown.

    Examples:
        >>> import torch, xnets
        >>> layers = [xnets.nn.ExpanderLinear(8, 8, degree=2, seed=s) for s in range(4)]
        >>> report = connectivity(nn.Sequential(*layers), torch.zeros(1, 8))
        >>> [f"{layer.connected:.0%}" for layer in report.layers]
        ['25%', '42%', '61%', '72%']
        >>> report.full_at is None
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or isinstance(module, torch.jit.ScriptModule):
            where = f"its module {name!r}" if name else "`model`"
            raise TypeError(f"{where} is compiled or scripted: give the plain torch.nn.Module")
    if norms not in NORMS:
        raise ValueError(unknown_name("norms", norms, NORMS))
    trace = trace_units(model, example_input, dim=dim, norms=norms, ignore_zeros=ignore_zeros)
    text, sources, layers = _choose_source(trace, source)
    paths = trace.graph.paths(sources)
    alive = trace.graph.reached(trace.inputs)
    used = trace.graph.reaching(trace.outputs)
    reports = []
    for layer in layers:
        depth = int(paths.depth(layer.units).max(initial=-1))
        if depth < 0 and source is not None:
            continue  # beside the sources, not after them
        reports.append(
            LayerConnectivity(
                name=layer.name,
                kind=layer.kind,
                depth=depth,
                inputs=len(layer.inputs),
                units=len(layer.units),
                fan_in=layer.fan_in,
                connected_before=_share(_log2_paths(paths, layer.inputs)),
                dead=_indices(~alive[layer.units].any(axis=1)),
                unused=_indices(~used[layer.units].any(axis=1)),
                **_path_statistics(_log2_paths(paths, layer.units)),
            )
        )
    return Connectivity(
        source=text,
        num_sources=len(sources),
        layers=tuple(reports),
        num_inputs=len(trace.inputs),
        unused_inputs=_indices(~used[trace.inputs]),
        assumed_mixing=trace.assumptions,
    )


def _choose_source(
    trace: Trace, source: str | None
) -> tuple[str, list[IntArray], Sequence[TracedLayer]]:
    """What the sources are called, the units of each, and the layers after them."""
    names = [layer.name for layer in trace.layers]
    if source is None or source == "auto":
        sparse = [layer for layer in trace.layers if layer.is_sparse]
        if source is None or not sparse:
            return "channels of the input", list(trace.inputs[:, None]), trace.layers
        first = sparse[0]
        rest = trace.layers[names.index(first.name) :]
        return f"inputs of {first.name!r}, the first sparse layer", list(first.inputs), rest
    if source not in names:
        raise ValueError(unknown_name("source", source, ["auto", *names]))
    position = names.index(source)
    units = list(trace.layers[position].units)
    return f"units of {source!r}", units, trace.layers[position + 1 :]


def _log2_paths(paths: Paths, units: IntArray) -> FloatArray:
    """Paths from each source to each channel, shape (channels, sources).

    Where positions differ, the one with the most paths counts.
    """
    best = paths.log2(units[:, 0])
    for kind in range(1, units.shape[1]):
        best = np.maximum(best, paths.log2(units[:, kind]))
    return best


def _share(log2: FloatArray) -> float:
    return float(np.isfinite(log2).mean()) if log2.size else 0.0


def _path_statistics(log2: FloatArray) -> dict[str, Any]:
    top = float(log2.max(initial=-np.inf))
    mean = unevenness = None
    if np.isfinite(top):
        counts = np.exp2(log2 - top)
        mean = float(np.log2(counts.mean())) + top
        unevenness = float(counts.std() / counts.mean())
    return {
        "connected": _share(log2),
        "log10_paths_min": _log10(float(log2.min(initial=top))),
        "log10_paths_mean": _log10(mean),
        "log10_paths_max": _log10(top),
        "unevenness": unevenness,
        "log10_paths": (log2 * np.log10(2)).astype(np.float32),
    }


def _log10(log2: float | None) -> float | None:
    return None if log2 is None or not np.isfinite(log2) else log2 * float(np.log10(2))


def _indices(flags: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(flags))
