// The gradient to the weight: one dot product along the pixels for every edge and tap.
//
// The taps of all edges of a row are one list of places in the panel, in the order of the gradient itself, so
// that every kernel size is the same loop: R rows of grad_y times E places, R * E = lanes accumulators.
#pragma once

#include "pack.h"
#include "rows.h"

namespace xn::XN_ISA {

template <int size>
struct PartOf {
  typedef float type __attribute__((vector_size(size * 4), aligned(4), may_alias));
};
template <int size>
using Part = typename PartOf<size>::type;

template <int R>
static void dot_rows(const float* grad_y, int64_t grad_ld, const float* panel, const int64_t* places, int64_t count,
                     int64_t vectors, float* out, int64_t out_ld) {
  constexpr int E = lanes / R;
  for (int64_t j = 0; j < count; j += E) {
    const float* x[E];
#pragma GCC unroll 16
    for (int e = 0; e < E; ++e) x[e] = panel + places[least(j + e, count - 1)];
    Vec acc[R * E] = {};
    for (int64_t p = 0; p < vectors * lanes; p += lanes) {
      Vec g[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) g[r] = load(grad_y + r * grad_ld + p);
#pragma GCC unroll 16
      for (int e = 0; e < E; ++e) {
        const Vec v = load(x[e] + p);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) acc[r * E + e] += g[r] * v;
      }
    }
    const Vec total = sum_each(acc);
    if (R == 1 && j + E <= count) {
      store(out + j, load(out + j) + total);
      continue;
    }
    float one[lanes];
    store(one, total);
    for (int r = 0; r < R; ++r) {
      float* to = out + r * out_ld + j;
      if (j + E <= count)
        *reinterpret_cast<Part<E>*>(to) += *reinterpret_cast<Part<E>*>(one + r * E);
      else
        for (int64_t e = 0; e < count - j; ++e) to[e] += one[r * E + e];
    }
  }
}

struct DotPlan {
  Groups groups;
  int64_t tile, tiles;
  int32_t most_rows;  // of one thread

  explicit DotPlan(const Dots& a) : groups(a.graph.b_out, a.graph.b_out >= 4 ? 4 : a.graph.b_out >= 2 ? 2 : 1) {
    const Layout& layout = *a.layout;
    const int64_t channel_bytes = int64_t{4} * a.graph.num_in * layout.num_planes();
    // Long tiles: at the end of each, every sum is folded and added to the gradient.
    const int64_t fit = ((768 << 10) / most(channel_bytes, int64_t{1}) - layout.halo) / lanes;
    tile = least(most(fit, int64_t{256 / lanes}) * lanes, round_up(layout.length, lanes));
    const int64_t per_image = ceil_div(layout.length, tile);
    tile = round_up(ceil_div(layout.length, per_image), lanes);
    tiles = ceil_div(layout.length, tile);
    most_rows = static_cast<int32_t>(ceil_div(a.graph.blocks(), a.threads) * a.graph.b_out);
  }
};

struct DotWorkspace {
  Panel panel;
  float* grad;  // (rows of the thread, plan.tile)
  Segment* segments;
  int64_t* tap_at;
  int64_t* places;

  DotWorkspace(Arena& arena, const Dots& a, const DotPlan& plan, int64_t most_degree)
      : panel(arena, *a.layout, plan.tile, a.graph.num_in),
        grad(arena.take<float>(plan.tile * plan.most_rows + lanes)),
        segments(arena.take<Segment>(a.layout->most_segments(plan.tile))),
        tap_at(arena.take<int64_t>(a.layout->num_taps())),
        places(arena.take<int64_t>(most_degree * a.taps)) {
    if (!arena.base) return;
    for (int32_t t = 0; t < a.layout->num_taps(); ++t) tap_at[t] = a.layout->tap_at(t, panel.plane_ld);
  }

  // Rows [row, row + rows) of grad_y along the flat axis, zeros in the gaps.
  void pack_grad(const Dots& a, const DotPlan& plan, int64_t row, int64_t rows, int64_t image, int64_t flat) const {
    const Layout& layout = *a.layout;
    if (layout.by_feature) {
      const int64_t ld = layout.target.stride[2], valid = least(plan.tile, layout.length - flat);
      transpose(a.grad_y + flat * ld + row, ld, valid, rows, grad, plan.tile);
      for (int64_t r = 0; valid < plan.tile && r < rows; ++r) zero(grad + r * plan.tile + valid, plan.tile - valid);
      return;
    }
    const int64_t count = layout.store_segments(flat, plan.tile, segments);
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = a.grad_y + image * layout.target.image + (row + r) * layout.target.channel;
      float* to = grad + r * plan.tile;
      int64_t done = 0;
      for (int64_t s = 0; s < count; ++s) {
        zero(to + done, segments[s].at - done);
        copy(to + segments[s].at, from + segments[s].far, segments[s].length);
        done = segments[s].at + segments[s].length;
      }
      zero(to + done, plan.tile - done);
    }
  }
};

static int64_t most_degree(const Rows& graph) {
  int64_t degree = 0;
  for (int32_t i = 0; i < graph.blocks(); ++i) degree = most(degree, int64_t{graph.degree(i)});
  return degree;
}

XN_INLINE size_t dot_workspace_bytes(const Dots& a, const DotPlan& plan) {
  Arena arena{nullptr, 0};
  DotWorkspace count(arena, a, plan, most_degree(a.graph));
  return (arena.used + 4095) / 4096 * 4096;
}

static void dot_block(const Dots& a, const DotPlan& plan, const DotWorkspace& work, int32_t block, const float* grad) {
  const int32_t taps = a.taps;
  const int64_t count = int64_t{a.graph.degree(block)} * taps;
  if (count == 0) return;
  int64_t* place = work.places;
  for (int32_t k = a.graph.indptr[block]; k < a.graph.indptr[block + 1]; ++k)
    for (int32_t c = 0; c < a.graph.b_in; ++c) {
      const int64_t channel = (int64_t{a.graph.indices[k]} * a.graph.b_in + c) * work.panel.channel_ld;
      for (int32_t t = 0; t < taps; ++t) *place++ = channel + work.tap_at[t];
    }
  for (int32_t g = 0; g < plan.groups.per_block; ++g) {
    int32_t first, rows;
    plan.groups.locate(g, first, rows);
    const auto kernel = rows == 1 ? dot_rows<1> : rows == 2 ? dot_rows<2> : dot_rows<4>;
    kernel(grad + first * plan.tile, plan.tile, work.panel.data, work.places, count, plan.tile / lanes,
           a.grad_weight + a.graph.first_edge(block, first) * taps, count);
  }
}

static size_t dots_scratch(const Dots& a) {
  if (a.layout->empty() || a.graph.num_out == 0) return 0;
  return dot_workspace_bytes(a, DotPlan(a)) * static_cast<size_t>(a.threads);
}

// Each thread has rows of its own, so that no sum is split between threads.
static void dots(const Dots& a) {
  const Rows& graph = a.graph;
  const bool empty = a.layout->empty() || graph.num_out == 0;
  const int64_t edges = int64_t{graph.indptr[graph.blocks()]} * graph.b_in * graph.b_out;
  if (empty) return zero(a.grad_weight, edges * a.taps);
  const DotPlan plan(a);
  const size_t bytes = dot_workspace_bytes(a, plan);
  const int64_t degree = most_degree(graph);
  auto body = [&](int thread, int threads) {
    // A runtime may give fewer threads than asked; shares are cut for those asked, and dealt out.
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    DotWorkspace work(arena, a, plan, degree);
    for (int64_t share = thread; share < a.threads; share += threads) {
      const int32_t begin = static_cast<int32_t>(int64_t{graph.blocks()} * share / a.threads);
      const int32_t end = static_cast<int32_t>(int64_t{graph.blocks()} * (share + 1) / a.threads);
      if (begin == end) continue;
      zero(a.grad_weight + graph.first_edge(begin, 0) * a.taps,
           (graph.first_edge(end, 0) - graph.first_edge(begin, 0)) * a.taps);
      for (int64_t image = 0; image < a.layout->images; ++image)
        for (int64_t t = 0; t < plan.tiles; ++t) {
          work.panel.pack(*a.layout, a.x, 0, graph.num_in, image, t * plan.tile);
          work.pack_grad(a, plan, int64_t{begin} * graph.b_out, int64_t{end - begin} * graph.b_out, image,
                         t * plan.tile);
          for (int32_t i = begin; i < end; ++i)
            dot_block(a, plan, work, i, work.grad + int64_t{i - begin} * graph.b_out * plan.tile);
        }
    }
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
