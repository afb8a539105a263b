// Forward, and the gradient to the input: tiles of pixels, copied into the cache once, times all the rows.
#pragma once

#include "before.h"
#include "plan.h"

namespace xn::XN_ISA {

// What one thread holds.
struct Workspace {
  Panel panel;
  Windows windows;    // of the convolution before this one
  float* tile;        // (plan.batch, plan.tile)
  Segment* segments;  // where its rows go in the target
  Segment* next;      // where the next tile comes from
  int64_t* tap_at;
  int32_t* cursors[2];  // where the edges of a stretch begin and end, by block
  const float* ordered = nullptr;  // the weights by turns, where rows share them

  Workspace(Arena& arena, const Apply& a, const Plan& plan)
      : panel(arena, *a.layout, plan.tile, least(plan.stretch * a.graph.b_in, a.graph.num_in) + plan.shares,
              a.prepare != nullptr),
        windows(a.before ? Windows(arena, *a.before) : Windows()),
        tile(arena.take<float>(plan.tile * plan.batch)),
        segments(arena.take<Segment>(a.layout->most_segments(plan.tile))),
        next(arena.take<Segment>(panel.most_segments)),
        tap_at(arena.take<int64_t>(a.layout->num_taps())),
        cursors{arena.take<int32_t>(a.graph.blocks()), arena.take<int32_t>(a.graph.blocks())} {
    if (!arena.base) return;
    for (int32_t t = 0; t < a.layout->num_taps(); ++t) tap_at[t] = a.layout->tap_at(t, panel.plane_ld);
    if (plan.shares) zero(panel.own + a.graph.num_in * panel.plane_ld, panel.plane_ld);
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
  int64_t count, channel;
  int64_t between;        // source numbers from pixel to pixel
  Requests requests{};  // instead, edge by edge

  Ahead(const Apply& apply, const Plan& plan, const Workspace& work, int64_t unit)
      : a(apply), segments(work.next), count(0), channel(0), between(apply.layout->source_step[2]) {
    if (!plan.streams || plan.by_feature || a.before || unit >= plan.units || a.layout->source_step[2] > 2) return;
    source = a.source + unit / plan.tiles * a.layout->source.image;
    const int64_t tile = unit % plan.tiles, pixels = plan.length_of(tile);
    count = a.layout->pack_segments(0, plan.begin(tile), pixels, work.next);
    // One strip, so that a channel is two or three lines; and reading is most of the traffic.
    const bool lines = plan.pointwise && between == 1 && plan.shared_rows() && pixels <= plan.strip * lanes && count == 2;
    if (lines && a.graph.b_in == 1 && a.graph.num_in >= a.graph.num_out) {
      requests = {source + segments[1].far, a.layout->source.channel, a.graph.num_in};
      count = 0;
    }
  }

  // As large a share of the channels as `done` of `all` steps.
  void step(int64_t done, int64_t all) {
    if (!count) return;
    for (const int64_t until = done * a.graph.num_in / all; channel < until; ++channel)
      for (int64_t s = 0; s < count; ++s)
        prefetch<0>(source + channel * a.layout->source.channel + segments[s].far,
                    segments[s].length * between);
  }
};

// The place of one tile in the target.
struct Destination {
  const Layout& layout;
  const Plan& plan;
  const Segment* segments;
  int64_t valid, flat, count;
  float* target;
  const float* residual;  // beside it, or null
  const Finish* finish;   // or null
  bool direct;  // one run of pixels: whole vectors go there without a detour

  Destination(const Apply& a, const Plan& p, const Workspace& work, int64_t image, int64_t tile)
      : layout(*a.layout),
        plan(p),
        segments(work.segments),
        valid(p.length_of(tile)),
        flat(p.begin(tile)),
        residual(nullptr),
        finish(a.finish) {
    count = plan.by_feature ? 0 : layout.store_segments(flat, valid, work.segments);
    target = a.target + image * layout.target.image;
    if (finish && finish->residual) residual = finish->residual + image * finish->residual_image;
    direct = count == 1 && layout.target_step[2] == 1 && segments[0].length == valid;
  }

  int64_t row_at(int64_t r) const { return r * layout.target.channel + (direct ? segments[0].far : 0); }
  float* row(int64_t r) const { return target + row_at(r); }
  const float* residual_row(int64_t r) const { return residual ? residual + row_at(r) : nullptr; }

  // Pixels [at, at + count) of row r, where their sums are complete but lie in `buffer`.
  void put_end(const float* buffer, int64_t r, int64_t at, int64_t count) const {
    if (!finish) return copy(row(r) + at, buffer + at, count);
    map_run(row(r) + at, buffer + at, residual ? residual_row(r) + at : nullptr, count, 1.0f, 0.0f, finish->act);
  }

  // Rows [first, first + rows) from a buffer of (rows, plan.tile).
  void put(const float* buffer, int64_t first, int64_t rows) const {
    if (plan.by_feature)
      put_features(buffer, first, rows);
    else
      store_rows(buffer, plan.tile, static_cast<int>(rows), target + first * layout.target.channel,
                 layout.target.channel, segments, count, layout.target_step[2], finish,
                 residual ? residual + first * layout.target.channel : nullptr);
  }

  // The residual may be the target itself: it is added before the target is overwritten.
  void put_features(const float* buffer, int64_t first, int64_t rows) const {
    const int64_t ld = layout.target.stride[2];
    float* to = target + flat * ld + first;
    if (!finish) return transpose(buffer, plan.tile, rows, valid, to, ld);
    float turned[16 * lanes];
    for (int64_t r = 0; r < rows; r += 16)
      for (int64_t j = 0; j < valid; j += lanes) {
        const int64_t width = least(rows - r, int64_t{16}), height = least(valid - j, int64_t{lanes});
        transpose(buffer + r * plan.tile + j, plan.tile, width, height, turned, 16);
        for (int64_t i = 0; i < height; ++i) {
          const float* add = residual ? residual + (flat + j + i) * finish->residual_image + first + r : nullptr;
          map_run(to + (j + i) * ld + r, turned + i * 16, add, width, 1.0f, 0.0f, finish->act);
        }
      }
  }

  void expect(int64_t first, int64_t rows) const {
    if (!plan.streams) return;
    const int64_t num_out = plan.group_count / plan.groups.per_block * plan.groups.b_out;
    for (int64_t r = first; r < least(first + rows, num_out); ++r)
      for (int64_t s = 0; s < count; ++s)
        prefetch<1>(target + r * layout.target.channel + segments[s].far, segments[s].length);
  }
};

// `rows` rows from `first` on of blocks [block, block_end), for the stretch of the tile that `work` holds.
static void apply_rows(const Apply& a, const Plan& plan, const Workspace& work, const Destination& to, Ahead& ahead,
                       int32_t stretch, int32_t origin, int32_t first, int32_t rows, int32_t block, int32_t block_end) {
  const int64_t vectors = ceil_div(to.valid, lanes);
  const int64_t chunks = ceil_div(vectors, plan.shares ? plan.strip : most_vectors(rows));
  const int64_t row = int64_t{block} * a.graph.b_out + first;
  float* buffer = work.tile + (block_end - block > 1 || plan.groups.b_out <= plan.batch ? first * plan.tile : 0);
  Strip strip{&a.graph, first, nullptr, work.panel.channel_ld, a.weight, a.taps, a.layout->num_taps(), a.layout->taps(),
              work.tap_at, a.bias, nullptr, 0,
              origin, (stretch + 1) * plan.stretch,
              stretch ? work.cursors[stretch % 2] : a.graph.indptr, work.cursors[(stretch + 1) % 2], stretch == 0,
              plan.run};
  strip.requests = &ahead.requests;
  const bool last = stretch + 1 == plan.stretches;
  const bool clamped = to.finish && to.finish->act.kind == XN_ACT_CLAMP;
  const bool mapped = to.finish && to.finish->act.kind != XN_ACT_NONE && !clamped;
  auto for_rows = [&](auto&& use) {
    for (int32_t i = 0; i < block_end - block; ++i)
      for (int32_t r = i * a.graph.b_out; r < i * a.graph.b_out + rows; ++r) use(r);
  };
  // The last pixels are computed with some before them once more, rather than in a vector that must be cut, unless
  // what lies there is still needed.
  const bool may_repeat = to.direct && plan.stretches == 1 && to.residual != to.target;
  for (int64_t c = 0, at = 0; c < chunks; ++c) {
    const int64_t size = (vectors - at + chunks - c - 1) / (chunks - c);
    const bool fits = (at + size) * lanes <= to.valid, shifted = !fits && may_repeat && size * lanes <= to.valid;
    const bool whole = to.direct && (fits || shifted);
    const int64_t place = shifted ? to.valid - size * lanes : at * lanes;
    strip.panel = work.panel.data + place;
    strip.out = whole ? to.row(row) + place : buffer + place;
    strip.out_ld = whole ? a.layout->target.channel : plan.tile;
    strip.residual = whole && to.residual ? to.residual_row(row) + place : nullptr;
    strip.clamped = whole && clamped && last ? &to.finish->act : nullptr;
    if (plan.shares)
      share_rows(strip, static_cast<int>(size), work.ordered, block, block_end);
    else
      find_strip_kernel(rows, static_cast<int>(size), plan.pointwise, plan.stretches > 1)(strip, block, block_end);
    if (to.direct && !whole && last)
      for_rows([&](int32_t r) { to.put_end(buffer + r * plan.tile, row + r, at * lanes, to.valid - at * lanes); });
    if (whole && mapped && last)
      for_rows([&](int32_t r) {
        float* out = to.row(row + r) + place;
        map_run(out, out, nullptr, size * lanes, 1.0f, 0.0f, to.finish->act);
      });
    at += size;
  }
}

// One tile's inputs: read where they lie, or packed stretch by stretch.
struct Inputs {
  const Apply& a;
  const Plan& plan;
  Workspace& work;
  int64_t image, tile, flat;
  bool in_place, packed;  // packed: the only stretch is in the panel already

  Inputs(const Apply& apply, const Plan& p, Workspace& w, int64_t unit, bool packed_before)
      : a(apply),
        plan(p),
        work(w),
        image(unit / p.tiles),
        tile(unit % p.tiles),
        flat(p.begin(tile)),
        packed(packed_before) {
    const Strided& source = a.layout->source;
    // The tile's last vector must not read beyond the array: images may be much smaller than a vector.
    const int64_t last_channel = image * source.image + (a.graph.num_in - 1) * source.channel;
    const int64_t reach = last_channel + flat + round_up(plan.length_of(tile), lanes);
    in_place = plan.in_place && reach <= source.total;
    if (in_place) work.panel.borrow(a.source + image * source.image + flat, source.channel);
  }

  // The first base input that the panel then holds.
  int32_t turn_to(int32_t stretch) {
    if (in_place) return 0;
    const int32_t first = stretch * plan.stretch, b_in = a.graph.b_in;
    if (!packed && a.before)
      pack_depthwise(work.panel, *a.before, work.windows, first * b_in,
                     least(plan.stretch * b_in, a.graph.num_in - first * b_in), image, flat, plan.length_of(tile));
    else if (!packed)
      work.panel.pack(*a.layout, a.source, first * b_in, least(plan.stretch * b_in, a.graph.num_in - first * b_in),
                      image, flat, a.prepare);
    packed = plan.stretches == 1;
    return first;
  }
};

// Groups [begin, end) of the tile of `inputs`.
static void apply_tile(const Apply& a, const Plan& plan, const Workspace& work, const Destination& to, Inputs& inputs,
                       Ahead& ahead, int64_t begin, int64_t end) {
  const int32_t b_out = a.graph.b_out, per_block = plan.groups.per_block;
  if (b_out <= plan.batch) {
    const int32_t blocks = plan.batch / b_out;
    const int32_t block_end = static_cast<int32_t>(end / per_block);
    for (int32_t block = static_cast<int32_t>(begin / per_block); block < block_end; block += blocks) {
      const int32_t until = least(block + blocks, block_end), rows = (until - block) * b_out;
      to.expect(int64_t{until} * b_out, plan.batch);
      ahead.step(int64_t{until} * per_block - begin, end - begin);
      for (int32_t stretch = 0; stretch < plan.stretches; ++stretch) {
        const int32_t origin = inputs.turn_to(stretch);
        for (int32_t g = 0; g < per_block; ++g) {
          int32_t first, group_rows;
          plan.groups.locate(g, first, group_rows);
          apply_rows(a, plan, work, to, ahead, stretch, origin, first, group_rows, block, until);
        }
      }
      if (!to.direct) to.put(work.tile, int64_t{block} * b_out, rows);
    }
    return;
  }
  const int32_t origin = inputs.turn_to(0);
  for (int64_t g = begin; g < end; ++g) {
    const int32_t block = static_cast<int32_t>(g / per_block);
    int32_t first, rows;
    plan.groups.locate(static_cast<int32_t>(g % per_block), first, rows);
    const int64_t row = int64_t{block} * b_out + first;
    to.expect(row + rows, rows);
    ahead.step(g + 1 - begin, end - begin);
    apply_rows(a, plan, work, to, ahead, 0, origin, first, rows, block, block + 1);
    if (!to.direct) to.put(work.tile, row, rows);
  }
}

XN_INLINE size_t ordered_bytes(const Apply& a, const Plan& plan) {
  return plan.shares ? static_cast<size_t>(round_up(int64_t{TurnTable{a.graph.turns}.turns()} * turn_rows * 4, 64)) : 0;
}

static size_t apply_scratch(const Apply& a) {
  if (a.layout->empty() || a.graph.num_out == 0) return 0;
  const Plan plan(a);
  return ordered_bytes(a, plan) + workspace_bytes(a, plan) * static_cast<size_t>(a.threads);
}

static void apply(const Apply& a) {
  if (a.layout->empty() || a.graph.num_out == 0) return;
  const Plan plan(a);
  const size_t bytes = workspace_bytes(a, plan);
  float* ordered = static_cast<float*>(a.scratch);
  auto order = [&](int thread, int threads) { order_weights({a.graph.turns}, a.weight, ordered, thread, threads); };
  if (plan.shares) parallel_for_threads(a.threads, order);
  char* workspaces = static_cast<char*>(a.scratch) + ordered_bytes(a, plan);
  auto body = [&](int thread, int threads) {
    Arena arena{workspaces + bytes * static_cast<size_t>(thread), 0};
    Workspace work(arena, a, plan);
    work.ordered = ordered;
    const int64_t total = plan.units * plan.parts;
    int64_t packed = -1;
    for (int64_t u = total * thread / threads; u < total * (thread + 1) / threads; ++u) {
      const int64_t unit = u / plan.parts, part = u % plan.parts;
      const int64_t begin = plan.first_group(part), end = plan.first_group(part + 1);
      if (begin == end) continue;
      Inputs inputs(a, plan, work, unit, plan.stretches == 1 && unit == packed);
      packed = unit;
      const Destination to(a, plan, work, inputs.image, inputs.tile);
      Ahead ahead(a, plan, work, unit + 1);
      apply_tile(a, plan, work, to, inputs, ahead, begin, end);
    }
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
