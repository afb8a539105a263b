// Forward, and the gradient to the input: tiles of pixels, copied into the cache once, times all the rows.
#pragma once

#include "pack.h"
#include "rows.h"

namespace xn::XN_ISA {

// How an Apply is cut up: `tiles` of `tile` flat positions for each image, each tile's groups in `parts` parts.
struct Plan {
  Groups groups;
  int64_t tile, tiles, units, parts, group_count;
  int32_t batch;    // rows at a time: whole blocks, or one group of a large block
  bool by_feature;  // features lie side by side in the target
  bool pointwise;
  bool streams;     // source and target come from beyond the second-level cache
  bool in_place;    // the source is as good as a panel

  static int32_t widest_group(const Rows& graph) {
    return graph.b_out >= 8 && accumulators >= 24 ? 8 : graph.b_out >= 4 ? 4 : graph.b_out >= 2 ? 2 : 1;
  }

  explicit Plan(const Apply& a) : groups(a.graph.b_out, widest_group(a.graph)) {
    const Layout& layout = *a.layout;
    by_feature = layout.by_feature;
    pointwise = layout.pointwise() && a.taps == 1;
    streams = (layout.source.total + layout.target.total) * 4 > 768 << 10;
    tile = tile_length(a);
    const int64_t per_image = ceil_div(layout.length, tile);
    tile = round_up(ceil_div(layout.length, per_image), lanes);
    tiles = ceil_div(layout.length, tile);
    units = tiles * layout.images;
    group_count = int64_t{a.graph.blocks()} * groups.per_block;
    parts = parts_per_tile(units, a.threads);
    batch = 16;
    in_place = pointwise && reads_in_place(a);
  }

  // Channels can be read where they are, unless loads bind and are not aligned, or the channels lie so that many of
  // them compete for few places in the cache.
  bool reads_in_place(const Apply& a) const {
    const Layout& layout = *a.layout;
    const bool aligned = layout.source.channel % 16 == 0 && reinterpret_cast<uintptr_t>(a.source) % 64 == 0;
    return layout.same_as_source() && layout.source.channel % 128 != 0 && (aligned || groups.widest >= 4);
  }

  // Where every row stands alone it reads one number for each multiplication, from the first-level cache if it can.
  // Where several rows or several taps share what was read, the second level will do.
  int64_t tile_length(const Apply& a) const {
    const Layout& layout = *a.layout;
    const int64_t channel_bytes = int64_t{4} * a.graph.num_in * layout.num_planes();
    if (pointwise) {
      const int64_t fit = (groups.widest >= 4 ? 192 << 10 : 24 << 10) / channel_bytes / lanes;
      const bool wide = channel_bytes * 64 > 768 << 10;
      const int64_t low = (groups.widest == 1 && !wide ? 64 : 32) / lanes;
      const int64_t high = groups.widest == 1 ? 8 : 96 / lanes;
      return least(most(fit, low), high) * lanes;
    }
    const int64_t fit = ((384 << 10) / most(channel_bytes, int64_t{1}) - layout.halo) / lanes;
    return most(fit, int64_t{most_vectors(groups.widest)}) * lanes;
  }

  // Parts keep blocks whole where the blocks are small.
  int64_t first_group(int64_t part) const {
    const int64_t unit = groups.b_out <= batch ? groups.per_block : 1;
    return group_count / unit * part / parts * unit;
  }

  static int64_t parts_per_tile(int64_t units, int threads) {
    // More parts balance better, but every part packs its tile again.
    int64_t best = 1;
    for (int64_t parts = 2; parts <= threads; ++parts)
      if (ceil_div(units * parts, threads) * best * 16 < ceil_div(units * best, threads) * parts * 15) best = parts;
    return best;
  }
};

// What one thread holds.
struct Workspace {
  Panel panel;
  float* tile;        // (plan.batch, plan.tile)
  Segment* segments;  // where its rows go in the target
  Segment* next;      // where the next tile comes from
  int64_t* tap_at;

  Workspace(Arena& arena, const Apply& a, const Plan& plan)
      : panel(arena, *a.layout, plan.tile, a.graph.num_in),
        tile(arena.take<float>(plan.tile * plan.batch)),
        segments(arena.take<Segment>(a.layout->most_segments(plan.tile))),
        next(arena.take<Segment>(panel.most_segments)),
        tap_at(arena.take<int64_t>(a.layout->num_taps())) {
    if (!arena.base) return;
    for (int32_t t = 0; t < a.layout->num_taps(); ++t) tap_at[t] = a.layout->tap_at(t, panel.plane_ld);
  }
};

XN_INLINE size_t workspace_bytes(const Apply& a, const Plan& plan) {
  Arena arena{nullptr, 0};
  Workspace count(arena, a, plan);
  return (arena.used + 4095) / 4096 * 4096;
}

// Brings what comes next closer while the present tile is computed: hardware does not foresee these short runs.
struct Ahead {
  const Apply& a;
  const float* source;
  const Segment* segments;
  int64_t count, channel, begin, groups;

  Ahead(const Apply& apply, const Plan& plan, const Workspace& work, int64_t unit, int64_t begin_group,
        int64_t end_group)
      : a(apply), segments(work.next), count(0), channel(0), begin(begin_group), groups(end_group - begin_group) {
    if (!plan.streams || plan.by_feature || unit >= plan.units || a.layout->source_step[2] != 1) return;
    source = a.source + unit / plan.tiles * a.layout->source.image;
    count = a.layout->pack_segments(0, unit % plan.tiles * plan.tile, plan.tile, work.next);
  }

  // An even share of the channels for each group.
  void step(int64_t group) {
    if (!count) return;
    for (const int64_t until = (group - begin + 1) * a.graph.num_in / groups; channel < until; ++channel)
      for (int64_t s = 0; s < count; ++s)
        prefetch<0>(source + channel * a.layout->source.channel + segments[s].far, segments[s].length);
  }
};

// The place of one tile in the target.
struct Destination {
  const Layout& layout;
  const Plan& plan;
  const Segment* segments;
  int64_t count, valid, flat;
  float* target;
  bool direct;  // one run of pixels: whole vectors go there without a detour

  Destination(const Apply& a, const Plan& p, const Workspace& work, int64_t image, int64_t at)
      : layout(*a.layout), plan(p), segments(work.segments), flat(at) {
    valid = least(plan.tile, layout.length - flat);
    count = plan.by_feature ? 0 : layout.store_segments(flat, plan.tile, work.segments);
    target = a.target + image * layout.target.image;
    direct = count == 1 && layout.target_step[2] == 1 && segments[0].length == valid;
  }

  float* row(int64_t r) const { return target + r * layout.target.channel + (direct ? segments[0].far : 0); }

  // Rows [first, first + rows) from a buffer of (rows, plan.tile).
  void put(const float* buffer, int64_t first, int64_t rows) const {
    if (plan.by_feature)
      transpose(buffer, plan.tile, rows, valid, target + flat * layout.target.stride[2] + first,
                layout.target.stride[2]);
    else
      store_rows(buffer, plan.tile, static_cast<int>(rows), target + first * layout.target.channel,
                 layout.target.channel, segments, count, layout.target_step[2]);
  }

  void expect(int64_t first, int64_t rows) const {
    if (!plan.streams) return;
    const int64_t num_out = plan.group_count / plan.groups.per_block * plan.groups.b_out;
    for (int64_t r = first; r < least(first + rows, num_out); ++r)
      for (int64_t s = 0; s < count; ++s)
        prefetch<1>(target + r * layout.target.channel + segments[s].far, segments[s].length);
  }
};

// `rows` rows from `first` on of blocks [block, block_end), for the tile that `work` holds.
static void apply_rows(const Apply& a, const Plan& plan, const Workspace& work, const Destination& to, int32_t first,
                       int32_t rows, int32_t block, int32_t block_end) {
  const int64_t vectors = ceil_div(to.valid, lanes), chunks = ceil_div(vectors, most_vectors(rows));
  const int64_t row = int64_t{block} * a.graph.b_out + first;
  float* buffer = work.tile + (block_end - block > 1 || plan.groups.b_out <= plan.batch ? first * plan.tile : 0);
  Strip strip{&a.graph, first, nullptr, work.panel.channel_ld, a.weight, a.taps, a.layout->num_taps(), a.layout->taps(),
              work.tap_at, a.bias, nullptr, 0};
  for (int64_t c = 0, at = 0; c < chunks; ++c) {
    const int64_t size = (vectors - at + chunks - c - 1) / (chunks - c);
    const bool whole = to.direct && (at + size) * lanes <= to.valid;
    strip.panel = work.panel.data + at * lanes;
    strip.out = whole ? to.row(row) + at * lanes : buffer + at * lanes;
    strip.out_ld = whole ? a.layout->target.channel : plan.tile;
    find_strip_kernel(rows, static_cast<int>(size), plan.pointwise)(strip, block, block_end);
    if (to.direct && !whole)
      for (int32_t i = 0; i < block_end - block; ++i)
        for (int32_t r = i * a.graph.b_out; r < i * a.graph.b_out + rows; ++r)
          copy(to.row(row + r) + at * lanes, buffer + r * plan.tile + at * lanes, to.valid - at * lanes);
    at += size;
  }
}

// Groups [begin, end) for the tile that `work` holds.
static void apply_tile(const Apply& a, const Plan& plan, const Workspace& work, const Destination& to, Ahead& ahead,
                       int64_t begin, int64_t end) {
  const int32_t b_out = a.graph.b_out, per_block = plan.groups.per_block;
  if (b_out <= plan.batch) {
    const int32_t blocks = plan.batch / b_out;
    const int32_t block_end = static_cast<int32_t>(end / per_block);
    for (int32_t block = static_cast<int32_t>(begin / per_block); block < block_end; block += blocks) {
      const int32_t until = least(block + blocks, block_end), rows = (until - block) * b_out;
      to.expect(int64_t{until} * b_out, plan.batch);
      ahead.step(int64_t{until} * per_block - 1);
      for (int32_t g = 0; g < per_block; ++g) {
        int32_t first, group_rows;
        plan.groups.locate(g, first, group_rows);
        apply_rows(a, plan, work, to, first, group_rows, block, until);
      }
      if (!to.direct) to.put(work.tile, int64_t{block} * b_out, rows);
    }
    return;
  }
  for (int64_t g = begin; g < end; ++g) {
    const int32_t block = static_cast<int32_t>(g / per_block);
    int32_t first, rows;
    plan.groups.locate(static_cast<int32_t>(g % per_block), first, rows);
    const int64_t row = int64_t{block} * b_out + first;
    to.expect(row + rows, rows);
    ahead.step(g);
    apply_rows(a, plan, work, to, first, rows, block, block + 1);
    if (!to.direct) to.put(work.tile, row, rows);
  }
}

static size_t apply_scratch(const Apply& a) {
  if (a.layout->empty() || a.graph.num_out == 0) return 0;
  return workspace_bytes(a, Plan(a)) * static_cast<size_t>(a.threads);
}

static void apply(const Apply& a) {
  if (a.layout->empty() || a.graph.num_out == 0) return;
  const Plan plan(a);
  const size_t bytes = workspace_bytes(a, plan);
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    Workspace work(arena, a, plan);
    const int64_t total = plan.units * plan.parts;
    int64_t packed = -1;
    for (int64_t u = total * thread / threads; u < total * (thread + 1) / threads; ++u) {
      const int64_t unit = u / plan.parts, part = u % plan.parts;
      const int64_t image = unit / plan.tiles, flat = unit % plan.tiles * plan.tile;
      const int64_t begin = plan.first_group(part), end = plan.first_group(part + 1);
      // The tile's last vector must not read beyond the array: images may be much smaller than a vector.
      const int64_t last_channel = image * a.layout->source.image + (a.graph.num_in - 1) * a.layout->source.channel;
      const int64_t reach = last_channel + flat + round_up(least(plan.tile, a.layout->length - flat), lanes);
      if (plan.in_place && reach <= a.layout->source.total)
        work.panel.borrow(a.source + image * a.layout->source.image + flat, a.layout->source.channel);
      else if (unit != packed)
        work.panel.pack(*a.layout, a.source, a.graph.num_in, image, flat);
      packed = unit;
      const Destination to(a, plan, work, image, flat);
      Ahead ahead(a, plan, work, unit + 1, begin, end);
      apply_tile(a, plan, work, to, ahead, begin, end);
    }
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
