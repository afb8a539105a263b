"""Checking a pattern that comes from a file before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from xnets.graphs import BipartiteGraph


def read_pattern(
    found: Mapping[str, Any],
    prefix: str,
    sizes: tuple[int, int],
    kernel_shape: tuple[int, ...],
    groups: int,
) -> BipartiteGraph:
    """Build the graph that a state_dict holds for one layer.

    The block follows from the shapes: `indptr` tells the base outputs, and the weight has
    b_out * b_in kernels for each of `indices`.

    Args:
        found: The entries "weight", "bias", "indptr" and "indices"; None where missing.
        prefix: The layer's prefix in the state_dict, for messages.
        sizes: (inputs, outputs) of the layer.
        kernel_shape: Shape of one edge's kernel.
        groups: torch's `groups` of the layer.

    Returns:
        The graph.

    Raises:
        ValueError: If the entries cannot belong to a layer of these sizes.
    """
    num_in, num_out = sizes
    missing = [name for name, value in found.items() if value is None and name != "bias"]
    if missing:
        raise ValueError(
            f"{prefix}*: a pattern needs weight, indptr and indices together, but "
            f"{', '.join(missing)} is missing"
        )
    for name, value in found.items():
        if value is None:
            continue
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{prefix}{name} must be a tensor, got {type(value).__name__}")
        if value.layout != torch.strided:
            raise ValueError(f"{prefix}{name} must be a dense tensor, got layout {value.layout}")
        is_index = name in ("indptr", "indices")
        if is_index and (value.dim() != 1 or value.dtype not in (torch.int32, torch.int64)):
            raise ValueError(
                f"{prefix}{name} must be a one-dimensional int32 or int64 tensor, got "
                f"{value.dtype} of shape {tuple(value.shape)}"
            )
    weight, bias, indptr, indices = (found[n] for n in ("weight", "bias", "indptr", "indices"))
    if tuple(weight.shape[1:]) != kernel_shape or weight.dim() == 0:
        raise ValueError(
            f"{prefix}weight has shape {tuple(weight.shape)}, but each kernel must have shape "
            f"{kernel_shape}"
        )
    if bias is not None and tuple(bias.shape) != (num_out,):
        raise ValueError(f"{prefix}bias has shape {tuple(bias.shape)}, expected ({num_out},)")
    block = _block(prefix, weight.shape[0], len(indptr) - 1, len(indices), num_in, num_out)
    try:
        graph = BipartiteGraph(num_in, num_out, _numpy(indptr), _numpy(indices), block)
    except ValueError as error:
        raise ValueError(f"{prefix}indices hold no graph for this layer: {error}") from None
    if groups > 1:
        inputs, outputs = graph.edges().T
        if np.any(inputs // (num_in // groups) != outputs // (num_out // groups)):
            raise ValueError(f"{prefix}indices hold an edge that crosses the groups (={groups})")
    return graph


def _block(
    prefix: str, kernels: int, base_outputs: int, base_edges: int, num_in: int, num_out: int
) -> tuple[int, int]:
    if base_outputs < 1 or num_out % base_outputs:
        raise ValueError(
            f"{prefix}indptr has {base_outputs + 1} entries, which do not fit {num_out} outputs"
        )
    b_out = num_out // base_outputs
    per_edge = b_out * base_edges
    if base_edges == 0 and kernels == 0:
        return b_out, 1
    if per_edge == 0 or kernels % per_edge or num_in % (kernels // per_edge or 1) or not kernels:
        raise ValueError(
            f"{prefix}weight has {kernels} kernels, which do not fit {base_edges} base edges with "
            f"{b_out} outputs each over {num_in} inputs"
        )
    return b_out, kernels // per_edge


def _numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    if tensor.is_meta:
        raise ValueError("the tensors are on the meta device and hold no values")
    return tensor.cpu().numpy()
