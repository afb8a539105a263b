"""The definition of every op: scatter the edges into a dense weight, call torch.

Written to be checked by eye; any other backend must equal it, outputs and all gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xnets.ops._call import Call
from xnets.ops._pattern import Pattern


def why_not(call: Call) -> list[str]:
    """Why the reference cannot run this call."""
    if torch.compiler.is_compiling():
        return ["it reads the graph edge by edge, which cannot be compiled"]
    if call.pattern.indices.is_meta:
        return ["it reads the graph edge by edge, and meta tensors hold no values"]
    return []


def run(call: Call) -> Tensor:
    """Run the call by its definition."""
    return call.run_dense(dense_weight(call.weight, call.pattern, call.groups))


def dense_weight(weight: Tensor, pattern: Pattern, groups: int = 1) -> Tensor:
    """The weight of torch's layer, (num_out, num_in / groups, *kernel_size), zero off the graph."""
    outputs, inputs = edge_list(pattern)
    group_of = [v // (pattern.num_out // groups) for v in outputs]
    width = pattern.num_in // groups
    columns = [u - g * width for u, g in zip(inputs, group_of, strict=True)]
    dense = weight.new_zeros(pattern.num_out, width, *weight.shape[1:])
    return dense.index_put((_index(outputs, weight), _index(columns, weight)), weight)


def edge_list(pattern: Pattern) -> tuple[list[int], list[int]]:
    """(output, input) of every edge, in canonical order: by output, then by input."""
    b_out, b_in = pattern.block
    indptr, indices = pattern.indptr.tolist(), pattern.indices.tolist()
    outputs, inputs = [], []
    for v in range(pattern.num_out):
        row = v // b_out
        for base_input in indices[indptr[row] : indptr[row + 1]]:
            for u in range(base_input * b_in, (base_input + 1) * b_in):
                outputs.append(v)
                inputs.append(u)
    return outputs, inputs


def _index(values: list[int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=like.device)
