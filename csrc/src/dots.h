// The gradient to the weight: one dot product along the pixels for every edge and tap.
//
// The taps of all edges of a row are one list of places in the panel, in the order of the gradient itself, so that every
// kernel size is the same loop. The panel holds one stretch of the inputs at a time, as many as the cache does, so that
// tiles can be long: at the end of each, every sum is folded and added to the gradient.
#pragma once

#include "dot_rows.h"
#include "pack.h"
#include "rows.h"

namespace xn::XN_ISA {

struct DotPlan {
  Groups groups;
  int64_t tile, tiles;
  int32_t stretch, stretches;  // of base inputs
  int32_t most_rows;           // of one thread

  explicit DotPlan(const Dots& a) : groups(a.graph.b_out, a.graph.b_out >= 4 ? 4 : a.graph.b_out >= 2 ? 2 : 1) {
    const Layout& layout = *a.layout;
    const int32_t inputs = a.graph.num_in / a.graph.b_in;
    // What is multiplied, a few rows of either side, stays in the first-level cache.
    tile = least(most_pixels, round_up(layout.length, lanes));
    tile = round_up(ceil_div(layout.length, ceil_div(layout.length, tile)), lanes);
    tiles = ceil_div(layout.length, tile);
    const int64_t input_bytes = 4 * a.graph.b_in * Panel::plane_length(layout, tile) * layout.num_planes();
    const int64_t fit = most(panel_bytes / most(input_bytes, int64_t{1}), int64_t{1});
    stretches = static_cast<int32_t>(ceil_div(inputs, fit));
    stretch = static_cast<int32_t>(ceil_div(inputs, stretches));
    most_rows = static_cast<int32_t>(ceil_div(a.graph.blocks(), a.threads) * a.graph.b_out);
  }

  static constexpr int64_t most_pixels = 1024, panel_bytes = 192 << 10;
};

struct DotWorkspace {
  Panel panel;
  float* grad;  // (rows of the thread, plan.tile)
  Segment* segments;
  int64_t* tap_at;
  int64_t* places;
  int32_t* cursors;  // how far the edges of each block of the thread are done

  DotWorkspace(Arena& arena, const Dots& a, const DotPlan& plan, int64_t most_degree)
      : panel(arena, *a.layout, plan.tile, least(plan.stretch * a.graph.b_in, a.graph.num_in)),
        grad(arena.take<float>(plan.tile * plan.most_rows + lanes)),
        segments(arena.take<Segment>(a.layout->most_segments(plan.tile))),
        tap_at(arena.take<int64_t>(a.layout->num_taps())),
        places(arena.take<int64_t>(most_degree * a.taps)),
        cursors(arena.take<int32_t>(plan.most_rows / a.graph.b_out)) {
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

// The edges [from, to) of one block. The panel begins with base input `origin`.
static void dot_block(const Dots& a, const DotPlan& plan, const DotWorkspace& work, int32_t block, const float* grad,
                      int32_t from, int32_t to, int32_t origin, bool fresh) {
  if (from == to) return;
  const int32_t taps = a.taps, b_in = a.graph.b_in;
  int64_t* place = work.places;
  for (int32_t k = from; k < to; ++k)
    for (int32_t c = 0; c < b_in; ++c) {
      const int64_t channel = (int64_t{a.graph.indices[k] - origin} * b_in + c) * work.panel.channel_ld;
      for (int32_t t = 0; t < taps; ++t) *place++ = channel + work.tap_at[t];
    }
  const int64_t row_weights = int64_t{a.graph.degree(block)} * taps;
  const int64_t done = int64_t{from - a.graph.indptr[block]} * b_in * taps;
  for (int32_t g = 0; g < plan.groups.per_block; ++g) {
    int32_t first, rows;
    plan.groups.locate(g, first, rows);
    const DotRun run{grad + first * plan.tile, plan.tile, work.panel.data, work.places, place - work.places,
                     plan.tile / lanes, a.grad_weight + a.graph.first_edge(block, first) * taps + done, row_weights,
                     fresh};
    const auto kernel = rows == 1 ? dot_rows<1> : rows == 2 ? dot_rows<2> : dot_rows<4>;
    kernel(run);
  }
}

// One tile of an image, for blocks [begin, end).
static void dot_tile(const Dots& a, const DotPlan& plan, DotWorkspace& work, int32_t begin, int32_t end, int64_t image,
                     int64_t tile) {
  const Rows& graph = a.graph;
  const int32_t b_in = graph.b_in, inputs = graph.num_in / b_in;
  work.pack_grad(a, plan, int64_t{begin} * graph.b_out, int64_t{end - begin} * graph.b_out, image, tile * plan.tile);
  for (int32_t i = begin; i < end; ++i) work.cursors[i - begin] = graph.indptr[i];
  for (int32_t origin = 0; origin < inputs; origin += plan.stretch) {
    const int32_t limit = least(origin + plan.stretch, inputs);
    work.panel.pack(*a.layout, a.x, origin * b_in, (limit - origin) * b_in, image, tile * plan.tile);
    for (int32_t i = begin; i < end; ++i) {
      const int32_t from = work.cursors[i - begin], last = graph.indptr[i + 1];
      int32_t to = from;
      if (limit == inputs)
        to = last;
      else
        while (to < last && graph.indices[to] < limit) ++to;
      work.cursors[i - begin] = to;
      dot_block(a, plan, work, i, work.grad + int64_t{i - begin} * graph.b_out * plan.tile, from, to, origin,
                image == 0 && tile == 0);
    }
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
      for (int64_t image = 0; image < a.layout->images; ++image)
        for (int64_t t = 0; t < plan.tiles; ++t) dot_tile(a, plan, work, begin, end, image, t);
    }
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
