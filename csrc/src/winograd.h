// 3x3 convolutions of stride 1 by Winograd's algorithm: tiles to points, at each of the 16 points the graph times the
// channels as in a 1x1 convolution, points to pixels. The gradient to the input is the same with the kernel turned over,
// on the transposed graph, or, where that has lone rows, scattered over the graph itself.
#pragma once

#include "plan.h"
#include "scatter.h"
#include "winograd_tiles.h"

namespace xn::XN_ISA {

// How a call is cut up: units of tiles, which lie in one order through all images, and parts of the rows of each.
struct WinoPlan {
  int64_t tile_rows, tile_columns, tiles;  // of an image; of all
  int64_t strip;                           // vectors of tiles, at most, that the rows of a group take at once
  int64_t strips, vectors;
  int64_t units, parts, most_tiles;        // most_tiles: in a unit, in whole vectors
  int32_t channels_in, channels_out;
  int32_t run;

  explicit WinoPlan(const Winograd& a) {
    tile_rows = ceil_div(a.out_height, 2), tile_columns = ceil_div(a.out_width, 2);
    tiles = a.images * tile_rows * tile_columns;
    strip = a.scatter ? scatter_vectors : most_vectors(most(Plan::widest_group(a.graph), 4));
    vectors = ceil_div(tiles, lanes), strips = ceil_div(vectors, strip);
    channels_in = a.scatter ? a.graph.num_out : a.graph.num_in;
    channels_out = a.scatter ? a.graph.num_in : a.graph.num_out;
    const int64_t strip_bytes = int64_t{4} * wino_points * channels_in * strip * lanes;
    const int64_t fit = most((200 << 10) / strip_bytes, int64_t{1});
    units = ceil_div(strips, least(fit, int64_t{4}));
    if (units < a.threads) units = least(strips, int64_t{a.threads});
    most_tiles = ceil_div(strips, units) * strip * lanes;
    parts = a.scatter ? 1 : Plan::parts_per_tile(units, a.threads);
    run = run_length(a.graph, 1);
  }

  // Where unit u begins; strips share what is missing to a whole number of them.
  int64_t begin_vector(int64_t s) const { return vectors * s / strips; }
  int64_t first_strip(int64_t u) const { return strips * u / units; }
};

struct WinoWorkspace {
  WinoInput input;
  float* panel;   // (16, channels, most_tiles): the channels' points
  float* points;  // (rows, 16, most_tiles), or of scattered ones (16, channels, most_tiles)
  float* lines;   // (2, 2 * most_tiles): a row's pixels
  TileRun* runs;
  int64_t panel_ld;  // between points

  WinoWorkspace(Arena& arena, const Winograd& a, const WinoPlan& plan) {
    const int64_t line_ld = round_up(plan.most_tiles + 4 * lanes, 16);
    input = {a.height, a.width, a.top, a.left, nullptr, arena.take<float>(8 * line_ld),
             arena.take<float>(a.prepare ? 8 * line_ld : 0), nullptr, line_ld};
    float* zeros = arena.take<float>(2 * line_ld);
    input.zeros = zeros;
    panel_ld = round_up(plan.channels_in * plan.most_tiles + lanes, 16);
    panel = arena.take<float>(wino_points * panel_ld);
    points = arena.take<float>(wino_points * plan.most_tiles * plan.channels_out);
    lines = arena.take<float>(4 * plan.most_tiles);
    runs = arena.take<TileRun>(plan.most_tiles);
    if (!arena.base) return;
    input.end = a.source + (a.images - 1) * a.source_image + plan.channels_in * a.height * a.width;
    // Vectors reach beyond the tiles that there are. What was left there may be anything, and of numbers below the normal
    // ones some processors make a multiplication take a hundred times as long.
    zero_whole_vectors(zeros, 2 * line_ld);
    zero_whole_vectors(input.lines, 8 * line_ld);
    if (a.prepare) zero_whole_vectors(input.mapped, 8 * line_ld);
  }
};

XN_INLINE size_t wino_workspace_bytes(const Winograd& a, const WinoPlan& plan) {
  Arena arena{nullptr, 0};
  WinoWorkspace count(arena, a, plan);
  return (arena.used + 4095) / 4096 * 4096;
}

// The tiles of one unit, and what is done with them.
struct WinoUnit {
  const Winograd& a;
  const WinoPlan& plan;
  const WinoWorkspace& work;
  int64_t first_strip, last_strip, begin, count, num_runs;

  WinoUnit(const Winograd& call, const WinoPlan& p, const WinoWorkspace& w, int64_t unit)
      : a(call), plan(p), work(w), first_strip(p.first_strip(unit)), last_strip(p.first_strip(unit + 1)), num_runs(0) {
    begin = plan.begin_vector(first_strip) * lanes;
    count = least(plan.begin_vector(last_strip) * lanes, plan.tiles) - begin;
    const int64_t per_image = plan.tile_rows * plan.tile_columns;
    for (int64_t at = 0; at < count;) {
      const int64_t tile = begin + at, image = tile / per_image, rest = tile % per_image;
      const int64_t column = rest % plan.tile_columns, length = least(plan.tile_columns - column, count - at);
      work.runs[num_runs++] = {image, rest / plan.tile_columns, column, at, length};
      at += length;
    }
  }

  // All channels to points.
  void read() const {
    const int64_t pixels = a.height * a.width;
    if (count % lanes)  // lanes without a tile
      for (int point = 0; point < wino_points; ++point)
        for (int32_t c = 0; c < plan.channels_in; ++c)
          store(work.panel + point * work.panel_ld + c * plan.most_tiles + count / lanes * lanes, Vec{});
    auto all = [&](bool prepares, auto&& prepare_of) {
      for (int32_t c = 0; c < plan.channels_in; ++c) {
        const auto prepare = prepare_of(c);
        for (int64_t r = 0; r < num_runs; ++r)
          work.input.transform(a.source + work.runs[r].image * a.source_image + c * pixels, work.runs[r],
                               work.panel + c * plan.most_tiles, work.panel_ld, prepares, prepare);
      }
    };
    if (!a.prepare) return all(false, [](int32_t) { return [](Vec v) { return v; }; });
    const Prepare& p = *a.prepare;
    with_function(p.act, [&](auto function) {
      all(true, [&](int32_t c) {
        const Vec scale = splat(p.scale ? p.scale[c] : 1.0f), shift = splat(p.shift ? p.shift[c] : 0.0f);
        return [=](Vec v) { return function(v * scale + shift); };
      });
    });
  }

  // Calls use(vectors, place of the first tile) for each strip.
  template <typename F>
  void for_strips(F&& use) const {
    for (int64_t s = first_strip; s < last_strip; ++s) {
      const int64_t from = plan.begin_vector(s), until = plan.begin_vector(s + 1);
      use(static_cast<int>(until - from), from * lanes - begin);
    }
  }

  // The points of blocks [block, end). All rows take their turn while one point's channels stay in the first-level cache,
  // which costs more traffic of sums and is still much faster than to have the channels of all points pass by for a few
  // rows at a time.
  void multiply(int32_t block, int32_t end) const {
    const Groups groups(a.graph.b_out, Plan::widest_group(a.graph));
    const int64_t ld = plan.most_tiles;
    int32_t none = 0;
    int64_t here = 0;
    Strip strip{&a.graph, 0, nullptr, ld, nullptr, 1, 1, &none, &here, nullptr, nullptr, wino_points * ld,
                0, a.graph.num_in / a.graph.b_in, a.graph.indptr, nullptr, true, plan.run};
    for (int point = 0; point < wino_points; ++point) {
      strip.weight = a.weight + point * a.weight_ld;
      for_strips([&](int vectors, int64_t at) {
        strip.panel = work.panel + point * work.panel_ld + at;
        for (int32_t g = 0; g < groups.per_block; ++g) {
          int32_t rows;
          groups.locate(g, strip.first, rows);
          strip.out = work.points + (int64_t{strip.first} * wino_points + point) * ld + at;
          find_strip_kernel(rows, vectors, true, false)(strip, block, end);
        }
      });
    }
  }

  // The points of all targets.
  void scatter_all() const {
    const int32_t targets = a.graph.num_in / a.graph.b_in;
    const int64_t ld = plan.most_tiles;
    int32_t none = 0;
    int64_t here = 0;
    for (int point = 0; point < wino_points; ++point) {
      float* sums = work.points + int64_t{point} * a.graph.num_in * ld;
      zero_whole_vectors(sums, a.graph.num_in * ld);
      Scatter s{a.graph, 1, a.weight + point * a.weight_ld, 1, &none, &here, ld, 0, targets, sums, ld};
      for_strips([&](int vectors, int64_t at) {
        s.sums = sums + at;
        scatter_kernel(vectors, a.graph.b_in == 1)(s, work.panel + point * work.panel_ld + at, 0, a.graph.blocks());
      });
    }
  }

  // Points, `ld` apart, to the pixels of one row.
  void write(const float* points, int64_t ld, int64_t row) const {
    const int64_t line_ld = 2 * plan.most_tiles, pixels = a.out_height * a.out_width;
    wino_output(points, ld, count, splat(a.bias ? a.bias[row] : 0.0f), work.lines, line_ld);
    for (int64_t r = 0; r < num_runs; ++r) {
      const TileRun& run = work.runs[r];
      const int64_t rest = row * pixels + 2 * run.row * a.out_width + 2 * run.column;
      float* to = a.target + run.image * a.target_image + rest;
      const int64_t length = least(2 * run.count, a.out_width - 2 * run.column);
      for (int64_t line = 0; line < least(int64_t{2}, a.out_height - 2 * run.row); ++line, to += a.out_width) {
        const float* from = work.lines + line * line_ld + 2 * run.at;
        if (!a.finish) {
          copy(to, from, length);
          continue;
        }
        const Finish& f = *a.finish;
        const float* residual = f.residual ? f.residual + run.image * f.residual_image + rest + line * a.out_width : nullptr;
        map_run(to, from, residual, length, 1.0f, 0.0f, f.act);
      }
    }
  }
};

// Cycles, from measured rates, in which vectors of up to 8 numbers and longer ones differ: an image's rows of tiles fill long
// ones badly, and each row waits for what was stored just before.
struct WinoCost {
  const Winograd& a;
  const WinoPlan& plan;
  const bool lone = a.graph.b_out < 4;  // rows that share nothing of what they read
  const double edges = double(a.graph.indptr[a.graph.blocks()]) * a.graph.b_out * a.graph.b_in;

  // Of weights that no cache close by holds.
  static double fetch(double bytes) { return bytes > 256 << 10 ? bytes / 4.2 : 0.0; }

  double direct() const {
    const bool padded = long_vectors && a.out_width < lanes;  // with what lies between the images in one row of them
    const int64_t pixels = (a.out_height + padded) * (a.out_width + padded) * a.images;
    const double rate = lone && !a.rival_shares ? 0.62 : long_vectors ? 1.0 : 1.08;
    return edges * 9 * double(ceil_div(pixels, int64_t{lanes})) / rate + fetch(edges * 36);
  }

  double products() const {
    double rate = lone ? 0.95 : long_vectors ? 1.2 : 1.1;
    if (long_vectors && !lone) {
      const double degree = edges / most(a.graph.num_out, 1);
      rate = plan.vectors == 1 ? 0.7 : rate * degree / (degree + 6);
    }
    return edges * 16 * double(plan.vectors) / rate + fetch(edges * 64);
  }

  // Of a channel, with the way of the points through the cache.
  double transforms() const {
    if (!long_vectors) return double(plan.vectors) * (plan.channels_in + plan.channels_out) * 150;
    const double rows = double(a.images * plan.tile_rows), along = double(ceil_div(plan.tile_columns, int64_t{lanes}));
    return plan.channels_in * rows * (91 + 75 * along) + plan.channels_out * (double(plan.vectors) * 75 + rows * 40);
  }

  double weights() const { return a.made ? 0 : edges / lanes * 80 + fetch(edges * 64); }
};

// Whether that is faster than the definition's own way.
XN_INLINE bool winograd_pays(const Winograd& a, const WinoPlan& plan) {
  const WinoCost cost{a, plan};
  if (cost.edges == 0) return false;
  return cost.products() + cost.transforms() + cost.weights() < cost.direct();
}

constexpr int most_scattered = 64;  // additions to a point, on average

// Zero where another way serves better.
static size_t winograd_scratch(const Winograd& a) {
  if (a.images * a.out_height * a.out_width == 0 || a.height * a.width == 0 || a.graph.num_out == 0) return 0;
  if (a.scatter && (a.graph.b_out % scatter_rows || a.graph.b_in >= 4)) return 0;
  const WinoPlan plan(a);
  // What is scattered is one long sum, whose rounding error would grow with its length.
  const int64_t targets = a.graph.num_in / a.graph.b_in;
  const int64_t additions = int64_t{a.graph.indptr[a.graph.blocks()]} * (a.graph.b_out / scatter_rows);
  if (a.scatter && (plan.units < a.threads || additions > targets * most_scattered)) return 0;
  return a.forced || winograd_pays(a, plan) ? wino_workspace_bytes(a, plan) * static_cast<size_t>(a.threads) : 0;
}

static void winograd(const Winograd& a) {
  const WinoPlan plan(a);
  const size_t bytes = wino_workspace_bytes(a, plan);
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    WinoWorkspace work(arena, a, plan);
    const int64_t total = plan.units * plan.parts;
    int64_t read = -1;
    for (int64_t u = total * thread / threads; u < total * (thread + 1) / threads; ++u) {
      const int64_t part = u % plan.parts;
      const int32_t b_out = a.graph.b_out, blocks = a.graph.blocks();
      const int32_t block = static_cast<int32_t>(blocks * part / plan.parts);
      const int32_t end = static_cast<int32_t>(blocks * (part + 1) / plan.parts);
      if (block == end) continue;
      const WinoUnit unit(a, plan, work, u / plan.parts);
      if (u / plan.parts != read) unit.read();
      read = u / plan.parts;
      if (a.scatter) {
        unit.scatter_all();
        for (int32_t c = 0; c < plan.channels_out; ++c)
          unit.write(work.points + c * plan.most_tiles, plan.channels_out * plan.most_tiles, c);
        continue;
      }
      unit.multiply(block, end);
      for (int32_t r = 0; r < (end - block) * b_out; ++r)
        unit.write(work.points + r * wino_points * plan.most_tiles, plan.most_tiles, block * b_out + r);
    }
  };
  parallel_for_threads(a.threads, body);
}

static void winograd_weights(const float* weight, int64_t edges, bool flip, float* to, int threads) {
  auto body = [&](int thread, int team) {
    wino_weights(weight, edges * thread / team, edges * (thread + 1) / team, flip, to, wino_weight_ld(edges));
  };
  parallel_for_threads(threads, body);
}

}  // namespace xn::XN_ISA
