"""Rules for what computes nothing: shapes, pieces, concatenation, what inference drops."""

from __future__ import annotations

from typing import Any

import torch

from xnets.inference._ir import Aten, Concat, Copy, Value, View
from xnets.inference._rules import Lowering, is_fp32, rule


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
def _view(at: Lowering, x: Any, *arguments: Any) -> Any:
    if not is_fp32(x) or not _is_ours(at, x):
        return NotImplemented
    if x.shape == at.out.shape:
        return x
    return at.view(x)


@rule("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
def _dropout(at: Lowering, x: Any, p: float, train: bool) -> Any:
    return NotImplemented if train else x


@rule("detach", "alias", "lift_fresh_copy", "lift_fresh")
def _same(at: Lowering, x: Any) -> Any:
    return x


@rule("contiguous", "clone")
def _contiguous(at: Lowering, x: Any, *, memory_format: Any = torch.contiguous_format) -> Any:
    # All our values are contiguous; which layout another takes does not change its numbers.
    plain = memory_format in (torch.contiguous_format, torch.preserve_format, None)
    return x if plain and is_fp32(x) and _is_ours(at, x) else NotImplemented


@rule("to", "_to_copy", "type_as")
def _to(at: Lowering, x: Any, *arguments: Any, **options: Any) -> Any:
    layout = options.get("memory_format") not in (None, torch.preserve_format)
    same = isinstance(x, Value) and x.dtype == at.out.dtype and _on_cpu(at)
    return x if same and not layout else NotImplemented


def _on_cpu(at: Lowering) -> bool:
    return bool(at.outs.device.type == "cpu")


@rule("cat", "concat", "concatenate")
def _cat(at: Lowering, xs: Any, dim: int = 0) -> Any:
    rank = len(at.out.shape)
    if dim % rank != 1 or not all(is_fp32(x) for x in xs):
        return NotImplemented
    return xs[0] if len(xs) == 1 else at.add(Concat(name=at.where, xs=tuple(xs), y=at.out))


@rule("chunk", "split", "split_with_sizes", "tensor_split")
def _split(at: Lowering, x: Any, *arguments: Any) -> Any:
    dim = arguments[1] if len(arguments) > 1 else 0
    if not is_fp32(x) or not isinstance(dim, int) or dim % len(x.shape) != 1:
        return NotImplemented
    if not _is_ours(at, x):
        return NotImplemented
    start, pieces = 0, []
    for piece in at.outs:
        length = piece.shape[1]
        if not isinstance(length, int):
            return NotImplemented
        pieces.append(at.slice(x, start, length))
        start += length
    return tuple(pieces)


@rule("slice")
def _slice(
    at: Lowering, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Any:
    if not is_fp32(x) or step != 1:
        return NotImplemented
    if x.shape == at.out.shape:
        return x
    if dim % len(x.shape) != 1 or not isinstance(x.shape[1], int) or not _is_ours(at, x):
        return NotImplemented
    first = 0 if start is None else start
    first = first + x.shape[1] if first < 0 else first
    return at.slice(x, first, at.out.shape[1])


@rule("narrow")
def _narrow(at: Lowering, x: Any, dim: int, start: int, length: int) -> Any:
    return _slice(at, x, dim, start, start + length)


@rule("transpose")
def _transpose(at: Lowering, x: Any, dim0: int, dim1: int) -> Any:
    if not isinstance(x, Value):
        return NotImplemented
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(at, x, order)


@rule("permute")
def _permute(at: Lowering, x: Any, order: Any) -> Any:
    """The shuffle of ShuffleNet: (N, groups, channels, H, W) with the middle two exchanged."""
    if not is_fp32(x) or len(x.shape) != 5 or [d % 5 for d in order] != [0, 2, 1, 3, 4]:
        return NotImplemented
    maker = at.maker(x)
    if not isinstance(maker, View) or len(maker.x.shape) != 4:
        return NotImplemented
    groups, channels = x.shape[1:3]
    if not isinstance(groups, int) or not isinstance(channels, int):
        return NotImplemented
    if maker.x.shape[1] != groups * channels:
        return NotImplemented
    index = torch.arange(groups * channels, dtype=torch.int32, device="cpu")
    index = index.view(groups, channels)
    source = maker.x
    shuffled = Value(f"{at.out.name} shuffled", source.shape)
    at.add(Copy(name=at.where, x=source, index=index.t().reshape(-1).contiguous(), y=shuffled))
    return at.view(shuffled)


def _is_ours(at: Lowering, x: Value) -> bool:
    """Whether it lies in memory in the order of its dimensions, as all but torch's results do."""
    return not isinstance(at.maker(x), Aten)
