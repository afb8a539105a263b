// The gradient to the input where its own rows share nothing: block (4, 1) and its like, whose transposed graph has
// lone rows. Four rows of grad_y are held in registers instead, and each edge adds to the input it comes from. Weights
// and tables are those of the forward pass.
#pragma once

#include "pack.h"
#include "rows.h"

namespace xn::XN_ISA {

// So many rows of the source are held, and so many vectors of each: 12 registers of 16, 24 of 32.
constexpr int scatter_rows = 4;
constexpr int scatter_vectors = accumulators / scatter_rows;

struct ScatterPlan {
  int64_t tile, tiles, units;
  int32_t stretch;     // base targets whose sums a cache close by holds
  int32_t runs;        // sums of so many parts of the graph are added up
  bool in_place;
  bool streams;        // source and target come from beyond the second-level cache
  bool pays;
  bool whole;          // a tile has all its sums in the first-level cache, and is stored at once
  int64_t held;        // so many tiles share a stretch's weights while these are close

  explicit ScatterPlan(const Apply& a) {
    const Layout& layout = *a.layout;
    const Rows& graph = a.graph;
    in_place = a.taps == 1 && layout.same_as_source() && layout.source.channel % 128 != 0;
    const int64_t chunk = scatter_vectors * lanes;
    const int64_t source_bytes = most(int64_t{4} * graph.num_out * layout.num_planes(), int64_t{1});
    // The first-level cache; with longer vectors a few times that, or a block would have few edges in a stretch.
    const int64_t near = (long_vectors ? 96 : 24) << 10;
    const int64_t fits = near / (4 * chunk * graph.b_in), targets = graph.num_in / graph.b_in;
    const int64_t fit = (256 << 10) / source_bytes - layout.halo;
    tile = most(least(fit / chunk, int64_t{layout.pointwise() ? 4 : 16}), int64_t{1}) * chunk;
    int64_t per_image = ceil_div(layout.length, tile);
    if (a.threads > 1 && per_image * layout.images < 4 * a.threads)
      per_image = ceil_div(round_up(per_image * layout.images, a.threads), layout.images);
    tile = round_up(ceil_div(layout.length, per_image), lanes);
    tiles = ceil_div(layout.length, tile);
    units = tiles * layout.images;
    stretch = static_cast<int32_t>(ceil_div(targets, ceil_div(targets, most(fits, int64_t{1}))));
    // A long sum is made of shorter ones, or its rounding error would grow with its length.
    const int64_t additions = int64_t{graph.indptr[graph.blocks()]} * (graph.b_out / scatter_rows) *
                              layout.num_taps() / targets;
    runs = static_cast<int32_t>(least(ceil_div(additions, 48), int64_t{graph.blocks()}));
    runs = most(runs, 1);
    streams = (layout.source.total + layout.target.total) * 4 > 768 << 10;
    whole = streams && runs == 1 && stretch >= targets && int64_t{graph.num_in} * tile * 4 <= 24 << 10;
    const int64_t panel_bytes = most(source_bytes * Panel::plane_length(layout, tile), int64_t{1});
    held = layout.by_feature ? least(ceil_div(units, int64_t{a.threads}), most((4 << 20) / panel_bytes, int64_t{1})) : 1;
    // With few edges an input, moving the sums about costs more than the transposed graph's loads.
    pays = additions >= (whole ? 9 : streams ? 6 : 3);
  }
};

struct ScatterWorkspace {
  Panel panel;
  float* panels;   // of the tiles that are held, if these are several
  float* sums;     // (targets of a stretch, chunk)
  float* totals;   // the same, of all runs
  Segment* segments;
  int64_t* tap_at;
  int32_t* cursors[2];  // where the edges of a stretch begin and end, by block

  ScatterWorkspace(Arena& arena, const Apply& a, const ScatterPlan& plan)
      : panel(arena, *a.layout, plan.tile, a.graph.num_out),
        panels(arena.take<float>(plan.held > 1 ? plan.held * panel.size : 0)),
        sums(arena.take<float>(int64_t{plan.stretch} * a.graph.b_in * (plan.whole ? plan.tile : scatter_vectors * lanes))),
        totals(arena.take<float>(plan.runs == 1 ? 0 : int64_t{plan.stretch} * a.graph.b_in * scatter_vectors * lanes)),
        segments(arena.take<Segment>(a.layout->most_segments(plan.tile))),
        tap_at(arena.take<int64_t>(a.layout->num_taps())),
        cursors{arena.take<int32_t>(a.graph.blocks()), arena.take<int32_t>(a.graph.blocks())} {
    if (!arena.base) return;
    for (int32_t t = 0; t < a.layout->num_taps(); ++t) tap_at[t] = a.layout->tap_at(t, panel.plane_ld);
  }
};

// What all strips of a call have in common.
struct Scatter {
  Rows graph;
  int64_t taps;              // of one edge in `weight`
  const float* weight;
  int32_t num_taps;          // taps that act
  const int32_t* tap;
  const int64_t* tap_at;
  int64_t panel_ld;
  int32_t origin, limit;     // the stretch of base targets
  float* sums;               // (base targets of the stretch * b_in, sum_ld)
  int64_t sum_ld;
  const int32_t* from = nullptr;  // where the edges of the stretch begin, by block; null if there is one stretch only
  int32_t* to = nullptr;          // and end
  bool known = false;             // `to` says where, or else it is told
};

// Blocks [begin, end) of the source times their edges of the stretch, added to the sums.
template <int P, bool lone>
static void scatter_strip(const Scatter& given, const float* panel, int32_t begin, int32_t end) {
  constexpr int R = scatter_rows;
  const Scatter s = given;  // copies, which no store can change: they stay in registers
  const int32_t b_in = lone ? 1 : s.graph.b_in;
  for (int32_t block = begin; block < end; ++block) {
    const int32_t* from = s.graph.indices + (s.from ? s.from[block] : s.graph.indptr[block]);
    const int32_t* to = s.graph.indices + (s.known ? s.to[block] : s.graph.indptr[block + 1]);
    const int64_t done = (from - s.graph.indices - s.graph.indptr[block]) * b_in;
    if (s.from && !s.known) {
      const int32_t* last = to;
      for (to = from; to < last && *to < s.limit;) ++to;
      s.to[block] = static_cast<int32_t>(to - s.graph.indices);
    }
    const int64_t ld = int64_t{s.graph.degree(block)} * s.taps;
    for (int32_t first = 0; first < s.graph.b_out; first += R)
      for (int32_t t = 0; t < s.num_taps; ++t) {
        const float* source = panel + (int64_t{block} * s.graph.b_out + first) * s.panel_ld + s.tap_at[t];
        const float* weight = s.weight + (s.graph.first_edge(block, first) + done) * s.taps + s.tap[t];
        Vec g[R][P];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
          for (int p = 0; p < P; ++p) g[r][p] = load(source + r * s.panel_ld + p * lanes);
        for (const int32_t* i = from; i < to; ++i) {
          float* sum = s.sums + int64_t{*i - s.origin} * b_in * s.sum_ld;
          for (int32_t c = 0; c < b_in; ++c, sum += s.sum_ld, weight += s.taps) {
            Vec acc[P];
            const Vec w = splat(weight[0]);
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) acc[p] = w * g[0][p];
#pragma GCC unroll 8
            for (int r = 1; r < R; ++r) {
              const Vec v = splat(weight[r * ld]);
#pragma GCC unroll 16
              for (int p = 0; p < P; ++p) acc[p] += v * g[r][p];
            }
#pragma GCC unroll 16
            for (int p = 0; p < P; ++p) store(sum + p * lanes, load(sum + p * lanes) + acc[p]);
          }
        }
      }
  }
}

using ScatterKernel = void (*)(const Scatter&, const float*, int32_t, int32_t);

template <int P = scatter_vectors>
static ScatterKernel scatter_kernel(int64_t vectors, bool lone) {
  if (vectors == P) return lone ? scatter_strip<P, true> : scatter_strip<P, false>;
  if constexpr (P > 1) return scatter_kernel<P - 1>(vectors, lone);
  return nullptr;
}

// The sums of one stretch for the tile in `panel`, to their place in the target.
static void scatter_tile(const Apply& a, const ScatterPlan& plan, const ScatterWorkspace& work, Scatter& s,
                         const float* panel, int64_t image, int64_t flat) {
  const Rows& graph = a.graph;
  const Layout& layout = *a.layout;
  const int32_t blocks = graph.blocks();
  const int64_t vectors = ceil_div(least(plan.tile, layout.length - flat), lanes);
  const int64_t chunks = ceil_div(vectors, scatter_vectors);
  // Flat positions [begin, begin + size) of the layout.
  auto put = [&](const float* result, int64_t begin, int64_t size) {
    const int64_t rows = int64_t{s.limit - s.origin} * graph.b_in, first = int64_t{s.origin} * graph.b_in;
    if (layout.by_feature) {
      const int64_t ld = layout.target.stride[2];
      return transpose(result, s.sum_ld, rows, least(size, layout.length - begin), a.target + begin * ld + first, ld);
    }
    const int64_t count = layout.store_segments(begin, size, work.segments);
    store_rows(result, s.sum_ld, static_cast<int>(rows),
               a.target + image * layout.target.image + first * layout.target.channel, layout.target.channel,
               work.segments, count, layout.target_step[2], nullptr, nullptr);
  };
  if (plan.whole) zero_whole_vectors(work.sums, graph.num_in * plan.tile);
  for (int64_t c = 0, at = 0; c < chunks; ++c) {
    const int64_t size = (vectors - at + chunks - c - 1) / (chunks - c) * lanes;
    const auto kernel = scatter_kernel(size / lanes, graph.b_in == 1);
    const float* strip = panel + at * lanes;
    if (plan.whole) {
      s.sums = work.sums + at * lanes, s.sum_ld = plan.tile;
      kernel(s, strip, 0, blocks);
      at += size / lanes;
      continue;
    }
    s.sum_ld = size;
    const int64_t count = int64_t{s.limit - s.origin} * graph.b_in * size;
    for (int32_t run = 0; run < plan.runs; ++run) {
      zero_whole_vectors(work.sums, count);
      kernel(s, strip, static_cast<int32_t>(int64_t{blocks} * run / plan.runs),
             static_cast<int32_t>(int64_t{blocks} * (run + 1) / plan.runs));
      if (plan.runs == 1) break;
      for (int64_t i = 0; i < count; i += lanes)
        store(work.totals + i, run ? load(work.totals + i) + load(work.sums + i) : load(work.sums + i));
    }
    s.known = s.from != nullptr;
    put(plan.runs == 1 ? work.sums : work.totals, flat + at * lanes, size);
    at += size / lanes;
  }
  if (plan.whole) put(work.sums, flat, plan.tile);
}

// Tiles [begin, end) of all images, no more than are held.
static void scatter_tiles(const Apply& a, const ScatterPlan& plan, ScatterWorkspace& work, int64_t begin, int64_t end) {
  const Rows& graph = a.graph;
  const Layout& layout = *a.layout;
  const int32_t targets = graph.num_in / graph.b_in, blocks = graph.blocks();
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / plan.tiles, flat = unit % plan.tiles * plan.tile;
    const int64_t valid = least(plan.tile, layout.length - flat), start = image * layout.source.image + flat;
    // The tile's last vector must not read beyond the array.
    const int64_t reach = start + (graph.num_out - 1) * layout.source.channel + round_up(valid, lanes);
    if (plan.held > 1) work.panel.own = work.panels + (unit - begin) * work.panel.size;
    if (plan.in_place && reach <= layout.source.total)
      work.panel.borrow(a.source + start, layout.source.channel);
    else
      work.panel.pack(layout, a.source, 0, graph.num_out, image, flat);
  }
  const bool stretched = plan.stretch < targets;
  int32_t *from = work.cursors[0], *to = work.cursors[1];
  for (int32_t i = 0; stretched && i < blocks; ++i) from[i] = graph.indptr[i];
  for (int32_t origin = 0; origin < targets; origin += plan.stretch) {
    Scatter s{graph, a.taps, a.weight, layout.num_taps(), layout.taps(), work.tap_at, work.panel.channel_ld,
              origin, least(origin + plan.stretch, targets), work.sums, 0, stretched ? from : nullptr, to};
    for (int64_t unit = begin; unit < end; ++unit) {
      const float* panel = plan.held > 1 ? work.panels + (unit - begin) * work.panel.size : work.panel.data;
      scatter_tile(a, plan, work, s, panel, unit / plan.tiles, unit % plan.tiles * plan.tile);
    }
    int32_t* other = from;
    from = to, to = other;
  }
}

XN_INLINE size_t scatter_workspace_bytes(const Apply& a, const ScatterPlan& plan) {
  Arena arena{nullptr, 0};
  ScatterWorkspace count(arena, a, plan);
  return (arena.used + 4095) / 4096 * 4096;
}

// Zero where the transposed graph serves better: its rows share their neighbours, or there is not a tile for each
// thread.
static size_t scatter_scratch(const Apply& a) {
  const Rows& graph = a.graph;
  if (graph.b_out % scatter_rows || graph.b_in >= 4 || a.layout->empty()) return 0;
  const ScatterPlan plan(a);
  if (plan.units < a.threads || !plan.pays) return 0;
  return scatter_workspace_bytes(a, plan) * static_cast<size_t>(a.threads);
}

static void scatter(const Apply& a) {
  const ScatterPlan plan(a);
  const size_t bytes = scatter_workspace_bytes(a, plan);
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    ScatterWorkspace work(arena, a, plan);
    const int64_t last = plan.units * (thread + 1) / threads;
    for (int64_t unit = plan.units * thread / threads; unit < last; unit += plan.held)
      scatter_tiles(a, plan, work, unit, least(unit + plan.held, last));
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
