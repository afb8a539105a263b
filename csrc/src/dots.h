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
  bool in_place;               // inputs and grad_y are read where they lie
  bool never_copies;           // wherever they are, so that no room is asked for

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
    // Lone rows read so much that it should be aligned. Channels that lie so that many of them compete for few places in
    // the cache are better copied.
    const bool aligned = layout.source.channel % 16 == 0 && reinterpret_cast<uintptr_t>(a.x) % 64 == 0;
    const bool can = layout.same_as_source() && layout.length >= lanes && layout.source.channel % 128 != 0;
    never_copies = can && groups.widest > 1;
    in_place = never_copies || (can && aligned);
  }

  static constexpr int64_t most_pixels = 1024, panel_bytes = (long_vectors ? 640 : 192) << 10;
};

struct DotWorkspace {
  Panel panel;
  float* grad;  // (rows of the thread, plan.tile), unless it is always read in place
  Segment* segments;
  int64_t* tap_at;
  int64_t* places;
  int32_t* cursors;  // how far the edges of each block of the thread are done

  DotWorkspace(Arena& arena, const Dots& a, const DotPlan& plan, int64_t most_degree)
      : panel(arena, *a.layout, plan.tile, least(plan.stretch * a.graph.b_in, a.graph.num_in)),
        grad(arena.take<float>(plan.never_copies ? 0 : plan.tile * plan.most_rows + lanes)),
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

// A tile of an image as blocks [begin, end) see it.
struct DotTile {
  const Dots& a;
  const DotPlan& plan;
  const DotWorkspace& work;
  int64_t flat, pixels;
  const float* grad;  // of block `begin`
  int64_t grad_ld;    // between rows
  bool fresh;         // the first to give anything to these weights

  DotTile(const Dots& dots, const DotPlan& p, const DotWorkspace& w, int32_t begin, int32_t end, int64_t image,
          int64_t tile)
      : a(dots), plan(p), work(w), flat(tile * p.tile), fresh(image == 0 && tile == 0) {
    const Layout& layout = *a.layout;
    const int64_t row = int64_t{begin} * a.graph.b_out, valid = least(p.tile, layout.length - flat);
    int64_t far = p.in_place ? flat : -1;
    // Elsewhere copies are cheap, for the taps share them: cheaper than to end on a part of a vector.
    if (!p.in_place && !layout.by_feature && valid % lanes == 0) {
      const int64_t count = layout.store_segments(flat, valid, work.segments);
      if (count == 1 && work.segments[0].length == valid) far = work.segments[0].far;
    }
    if (far >= 0) {
      grad = a.grad_y + image * layout.target.image + row * layout.target.channel + far;
      grad_ld = layout.target.channel;
      pixels = valid;
      return;
    }
    work.pack_grad(a, p, row, int64_t{end - begin} * a.graph.b_out, image, flat);
    grad = work.grad;
    grad_ld = pixels = p.tile;
  }

  // The edges of a block from `from` on whose base inputs lie in the panel, [origin, limit). Returns where they end. A
  // function of its own, so that its loops have the registers to themselves.
  __attribute__((noinline)) int32_t block(int32_t i, const float* grad_rows, int32_t from, int32_t origin, int32_t limit) const {
    const int32_t taps = a.taps, b_in = a.graph.b_in;
    const int32_t* index = a.graph.indices + from;
    const int32_t* last = a.graph.indices + a.graph.indptr[i + 1];
    const int64_t channel_ld = work.panel.channel_ld, input_ld = b_in * channel_ld;
    int64_t* place = work.places;
    if (b_in * taps == 1)
      for (; index < last && *index < limit; ++index) *place++ = (*index - origin) * input_ld;
    else
      for (; index < last && *index < limit; ++index) {
        int64_t channel = (*index - origin) * input_ld;
        for (int32_t c = 0; c < b_in; ++c, channel += channel_ld)
          for (int32_t t = 0; t < taps; ++t) *place++ = channel + work.tap_at[t];
      }
    const int64_t row_weights = int64_t{a.graph.degree(i)} * taps;
    const int64_t done = int64_t{from - a.graph.indptr[i]} * b_in * taps;
    if (place > work.places)
      for (int32_t g = 0; g < plan.groups.per_block; ++g) {
        int32_t first, rows;
        plan.groups.locate(g, first, rows);
        const DotRun run{grad_rows + first * grad_ld, grad_ld, work.panel.data, work.places, place - work.places,
                         pixels, a.grad_weight + a.graph.first_edge(i, first) * taps + done, row_weights, fresh};
        const auto kernel = rows == 1 ? dot_rows<1> : rows == 2 ? dot_rows<2> : dot_rows<4>;
        kernel(run);
      }
    return static_cast<int32_t>(index - a.graph.indices);
  }
};

static void dot_tile(const Dots& a, const DotPlan& plan, DotWorkspace& work, int32_t begin, int32_t end, int64_t image,
                     int64_t number) {
  const Rows& graph = a.graph;
  const Layout& layout = *a.layout;
  const int32_t b_in = graph.b_in, inputs = graph.num_in / b_in;
  const DotTile tile(a, plan, work, begin, end, image, number);
  for (int32_t i = begin; i < end; ++i) work.cursors[i - begin] = graph.indptr[i];
  for (int32_t origin = 0; origin < inputs; origin += plan.stretch) {
    const int32_t limit = least(origin + plan.stretch, inputs);
    const int64_t channel = int64_t{origin} * b_in;
    if (plan.in_place)
      work.panel.borrow(a.x + image * layout.source.image + channel * layout.source.channel + tile.flat,
                        layout.source.channel);
    else
      work.panel.pack(layout, a.x, static_cast<int32_t>(channel), (limit - origin) * b_in, image, tile.flat);
    const float* grad = tile.grad;
    for (int32_t i = begin; i < end; ++i, grad += graph.b_out * tile.grad_ld)
      work.cursors[i - begin] = tile.block(i, grad, work.cursors[i - begin], origin, limit);
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
