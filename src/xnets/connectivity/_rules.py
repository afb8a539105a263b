"""What each of torch's operations does to units: one rule an operation, at the ATen level.

A rule takes the call and returns the ids of its result. Operations that have none are decomposed,
or else assumed to mix everything. See _sets.py for ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from xnets.connectivity._graph import NOTHING
from xnets.connectivity._sets import (
    Ids,
    TooManyKinds,
    compress,
    constant,
    mix,
    pointwise,
    reduce,
    windows,
)

if TYPE_CHECKING:
    from xnets.connectivity._tracer import Tracer

_MANY = 2**20  # elements up to which a rule looks at each

Result = Ids | Sequence[Ids | None]


@dataclass(frozen=True)
class OpCall:
    """One call of an ATen operation, as a rule sees it.

    Args:
        tracer: Knows the ids of tensors, and adds units and layers.
        func: The operation.
        name: Its name, without the underscore of in-place versions.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    tracer: Tracer
    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def ids(self, tensor: Any) -> Ids:
        """The ids of a tensor; those of a constant if no source reaches it."""
        known = self.tracer.ids_of(tensor)
        return constant(tensor.shape) if known is None else known

    def tracked(self) -> list[Tensor]:
        """The tensors among the arguments that some source may reach."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return [t for t in leaves if self.tracer.ids_of(t) is not None]


Rule = Callable[[OpCall], Result]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of some operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def find_rule(func: Any, name: str) -> Rule | None:
    """The rule of an operation, or None."""
    if name in RULES:
        return RULES[name]
    return elementwise if torch.Tag.pointwise in func.tags else None


def sizes(value: Any, count: int) -> list[int]:
    """A size for each of `count` dimensions, from one for all or one each."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


# --- what keeps or moves elements ----------------------------------------------------------------


@rule(
    *("celu", "clamp", "dropout", "elu", "hardshrink", "hardswish", "hardtanh", "leaky_relu"),
    *("lerp", "mish", "native_dropout", "prelu", "_prelu_kernel", "selu", "softplus", "softshrink"),
    *("threshold", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
    *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm"),
    *("_batch_norm_with_update", "_batch_norm_no_update", "tril", "triu", "copy", "rrelu"),
    *("log_sigmoid_forward", "_batch_norm_impl_index", "_to_copy", "clone", "alias", "detach"),
    *("lift_fresh", "contiguous"),
)
def elementwise(call: OpCall) -> Result:
    """Each element of the result reads the elements of the arguments at its place."""
    parts = [call.ids(t) for t in call.tracked()]
    dims = max(p.dim() for p in parts)
    parts = [p.view([1] * (dims - p.dim()) + list(p.shape)) for p in parts]
    return pointwise(call.tracer.graph, parts)


@rule("where", "masked_fill")
def choose(call: OpCall) -> Result:
    """Each element of the result reads the one that a constant condition chooses."""
    if len(call.args) != 3:
        raise NotImplementedError("which places are non-zero depends on the data")
    if call.name == "where":
        condition, chosen, other = call.args
    else:
        other, condition, chosen = call.args
    fixed = call.tracer.ids_of(condition) is None and not condition.is_meta
    if not fixed or condition.numel() > _MANY:
        return elementwise(call)
    one, two = (
        call.ids(part) if isinstance(part, Tensor) else torch.full((), NOTHING)
        for part in (chosen, other)
    )
    return compress(torch.where(condition.cpu(), one, two))


# Which arguments hold elements to be moved, where it is not the first alone.
_MOVED = {
    "index_put": (0, 2),
    "index_copy": (0, 3),
    "slice_scatter": (0, 1),
    "select_scatter": (0, 1),
    "scatter": (0, 3),
}


@rule(
    *("_unsafe_view", "cat", "chunk", "diagonal", "expand", "flatten", "flip"),
    *("gather", "index", "index_put", "index_select", "narrow", "permute", "pixel_shuffle"),
    *("pixel_unshuffle", "repeat", "reshape", "roll", "select", "select_scatter", "slice"),
    *("slice_scatter", "scatter", "split", "split_with_sizes", "squeeze", "stack", "t", "take"),
    *("transpose", "unbind", "unfold", "unsqueeze", "view", "movedim", "rot90"),
    *("channel_shuffle", "native_channel_shuffle", "unsafe_split", "unsafe_chunk", "view_copy"),
    *("repeat_interleave", "split_copy", "tile", "swapaxes", "hsplit", "vsplit", "block_diag"),
    *("diag_embed", "index_copy"),
)
def structural(call: OpCall) -> Result:
    """The operation that moves elements moves their ids in the same way."""
    moved = _MOVED.get(call.name, (0,))

    def as_ids(value: Any) -> Any:
        if isinstance(value, Tensor):
            return call.ids(value).expand(value.shape)
        return [as_ids(v) for v in value] if isinstance(value, (list, tuple)) else value

    def as_given(value: Any) -> Any:
        if call.tracer.ids_of(value) is not None:
            raise NotImplementedError("where elements go depends on the data")
        return value.cpu() if isinstance(value, Tensor) else value

    args = tuple(
        as_ids(arg) if position in moved else pytree.tree_map(as_given, arg)
        for position, arg in enumerate(call.args)
    )
    if call.name in ("view", "_unsafe_view"):
        if isinstance(args[1], torch.dtype):
            raise NotImplementedError("elements become others")
        return compress(args[0].reshape(args[1]))
    function = getattr(torch.ops.aten, call.name)
    result = function(*args, **pytree.tree_map(as_given, call.kwargs))
    return compress(result) if isinstance(result, Tensor) else [compress(r) for r in result]


@rule("as_strided", "_reshape_alias")
def strided(call: OpCall) -> Result:
    """A view of memory, wherever its elements lie."""
    tensor, shape, stride = call.args[:3]
    start = call.get(3, "storage_offset")
    memory = in_memory(tensor, call.ids(tensor))
    return compress(
        memory.as_strided(shape, stride, tensor.storage_offset() if start is None else start)
    )


def in_memory(tensor: Tensor, ids: Ids, memory: Tensor | None = None) -> Tensor:
    """The ids of all memory behind a tensor, those of the tensor filled in."""
    if memory is None:
        length = tensor.untyped_storage().nbytes() // tensor.element_size()
        memory = torch.full((length,), NOTHING, device="cpu")
    if 0 not in tensor.stride():
        place = memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        place.copy_(ids.expand(tensor.shape))
    return memory


@rule("constant_pad_nd")
def pad_constant(call: OpCall) -> Result:
    """What is padded is a constant; the borders of an image stay with their channel."""
    ids, size, pad = call.ids(call.args[0]), call.args[0].shape, call.args[1]
    grown = {ids.dim() - 1 - i // 2 for i, amount in enumerate(pad) if amount}
    if all(ids.shape[d] == 1 < size[d] for d in grown):
        return ids
    full = ids.expand(call.args[0].shape)
    return compress(torch.ops.aten.constant_pad_nd(full, pad, 0))


@rule(
    *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d"),
    *("replication_pad2d", "replication_pad3d", "upsample_nearest1d", "upsample_nearest2d"),
    *("upsample_nearest3d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d"),
    *("upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *("_upsample_nearest_exact2d", "grid_sampler_2d", "_adaptive_avg_pool2d"),
    *("_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
    *("adaptive_max_pool3d", "_adaptive_avg_pool1d", "fractional_max_pool2d"),
)
def within_channels(call: OpCall) -> Result:
    """Mixes the positions of an image, channel by channel."""
    ids = call.ids(call.args[0])
    spatial = range(1 if ids.dim() < 3 else 2, ids.dim())
    if call.name[-2:] in ("1d", "2d", "3d"):
        spatial = range(ids.dim() - int(call.name[-2]), ids.dim())
    if any(ids.shape[d] > 1 for d in spatial):
        call.tracer.assume(call.name, "joins all positions of a channel")
        ids = reduce(call.tracer.graph, ids, spatial)
    others = [call.ids(t) for t in call.tracked() if t is not call.args[0]]
    if others:  # grid_sampler's grid
        every = [reduce(call.tracer.graph, o, range(o.dim())).view([1] * ids.dim()) for o in others]
        ids = pointwise(call.tracer.graph, [ids, *every])
    return ids


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool1d")
@rule("max_pool3d_with_indices", "max_pool2d", "max_pool3d")
def pool(call: OpCall) -> Result:
    """Each element of the result reads one window."""
    ids, size = call.ids(call.args[0]), call.args[0].shape
    spatial = int(call.name.split("pool")[1][0])
    if all(n == 1 for n in ids.shape[-spatial:]):
        return ids
    is_max = call.name.startswith("max")
    kernel = sizes(call.args[1], spatial)
    stride = sizes(call.get(2, "stride") or kernel, spatial)
    padding = sizes(call.get(3, "padding", 0), spatial)
    dilation = sizes(call.get(4, "dilation", 1), spatial) if is_max else [1] * spatial
    if call.get(5 if is_max else 4, "ceil_mode", False):
        return within_channels(call)
    full = ids.expand([*ids.shape[:-spatial], *size[-spatial:]])
    try:
        seen = windows(full, kernel, stride, padding, dilation)
        return compress(reduce(call.tracer.graph, seen, [-1], keepdim=False))
    except TooManyKinds:
        return within_channels(call)


@rule("im2col")
def unfold_windows(call: OpCall) -> Result:
    """F.unfold: each channel becomes kernel-many rows."""
    ids = call.ids(call.args[0])
    kernel = math.prod(sizes(call.args[1], 2))
    if ids.shape[-1] > 1 or ids.shape[-2] > 1:
        ids = _join_positions(call, ids, 2)
    channels = ids.expand(-1, call.args[0].shape[-3], -1, -1).flatten(-2)
    return compress(channels.repeat_interleave(kernel, dim=-2))


@rule("col2im")
def fold_windows(call: OpCall) -> Result:
    """F.fold: sums the rows of each channel."""
    ids = call.ids(call.args[0])
    if ids.shape[-1] > 1:
        ids = _join_positions(call, ids, 1)
    kernel = math.prod(sizes(call.args[2], 2))
    rows = ids.expand(-1, call.args[0].shape[-2], -1).unflatten(-2, (-1, kernel))
    return compress(reduce(call.tracer.graph, rows, [-2], False)).unsqueeze(-1)


def _join_positions(call: OpCall, ids: Ids, spatial: int) -> Ids:
    call.tracer.assume(call.name, "joins all positions of a channel")
    return reduce(call.tracer.graph, ids, range(ids.dim() - spatial, ids.dim()))


# --- what mixes ----------------------------------------------------------------------------------

_KEEPDIM_AT = {"var": 3, "std": 3, "var_mean": 3, "std_mean": 3, "linalg_vector_norm": 3, "norm": 3}


@rule("mean", "sum", "amax", "amin", "max", "min", "prod", "var", "std", "logsumexp", "norm")
@rule("linalg_vector_norm", "var_mean", "std_mean", "any", "all", "argmax", "argmin", "median")
@rule("count_nonzero", "nansum")
def reduction(call: OpCall) -> Result:
    """Each element of the result reads all elements along the dimensions."""
    if call.name in ("max", "min") and isinstance(call.get(1, "other"), Tensor):
        return elementwise(call)
    ids = call.ids(call.args[0])
    at = 2 if call.name in ("linalg_vector_norm", "norm") else 1
    dim = call.get(at, "dim")
    if isinstance(dim, (bool, float, torch.dtype)):  # another overload: var(x, unbiased)
        dim = None
    keepdim = call.get(_KEEPDIM_AT.get(call.name, 2), "keepdim", False)
    dims = range(ids.dim()) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    if dim is None:
        keepdim = False
    return compress(reduce(call.tracer.graph, ids, list(dims), bool(keepdim)))


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def running(call: OpCall) -> Result:
    """Each element of the result reads those before it along one dimension, and itself."""
    ids, dim = call.ids(call.args[0]), call.get(1, "dim")
    if ids.dim() == 0 or ids.shape[dim] == 1:
        return ids
    if ids.numel() * ids.shape[dim] > _MANY:
        call.tracer.assume(call.name, "reads all along its dimension")
        return mix(call.tracer.graph, ids, [dim])
    last = ids.movedim(dim, -1)
    before = last.unsqueeze(-2).expand(*last.shape, last.shape[-1]).tril()  # NOTHING above
    return compress(reduce(call.tracer.graph, before, [-1], False).movedim(-1, dim))


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
@rule("sort", "topk", "kthvalue")
def mixing_along(call: OpCall) -> Result:
    """Each element of the result reads all elements along one dimension."""
    position = 2 if call.name in ("topk", "kthvalue") else 1
    dim = call.get(position, "dim", -1)
    ids = mix(call.tracer.graph, call.ids(call.args[0]), [dim])
    if call.name in ("topk", "kthvalue") and ids.shape[dim] > 1:  # any of them may be chosen
        ids = reduce(call.tracer.graph, ids, [dim])
    return ids


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(call: OpCall) -> Result:
    """The statistics of the last dimensions reach all their elements."""
    ids = call.ids(call.args[0])
    if not call.tracer.norms_mix:
        return ids
    return mix(call.tracer.graph, ids, range(ids.dim() - len(call.args[1]), ids.dim()))


@rule("native_group_norm", "group_norm")
def group_norm(call: OpCall) -> Result:
    """The statistics of a group of channels reach all of them."""
    ids, size = call.ids(call.args[0]), call.args[0].shape
    if not call.tracer.norms_mix:
        return ids
    groups = call.args[6] if call.name == "native_group_norm" else call.args[1]
    split = ids.expand(-1, size[1], *[-1] * (ids.dim() - 2)).unflatten(1, (groups, -1))
    return compress(mix(call.tracer.graph, split, range(2, split.dim())).flatten(1, 2))


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def fourier(call: OpCall) -> Result:
    """Each element of the result reads all elements along the transformed dimensions."""
    return reduce(call.tracer.graph, call.ids(call.args[0]), list(call.args[1]))


@rule("view_as_real", "view_as_complex")
def complex_parts(call: OpCall) -> Result:
    """Real and imaginary part are one unit."""
    ids = call.ids(call.args[0])
    if call.name == "view_as_real":
        return ids.unsqueeze(-1)
    return reduce(call.tracer.graph, ids, [-1], keepdim=False)


@rule("glu")
def glu(call: OpCall) -> Result:
    """The first half times a function of the second."""
    dim = call.get(1, "dim", -1)
    ids, size = call.ids(call.args[0]), call.args[0].shape[dim]
    shape = list(ids.shape)
    shape[dim] = size
    return pointwise(call.tracer.graph, ids.expand(shape).chunk(2, dim))
