// The innermost loops: R rows that share their neighbours, times P vectors of pixels, kept in registers
// while the edges stream by.
#pragma once

#include "vec.h"

namespace xn::XN_ISA {

struct Strip {
  const Rows* graph;
  int32_t first;           // the R rows of each block begin here
  const float* panel;      // channel 0, at the strip's first pixel
  int64_t panel_ld;        // between channels
  const float* weight;     // of the whole graph
  int32_t edge_taps;       // weights of one edge
  int32_t num_taps;        // taps that act: which, and their place in a channel's panel
  const int32_t* tap;
  const int64_t* tap_at;
  const float* bias;       // of the whole graph, or null
  float* out;              // the first row of the first block
  int64_t out_ld;          // between rows
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

// Rows first .. first + R of blocks [begin, end). The loop over blocks is in here because rows are short: a call for
// each would cost as much as a few edges.
template <int R, int P, bool pointwise>
static void strip(const Strip& s, int32_t begin, int32_t end) {
  const Rows& graph = *s.graph;
  const int32_t b_in = graph.b_in;
  float* out = s.out;
  for (int32_t block = begin; block < end; ++block, out += graph.b_out * s.out_ld) {
    Vec acc[R][P];
    const float* bias = s.bias ? s.bias + int64_t{block} * graph.b_out + s.first : nullptr;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) acc[r][p] = bias ? splat(bias[r]) : Vec{};
    const int32_t* index = graph.indices + graph.indptr[block];
    const int32_t* last = graph.indices + graph.indptr[block + 1];
    const int64_t weight_ld = (last - index) * b_in * s.edge_taps;
    const float* weight = s.weight + graph.first_edge(block, s.first) * s.edge_taps;
    if (pointwise && b_in == 1) {
      if constexpr (R * P < 4) {  // one chain of additions would bind: several take turns
        constexpr int turns = R * P == 1 ? 4 : 2;
        Vec other[turns][R][P] = {};
        for (; index + turns <= last; index += turns, weight += turns)
#pragma GCC unroll 4
          for (int u = 0; u < turns; ++u)
            multiply_add<R, P>(s.panel + index[u] * s.panel_ld, weight + u, weight_ld, other[u]);
#pragma GCC unroll 4
        for (int u = 0; u < turns; ++u)
#pragma GCC unroll 8
          for (int i = 0; i < R * P; ++i) acc[i / P][i % P] += other[u][i / P][i % P];
      }
      for (; index < last; ++index, ++weight) multiply_add<R, P>(s.panel + *index * s.panel_ld, weight, weight_ld, acc);
    } else {
      for (; index < last; ++index) {
        const float* x = s.panel + int64_t{*index} * b_in * s.panel_ld;
        for (int32_t c = 0; c < b_in; ++c, x += s.panel_ld) {
          if constexpr (pointwise)
            multiply_add<R, P>(x, weight, weight_ld, acc);
          else
            for (int32_t t = 0; t < s.num_taps; ++t)
              multiply_add<R, P>(x + s.tap_at[t], weight + s.tap[t], weight_ld, acc);
          weight += s.edge_taps;
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) store(out + r * s.out_ld + p * lanes, acc[r][p]);
  }
}

using StripKernel = void (*)(const Strip&, int32_t begin, int32_t end);

// Most vectors of pixels for R rows. A lone row takes many, because the taps of one row share what they load.
constexpr int most_vectors(int rows) {
  return rows == 1 ? (accumulators == 24 ? 16 : 12) : rows == 2 ? accumulators / 2 : accumulators / rows;
}

template <int R, int P = most_vectors(R)>
static StripKernel strip_kernel(int vectors, bool pointwise) {
  if (vectors == P) return pointwise ? strip<R, P, true> : strip<R, P, false>;
  if constexpr (P > 1) return strip_kernel<R, P - 1>(vectors, pointwise);
  return nullptr;
}

static StripKernel find_strip_kernel(int rows, int vectors, bool pointwise) {
  switch (rows) {
    case 1: return strip_kernel<1>(vectors, pointwise);
    case 2: return strip_kernel<2>(vectors, pointwise);
    case 4: return strip_kernel<4>(vectors, pointwise);
    default: return strip_kernel<8>(vectors, pointwise);
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
