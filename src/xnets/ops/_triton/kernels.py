"""The Triton kernels: implicit GEMMs over the blocks of a base graph, channels last.

`gather_product` is the forward pass, and the input gradient too, on the transposed graph with the
weights that `transpose_weight` lays out for it; `gather_outer` is the weight gradient. No kernel
uses atomics, so results do not change from run to run.

Triton's own library functions (cdiv, zeros, ...) are avoided: they keep the mode, compiled or
interpreted, that Triton was first imported in.
"""

# mypy: ignore-errors
# ruff: noqa: N803, N806

import triton
import triton.language as tl

from xnets.ops._triton.config import INTERPRETED

# The interpreter multiplies the bits of bfloat16 as if they were integers.
_UPCAST = tl.constexpr(INTERPRETED)


@triton.jit
def _positions(m, size_d, size_h, size_w):
    """Sample and position of the row `m` of a channels-last tensor."""
    w = m % size_w
    m = m // size_w
    h = m % size_h
    m = m // size_h
    return m // size_d, m % size_d, h, w


@triton.jit
def _inside(position, size):
    return (position >= 0) & (position < size)


@triton.jit
def _wide(value, BIG: tl.constexpr):
    """64 bits where offsets may need them."""
    if BIG:
        value = value.to(tl.int64)
    return value


@triton.jit
def _block_row(indptr, row, SIDE: tl.constexpr):
    """The first base edge of a row of the base graph, and how many columns its edges make."""
    start = tl.load(indptr + row)
    return start, (tl.load(indptr + row + 1) - start) * SIDE


@triton.jit
def _tap_position(tap, TAPS_H: tl.constexpr, TAPS_W: tl.constexpr):
    return tap // (TAPS_H * TAPS_W), tap // TAPS_W % TAPS_H, tap % TAPS_W


@triton.jit
def _rows_at(sample, d, h, w, size_d, size_h, size_w, stride_d, stride_h, stride_w):
    """Pointers to positions of samples, and whether the positions exist: the rest is padding."""
    exists = _inside(d, size_d) & _inside(h, size_h) & _inside(w, size_w)
    return sample + d * stride_d + h * stride_h + w * stride_w, exists


@triton.jit
def _channels(indices, start, k, present, B_IN: tl.constexpr, VECTOR: tl.constexpr):
    """The input channel of column `k` of a block row, whose base edges begin at `start`.

    A vector of indices, even where a scalar would do: Triton prefetches the loads of a vector that
    the operands of a dot depend on, not those of a scalar.
    """
    channel = tl.load(indices + start + k // B_IN, mask=present, other=0) * B_IN + k % B_IN
    if VECTOR > 1:  # columns of one block are consecutive channels: wide loads
        channel = tl.max_contiguous(tl.multiple_of(channel, VECTOR), VECTOR)
    return channel


@triton.jit
def _dot(a, b, total, PRECISION: tl.constexpr):
    if _UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def gather_product(
    source,
    weight,  # (taps, edges)
    bias,
    target,
    indptr,
    indices,
    rows,  # samples * positions of the target
    edges,
    parts,  # programs along the outputs
    size_d,
    size_h,
    size_w,
    source_d,
    source_h,
    source_w,
    source_sn,
    source_sc,
    source_sd,
    source_sh,
    source_sw,
    target_sn,
    target_sd,
    target_sh,
    target_sw,
    B_OUT: tl.constexpr,
    B_IN: tl.constexpr,
    TAPS_D: tl.constexpr,
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    STRIDE_D: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    OFFSET_D: tl.constexpr,
    OFFSET_H: tl.constexpr,
    OFFSET_W: tl.constexpr,
    STEP_D: tl.constexpr,
    STEP_H: tl.constexpr,
    STEP_W: tl.constexpr,
    FIRST_TAP: tl.constexpr,
    TAP_D: tl.constexpr,
    TAP_H: tl.constexpr,
    TAP_W: tl.constexpr,
    POINTWISE: tl.constexpr,  # one tap, and row m of the target is row m of the source
    HAS_BIAS: tl.constexpr,
    BIG: tl.constexpr,  # offsets may pass 2^31
    PRECISION: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """target[m, i * B_OUT + r] = bias + sum of source[position of m and tap, channel] * weight.

    One program: BLOCK_M rows, BLOCK_N outputs of one block row. Programs of the same rows follow
    one another, and taps are the inner loop, so that inputs are found in the caches.
    """
    SUBS: tl.constexpr = (B_OUT + BLOCK_N - 1) // BLOCK_N
    TAPS: tl.constexpr = TAPS_D * TAPS_H * TAPS_W
    part = tl.program_id(0) % parts
    tile = tl.program_id(0) // parts
    row = _wide(part // SUBS, BIG)
    start, width = _block_row(indptr, row, B_IN)
    start = _wide(start, BIG)
    r = _wide(part % SUBS * BLOCK_N + tl.arange(0, BLOCK_N), BIG)
    m = _wide(tile, BIG) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_ok = m < rows
    if POINTWISE:
        source_row = source + m * source_sn
    else:
        n, d, h, w = _positions(m, size_d, size_h, size_w)
        d0 = d * STRIDE_D + OFFSET_D
        h0 = h * STRIDE_H + OFFSET_H
        w0 = w * STRIDE_W + OFFSET_W
        source_row = source + n * source_sn
    weight_row = weight + start * (B_OUT * B_IN) + r * width
    r_ok = r < B_OUT
    total = tl.full([BLOCK_M, BLOCK_N], 0.0, tl.float32)
    chunks = (width + BLOCK_K - 1) // BLOCK_K
    for step in range(0, chunks * TAPS):
        tap = step % TAPS
        k = step // TAPS * BLOCK_K + tl.arange(0, BLOCK_K)
        k_ok = k < width
        channel = _channels(indices, start, k, k_ok, B_IN, VECTOR)
        if POINTWISE:
            at = source_row
            ok = row_ok
            w_tile = weight_row
        else:
            jd, jh, jw = _tap_position(tap, TAPS_H, TAPS_W)
            at_d = d0 + jd * STEP_D
            at_h = h0 + jh * STEP_H
            at_w = w0 + jw * STEP_W
            at, ok = _rows_at(
                source_row, at_d, at_h, at_w,
                source_d, source_h, source_w, source_sd, source_sh, source_sw,
            )  # fmt: skip
            ok = row_ok & ok
            tap_index = FIRST_TAP + jd * TAP_D + jh * TAP_H + jw * TAP_W
            w_tile = weight_row + _wide(tap_index, BIG) * edges
        x = tl.load(
            at[:, None] + (_wide(channel, BIG) * source_sc)[None, :],
            mask=ok[:, None] & k_ok[None, :],
            other=0.0,
        )
        w_block = tl.load(
            w_tile[None, :] + k[:, None], mask=k_ok[:, None] & r_ok[None, :], other=0.0
        )
        total = _dot(x, w_block, total, PRECISION)
    output = row * B_OUT + r
    if HAS_BIAS:
        total += tl.load(bias + output, mask=r_ok, other=0.0).to(tl.float32)[None, :]
    if POINTWISE:
        target_row = target + m * target_sn
    else:
        target_row = target + n * target_sn + d * target_sd + h * target_sh + w * target_sw
    tl.store(
        target_row[:, None] + output[None, :],
        total.to(target.dtype.element_ty),
        mask=row_ok[:, None] & r_ok[None, :],
    )


@triton.jit
def gather_outer(
    source,
    gradient,  # (rows, outputs)
    target,  # (splits, taps, edges)
    indptr,
    indices,
    rows,
    rows_a_split,
    edges,
    tiles,  # programs of one split
    column_programs,  # programs along the columns of one block row
    size_d,
    size_h,
    size_w,
    source_d,
    source_h,
    source_w,
    source_sn,
    source_sc,
    source_sd,
    source_sh,
    source_sw,
    gradient_s,
    B_OUT: tl.constexpr,
    B_IN: tl.constexpr,
    TAPS_D: tl.constexpr,
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    STRIDE_D: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    OFFSET_D: tl.constexpr,
    OFFSET_H: tl.constexpr,
    OFFSET_W: tl.constexpr,
    STEP_D: tl.constexpr,
    STEP_H: tl.constexpr,
    STEP_W: tl.constexpr,
    POINTWISE: tl.constexpr,
    BIG: tl.constexpr,
    PRECISION: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """target[split, tap, edge] = sum over the split's rows of gradient[m, r] * source[m, tap, k].

    One program: BLOCK_N outputs of one block row, every `column_programs`-th tile of BLOCK_K of its
    columns (one tile where all degrees are equal), one tap, one split of the rows.
    """
    SUBS: tl.constexpr = (B_OUT + BLOCK_N - 1) // BLOCK_N
    TAPS: tl.constexpr = TAPS_D * TAPS_H * TAPS_W
    split = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    tap = tile % TAPS
    tile = tile // TAPS
    first_chunk = tile % column_programs
    part = tile // column_programs
    row = _wide(part // SUBS, BIG)
    start, width = _block_row(indptr, row, B_IN)
    start = _wide(start, BIG)
    slot = _wide(split * TAPS + tap, BIG)
    split = _wide(split, BIG)
    r = _wide(part % SUBS * BLOCK_N + tl.arange(0, BLOCK_N), BIG)
    r_ok = r < B_OUT
    output = row * B_OUT + r
    jd, jh, jw = _tap_position(tap, TAPS_H, TAPS_W)
    chunks = (width + BLOCK_K - 1) // BLOCK_K
    low = split * rows_a_split
    high = low + rows_a_split
    target_row = target + slot * edges + start * (B_OUT * B_IN) + r * width
    for chunk in range(first_chunk, chunks, column_programs):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)
        k_ok = k < width
        channel = _channels(indices, start, k, k_ok, B_IN, VECTOR)
        column = (_wide(channel, BIG) * source_sc)[None, :]
        if BLOCK_K > BLOCK_N:  # the wider side first: Hopper's instructions need 64 there
            total = tl.full([BLOCK_K, BLOCK_N], 0.0, tl.float32)
        else:
            total = tl.full([BLOCK_N, BLOCK_K], 0.0, tl.float32)
        for m0 in range(low, high, BLOCK_M):
            m = m0 + tl.arange(0, BLOCK_M)
            row_ok = m < rows
            if POINTWISE:
                at = source + m * source_sn
                ok = row_ok
            else:
                n, d, h, w = _positions(m, size_d, size_h, size_w)
                d = d * STRIDE_D + OFFSET_D + jd * STEP_D
                h = h * STRIDE_H + OFFSET_H + jh * STEP_H
                w = w * STRIDE_W + OFFSET_W + jw * STEP_W
                at, ok = _rows_at(
                    source + n * source_sn, d, h, w,
                    source_d, source_h, source_w, source_sd, source_sh, source_sw,
                )  # fmt: skip
                ok = row_ok & ok
            x = tl.load(at[:, None] + column, mask=ok[:, None] & k_ok[None, :], other=0.0)
            g = tl.load(
                gradient + (m * gradient_s)[:, None] + output[None, :],
                mask=row_ok[:, None] & r_ok[None, :],
                other=0.0,
            )
            if BLOCK_K > BLOCK_N:
                total = _dot(tl.trans(x), g, total, PRECISION)
            else:
                total = _dot(tl.trans(g), x, total, PRECISION)
        if BLOCK_K > BLOCK_N:
            total = tl.trans(total)
        tl.store(
            target_row[:, None] + k[None, :],
            total.to(target.dtype.element_ty),
            mask=r_ok[:, None] & k_ok[None, :],
        )


@triton.jit
def transpose_weight(
    weight,  # (edges, taps)
    target,  # (taps, edges), in the transposed graph's canonical order
    indptr,
    indices,
    transposed_indptr,
    transposed_indices,
    transposed_edges,
    edges,
    B_OUT: tl.constexpr,
    B_IN: tl.constexpr,
    TAPS: tl.constexpr,
    BIG: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Lay the weights out for the transposed graph; one program: one base edge, one tap."""
    tap = tl.program_id(0) % TAPS
    entry = tl.program_id(0) // TAPS  # of the transposed base graph
    edge = tl.load(transposed_edges + entry)
    row = tl.load(transposed_indices + entry)
    column = tl.load(indices + edge)
    start, width = _block_row(indptr, row, B_IN)
    place = edge - start
    t_start, t_width = _block_row(transposed_indptr, column, B_OUT)
    t_place = entry - t_start
    start, width = _wide(start, BIG), _wide(width, BIG)
    t_start, t_width = _wide(t_start, BIG), _wide(t_width, BIG)
    tap = _wide(tap, BIG)
    for r0 in range(0, B_OUT, BLOCK_N):
        for c0 in range(0, B_IN, BLOCK_K):
            r = r0 + tl.arange(0, BLOCK_N)[:, None]
            c = c0 + tl.arange(0, BLOCK_K)[None, :]
            ok = (r < B_OUT) & (c < B_IN)
            at = start * (B_OUT * B_IN) + r * width + place * B_IN + c
            to = t_start * (B_OUT * B_IN) + c * t_width + t_place * B_OUT + r
            block = tl.load(weight + at * TAPS + tap, mask=ok, other=0.0)
            tl.store(target + tap * edges + to, block, mask=ok)
