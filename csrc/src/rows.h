// The innermost loops: R rows that share their neighbours, times P vectors of pixels, kept in registers
// while the edges stream by.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

// Lines of the next tile, asked for one channel at a time while the present one is computed: memory delivers them
// meanwhile. Many requests at once would only stand in the way of the second-level cache.
struct Requests {
  const float* at;
  int64_t step;  // between channels
  int64_t left;  // channels
};

struct Strip {
  const Rows* graph;
  int32_t first;           // the R rows of each block begin here
  const float* panel;      // channel `origin` * b_in, at the strip's first pixel
  int64_t panel_ld;        // between channels
  const float* weight;     // of the whole graph
  int32_t edge_taps;       // weights of one edge
  int32_t num_taps;        // taps that act: which, and their place in a channel's panel
  const int32_t* tap;
  const int64_t* tap_at;
  const float* bias;       // of the whole graph, or null
  float* out;              // the first row of the first block
  int64_t out_ld;          // between rows
  // One stretch of the base inputs: from `origin` to before `limit`. Each block's edges of it begin at `from` and end
  // where `to` is told.
  int32_t origin, limit;
  const int32_t* from;
  int32_t* to;
  bool fresh;              // the first stretch: writes `out`, which the others add to
  int32_t run;             // at most so many base edges are added up before they are added to `out`
  const float* residual = nullptr;      // beside `out`, or null: added with the bias
  const Activation* clamped = nullptr;  // the last stretch: between which bounds the sums end, or null
  Requests* requests = nullptr;         // pointwise, blocks of four or more rows
};

// Holds the fewer of the two kinds of operands in registers, and takes the others one at a time: with 16 registers
// there is room for no more.
template <int R, int P>
XN_INLINE void multiply_add(const float* x, const float* weight, int64_t weight_ld, Vec (&acc)[R][P]) {
  if constexpr (P < R) {
    Vec v[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) v[p] = load(x + p * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec w = splat(weight[r * weight_ld]);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) acc[r][p] += w * v[p];
    }
  } else {
    Vec w[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) w[r] = splat(weight[r * weight_ld]);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const Vec v = load(x + p * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][p] += w[r] * v;
    }
  }
}

// Adds up the edges [index, stop), or as many of them as lie in the stretch, and returns where it stopped.
template <int R, int P, bool pointwise, bool stretched, bool asks>
XN_INLINE const int32_t* run_edges(const Strip& s, int32_t b_in, const int32_t* index, const int32_t* stop,
                                   const float*& weight, int64_t weight_ld, Vec (&acc)[R][P], const float*& far,
                                   int64_t far_step) {
  auto goes_on = [&](const int32_t* i) { return i < stop && (!stretched || *i < s.limit); };
  auto input = [&](int32_t i) { return s.panel + int64_t{stretched ? i - s.origin : i} * b_in * s.panel_ld; };
  if (pointwise && b_in == 1) {
    // One chain of additions for each accumulator would bind: where there are few, several take turns.
    constexpr int turns = R * P == 1 ? 4 : R * P <= 4 || (R == 1 && P <= accumulators / 2) ? 2 : 1;
    auto channel = [&](int32_t i) { return s.panel + int64_t{stretched ? i - s.origin : i} * s.panel_ld; };
    if constexpr (turns > 1) {
      Vec other[turns - 1][R][P] = {};
      for (; goes_on(index + turns - 1); index += turns, weight += turns) {
        multiply_add<R, P>(channel(index[0]), weight, weight_ld, acc);
#pragma GCC unroll 4
        for (int u = 1; u < turns; ++u) multiply_add<R, P>(channel(index[u]), weight + u, weight_ld, other[u - 1]);
      }
#pragma GCC unroll 4
      for (int u = 1; u < turns; ++u)
#pragma GCC unroll 16
        for (int i = 0; i < R * P; ++i) acc[i / P][i % P] += other[u - 1][i / P][i % P];
    }
    for (; goes_on(index); ++index, ++weight) {
      if constexpr (asks) {
        __builtin_prefetch(far);
        __builtin_prefetch(far + P * lanes - 1);
        far += far_step;
      }
      multiply_add<R, P>(channel(*index), weight, weight_ld, acc);
    }
    return index;
  }
  for (; goes_on(index); ++index) {
    const float* x = input(*index);
    // Rows that share their neighbours read so little that the hardware does not run ahead of them.
    const float* next = R >= 4 && !pointwise && index + 1 < stop ? input(index[1]) : x;
    for (int32_t c = 0; c < b_in; ++c, x += s.panel_ld) {
      if constexpr (pointwise)
        multiply_add<R, P>(x, weight, weight_ld, acc);
      else
        for (int32_t t = 0; t < s.num_taps; ++t) {
          if constexpr (R >= 4) __builtin_prefetch(next + s.tap_at[t]);
          multiply_add<R, P>(x + s.tap_at[t], weight + s.tap[t], weight_ld, acc);
        }
      weight += s.edge_taps;
    }
  }
  return index;
}

// Calls use(p, row) for the R places that lie `ld` apart from p on. The compiler must not see that their addresses are
// the same for every block: it would keep all of them, in memory.
template <int R, typename T, typename F>
XN_INLINE void for_rows(T* p, int64_t ld, F&& use) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r, p += ld) {
    asm("" : "+r"(p));
    use(p, r);
  }
}

// Adds what the R rows have in `out` (or at first their bias and residual), and stores them; `clamped` by their end.
template <int R, int P>
XN_INLINE void end_sum(const Strip& s, float* out, const float* bias, const float* residual, bool fresh, bool clamped,
                       Vec (&acc)[R][P]) {
  auto add = [&](const float* from_row) {
    for_rows<R>(from_row, s.out_ld, [&](const float* p, int r) {
#pragma GCC unroll 16
      for (int i = 0; i < P; ++i) acc[r][i] += load(p + i * lanes);
    });
  };
  if (!fresh) add(out);
  if (fresh && bias)
    for_rows<R>(bias, 1, [&](const float* p, int r) {
#pragma GCC unroll 16
      for (int i = 0; i < P; ++i) acc[r][i] += splat(*p);
    });
  if (fresh && residual) add(residual);
  if (clamped) {
    const Vec low = splat(s.clamped->low), high = splat(s.clamped->high);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) acc[r][p] = clamp(acc[r][p], low, high);
  }
  for_rows<R>(out, s.out_ld, [&](float* p, int r) {
#pragma GCC unroll 16
    for (int i = 0; i < P; ++i) store(p + i * lanes, acc[r][i]);
  });
}

// Rows first .. first + R of blocks [begin, end). The loop over blocks is in here because rows are short: a call for
// each would cost as much as a few edges.
template <int R, int P, bool pointwise, bool stretched>
static void strip(const Strip& given, int32_t begin, int32_t end) {
  const Strip s = given;  // copies, which no store can change: they stay in registers
  const Rows graph = *s.graph;
  const int64_t input_weights = int64_t{graph.b_in} * s.edge_taps, edge_weights = input_weights * graph.b_out;
  float* out = s.out;
  const float* residual = s.residual;
  const float* bias = s.bias ? s.bias + int64_t{begin} * graph.b_out + s.first : nullptr;
  for (int32_t block = begin; block < end; ++block) {
    const int32_t start = graph.indptr[block], from = stretched ? s.from[block] : start;
    const int32_t* index = graph.indices + from;
    const int32_t* last = graph.indices + graph.indptr[block + 1];
    const int64_t weight_ld = (graph.indptr[block + 1] - start) * input_weights;
    const float* weight = s.weight + start * edge_weights + s.first * weight_ld + (from - start) * input_weights;
    constexpr bool can_ask = !wide_registers && pointwise && !stretched && R >= 4 && P > 1;  // else nobody streams
    const bool asks = can_ask && s.requests && s.requests->left > 0;
    const float* far = asks ? s.requests->at : nullptr;
    const int64_t far_step = asks ? s.requests->step : 0;
    bool fresh = s.fresh;
    do {
      Vec acc[R][P] = {};
      const int32_t* stop = last - index < s.run ? last : index + s.run;
      index = asks ? run_edges<R, P, pointwise, stretched, can_ask>(s, graph.b_in, index, stop, weight, weight_ld, acc,
                                                                    far, far_step)
                   : run_edges<R, P, pointwise, stretched, false>(s, graph.b_in, index, stop, weight, weight_ld, acc,
                                                                  far, far_step);
      end_sum<R, P>(s, out, bias, residual, fresh, s.clamped && index == last, acc);
      fresh = false;
    } while (index < last && (!stretched || *index < s.limit));
    if (asks) {
      s.requests->at = far;
      s.requests->left -= graph.indptr[block + 1] - start;
    }
    if (stretched) s.to[block] = static_cast<int32_t>(index - graph.indices);
    out += graph.b_out * s.out_ld;
    if (residual) residual += graph.b_out * s.out_ld;
    if (bias) bias += graph.b_out;
  }
}

using StripKernel = void (*)(const Strip&, int32_t begin, int32_t end);

// Most vectors of pixels for R rows. A lone row takes many, because the taps of one row share what they load.
constexpr int most_vectors(int rows) {
  return rows == 1 ? (wide_registers ? 16 : 12) : rows == 2 ? accumulators / 2 : accumulators / rows;
}

// Stretches are for 16 registers only: see Plan.
template <int R, int P = most_vectors(R)>
static StripKernel strip_kernel(int vectors, bool pointwise, bool stretched) {
  if (vectors == P) {
    if constexpr (!wide_registers)
      if (stretched) return pointwise ? strip<R, P, true, true> : strip<R, P, false, true>;
    return pointwise ? strip<R, P, true, false> : strip<R, P, false, false>;
  }
  if constexpr (P > 1) return strip_kernel<R, P - 1>(vectors, pointwise, stretched);
  return nullptr;
}

static StripKernel find_strip_kernel(int rows, int vectors, bool pointwise, bool stretched) {
  switch (rows) {
    case 1: return strip_kernel<1>(vectors, pointwise, stretched);
    case 2: return strip_kernel<2>(vectors, pointwise, stretched);
    case 4: return strip_kernel<4>(vectors, pointwise, stretched);
    default: return strip_kernel<8>(vectors, pointwise, stretched);
  }
}

// How the rows of a block are cut into groups of 8, 4, 2 and 1 rows.
struct Groups {
  int32_t b_out, widest, wide, per_block;

  Groups(int32_t block_rows, int32_t widest_group) : b_out(block_rows), widest(widest_group) {
    wide = b_out / widest;
    per_block = wide;
    for (int32_t rest = b_out % widest; rest; rest &= rest - 1) ++per_block;
  }

  // First row in the block, and number of rows, of group g of a block.
  void locate(int32_t g, int32_t& first, int32_t& rows) const {
    rows = widest;
    first = least(g, wide) * widest;
    if (g < wide) return;
    int32_t rest = b_out % widest;
    for (int32_t skip = g - wide;; --skip) {
      int32_t top = widest / 2;
      while (!(rest & top)) top /= 2;
      rows = top;
      if (skip == 0) return;
      first += top;
      rest -= top;
    }
  }
};

}  // namespace xn::XN_ISA
