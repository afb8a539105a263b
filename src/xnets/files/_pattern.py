"""A layer's graph in a file: indices in the smallest integers, or family and seed with a hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from xnets.graphs import BipartiteGraph, check_seed, make_graph
from xnets.nn import (
    ExpanderConv1d,
    ExpanderConv2d,
    ExpanderConv3d,
    ExpanderLayer,
    ExpanderLinear,
)

TYPES: dict[str, type[ExpanderLayer]] = {
    cls.__name__: cls for cls in (ExpanderLinear, ExpanderConv1d, ExpanderConv2d, ExpanderConv3d)
}
# Families drawn in time proportional to the edges, and the side whose degree is constant.
_DRAWN_BY = {
    "random": "out",
    "biregular": "out",
    "grouped": "out",
    "shuffled": "out",
    "random_fan_out": "in",
}
_UNSIGNED = ((torch.uint8, 1 << 8), (torch.uint16, 1 << 16), (torch.int32, 1 << 31))


class StoredLayer(NamedTuple):
    """An expander layer as a file describes it.

    Args:
        type: The layer's class.
        graph: Its graph.
    """

    type: type[ExpanderLayer]
    graph: BipartiteGraph


def write_layer(layer: ExpanderLayer, *, by_seed: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe a layer's graph.

    Args:
        layer: The layer.
        by_seed: Whether to store family and seed where they give this very graph.

    Returns:
        JSON values, and the tensors "indices" and "degrees" where they are needed.
    """
    graph = layer.graph
    kind = next((name for name, cls in TYPES.items() if type(layer) is cls), None)
    if kind is None:
        raise TypeError(f"{type(layer).__name__} is not one of {', '.join(TYPES)}")
    about: dict[str, Any] = {
        "type": kind,
        "sizes": [graph.num_in, graph.num_out],
        "block": list(graph.block),
    }
    if by_seed and (drawn := _drawn(layer, graph)):
        return {**about, "drawn": drawn, "graph": graph.fingerprint()}, {}
    tensors = {"indices": _smallest(graph.indices)}
    degrees = np.diff(graph.indptr)
    if degrees.min() == degrees.max() > 0:
        about["degree"] = int(degrees[0])
    else:
        tensors["degrees"] = _smallest(degrees)
    return about, tensors


def read_layer(
    about: Mapping[str, Any], tensors: Mapping[str, Tensor], num_kernels: int
) -> StoredLayer:
    """Rebuild what `write_layer` described.

    Args:
        about: JSON values from a file; nothing about them is trusted.
        tensors: "indices" and "degrees" where the file has them.
        num_kernels: First size of the layer's weight in the file. What is computed here is
            proportional to it or to the tensors.

    Returns:
        The layer's type and graph.

    Raises:
        ValueError: If they describe no layer.
    """
    kind = about.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"its type {kind!r:.40} is unknown")
    num_in, num_out = _ints(about, "sizes")
    b_out, b_in = _ints(about, "block")
    if num_in % b_in or num_out % b_out:
        raise ValueError(f"its block {b_out} x {b_in} does not divide {num_in} -> {num_out}")
    if "drawn" in about:
        graph = _redraw(about, num_in, num_out, (b_out, b_in), num_kernels)
    else:
        indptr, indices = _csr(about, tensors, num_out // b_out)
        graph = BipartiteGraph(num_in, num_out, indptr, indices, (b_out, b_in))
    if graph.num_edges != num_kernels:
        raise ValueError(f"it has {num_kernels} kernels for {graph.num_edges} edges")
    return StoredLayer(TYPES[kind], graph)


def join(name: str, last: str) -> str:
    """The key of one of a layer's tensors in a state_dict."""
    return f"{name}.{last}" if name else last


def _smallest(values: np.ndarray[Any, Any]) -> Tensor:
    top = int(values.max(initial=0))
    dtype = next(dtype for dtype, limit in _UNSIGNED if top < limit)
    return torch.from_numpy(np.array(values, dtype=np.int64)).to(dtype)


def _csr(about: Mapping[str, Any], tensors: Mapping[str, Tensor], rows: int) -> tuple[Any, Any]:
    for name, tensor in tensors.items():
        if tensor.dim() != 1 or tensor.dtype not in [dtype for dtype, _ in _UNSIGNED]:
            raise ValueError(f"its {name} are {tensor.dtype} of shape {tuple(tensor.shape)}")
    if "indices" not in tensors:
        raise ValueError("its indices are missing")
    indices = tensors["indices"].numpy().astype(np.int64)
    if "degrees" in tensors:
        degrees = tensors["degrees"].numpy().astype(np.int64)
        if len(degrees) != rows or degrees.min(initial=0) < 0 or degrees.sum() != len(indices):
            raise ValueError("its degrees do not fit its indices")
    else:
        degree: Any = about.get("degree")
        if not _is_int(degree) or degree < 1 or degree * rows != len(indices):
            raise ValueError(f"its degree {degree!r:.40} does not fit its {len(indices)} indices")
        degrees = np.full(rows, degree)
    return np.concatenate([[0], np.cumsum(degrees)]), indices


def _drawn(layer: ExpanderLayer, graph: BipartiteGraph) -> dict[str, Any] | None:
    """Family, seed and degree, if they give this very graph."""
    if layer.drawn_from is None or layer.drawn_from[0] not in _DRAWN_BY:
        return None
    family, seed = layer.drawn_from
    degrees = graph.fan_in if _DRAWN_BY[family] == "out" else graph.fan_out
    drawn = {"family": family, "seed": seed, "degree": int(degrees[0])}
    if not _is_light(graph.num_in, graph.num_out, graph.num_edges):
        return None
    again = _draw(drawn, graph.num_in, graph.num_out, graph.block)
    return drawn if again == graph else None


def _redraw(
    about: Mapping[str, Any], num_in: int, num_out: int, block: tuple[int, int], num_kernels: int
) -> BipartiteGraph:
    drawn = about["drawn"]
    if not isinstance(drawn, dict) or drawn.get("family") not in list(_DRAWN_BY):
        raise ValueError("its graph cannot be drawn again: the family is unknown")
    degree: Any = drawn.get("degree")
    side = num_out if _DRAWN_BY[drawn["family"]] == "out" else num_in
    if not _is_int(degree) or degree * side != num_kernels:
        raise ValueError(f"its degree {degree!r:.40} does not fit its {num_kernels} kernels")
    if not _is_light(num_in, num_out, num_kernels):
        raise ValueError(f"its size {num_in} -> {num_out} is too large for its edges")
    check_seed(drawn.get("seed"))
    graph = _draw(drawn, num_in, num_out, block)
    if graph.fingerprint() != about.get("graph"):
        raise ValueError("the graph drawn again from family and seed is another one")
    return graph


def _draw(
    drawn: Mapping[str, Any], num_in: int, num_out: int, block: tuple[int, int]
) -> BipartiteGraph:
    family, degree, seed = drawn["family"], drawn["degree"], drawn["seed"]
    return make_graph(family, num_in, num_out, degree=degree, block=block, seed=seed)


def _is_light(num_in: int, num_out: int, num_edges: int) -> bool:
    # So that a small file cannot ask for a large computation.
    return max(num_in, num_out) <= 1024 * num_edges


def _ints(about: Mapping[str, Any], name: str) -> tuple[int, int]:
    value = about.get(name)
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(_is_int(v) and 0 < v < 1 << 31 for v in value)
    ):
        raise ValueError(f"its {name} {value!r:.40} are not two positive integers")
    return value[0], value[1]


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
