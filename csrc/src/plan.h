// How a forward pass, or a gradient to the input, is cut up: tiles of pixels, strips, stretches of inputs, parts.
#pragma once

#include "pack.h"
#include "rows.h"
#include "share.h"

namespace xn::XN_ISA {

// How many base edges are added up before they are added to the result. A long sum is made of shorter ones, or its
// rounding error would grow with its length. Dense convolutions with several taps err more, which allows longer ones.
static int32_t run_length(const Rows& graph, int32_t num_taps) {
  const int64_t edges = ceil_div(graph.indptr[graph.blocks()], graph.blocks()), terms = most(1, graph.b_in * num_taps);
  const int64_t longest = num_taps == 1 ? 36 : graph.b_out == 1 ? 48 : 72;
  const int64_t most_edges = most(least(most(edges * terms / 4, int64_t{36}), longest) / terms, int64_t{1});
  const int64_t runs = most(ceil_div(edges, most_edges), int64_t{1});
  return static_cast<int32_t>(most(ceil_div(edges, runs), int64_t{1}));
}

// How an Apply is cut up: `tiles` of `tile` flat positions for each image, each tile's groups in `parts` parts, each
// part's inputs in `stretches`.
struct Plan {
  Groups groups;
  int64_t tile, tiles, units, parts, group_count;
  int64_t length;   // flat positions of an image
  int64_t strips;   // of `strip` vectors, the last few one shorter
  int64_t strip;
  int64_t step;     // positions between tiles of whole rows; 0: tiles of strips
  int32_t batch;    // rows at a time: whole blocks, or one group of a large block
  int32_t stretch;  // base inputs that the first-level cache holds
  int32_t stretches;
  int32_t run;      // base edges in a sum, at most
  bool by_feature;  // features lie side by side in the target
  bool pointwise;
  bool shares;      // rows that stand alone go by the graph's table of turns
  bool streams;     // source and target come from beyond the second-level cache, and requests for them help
  bool in_place;    // the source is as good as a panel

  // Of pixels, beside four rows: 16 registers hold no more, and with 32 no more would fit into the first-level cache.
  static constexpr int64_t shared_vectors = 3;

  static int32_t widest_group(const Rows& graph) {
    return graph.b_out >= 8 && wide_registers ? 8 : graph.b_out >= 4 ? 4 : graph.b_out >= 2 ? 2 : 1;
  }

  explicit Plan(const Apply& a) : groups(a.graph.b_out, widest_group(a.graph)) {
    const Layout& layout = *a.layout;
    by_feature = layout.by_feature;
    pointwise = layout.pointwise() && a.taps == 1;
    // With 32 registers tiles are long: the hardware foresees them, and requests of ours stand in its way.
    streams = !wide_registers && (layout.source.total + layout.target.total) * 4 > 768 << 10;
    length = layout.length;
    shares = can_share(a);
    in_place = pointwise && !a.prepare && !a.before && !shares && reads_in_place(a);
    strip = shared_rows() ? shared_vectors : 1;
    strips = ceil_div(length, strip * lanes);
    tiles = ceil_div(length, least(tile_length(a), strips * strip * lanes));
    tile = ceil_div(strips, tiles) * strip * lanes;
    if (!shared_rows()) tiles = ceil_div(length, tile);
    step = 0;
    if (a.before) take_rows(a);
    units = tiles * layout.images;
    group_count = int64_t{a.graph.blocks()} * groups.per_block;
    parts = parts_per_tile(units, a.threads);
    stretch = stretch_length(a);
    stretches = static_cast<int32_t>(ceil_div(a.graph.num_in / a.graph.b_in, stretch));
    run = run_length(a.graph, layout.num_taps());
    batch = stretches > 1 ? a.graph.num_out : shared_rows() && tile <= 96 ? 64 : 16;
  }

  // Four rows at a time, in tiles of a few strips of three vectors of pixels: with 16 registers, and where rows that stand
  // alone share what they read.
  bool shared_rows() const { return shares || (!wide_registers && groups.widest >= 4); }

  // To bring the weights into the order of the turns takes as long as what a few pixels gain; to copy pixels that
  // could be read in place from memory, as long as what some edges gain.
  bool can_share(const Apply& a) const {
    if (!pointwise || a.before || !a.graph.turns || a.graph.num_in >= 1 << 24) return false;
    const bool far = (a.layout->source.total + a.layout->target.total) * 4 > 4 << 20;
    const int64_t edges = a.graph.indptr[a.graph.num_out];
    return length * a.layout->images >= 48 && edges >= int64_t{a.graph.num_out} * (far ? 48 : 24);
  }

  // Where tile t of an image begins. A strip of one vector would cost as much as one of two, so the last few strips
  // share what is missing to a whole number of them.
  int64_t begin(int64_t t) const {
    if (step) return t * step;
    if (!shared_rows()) return t * tile;
    const int64_t s = strips * t / tiles, vectors = ceil_div(length, int64_t{lanes});
    const int64_t whole = strips - (strips * strip - vectors);
    return (s * strip - most(s - most(whole, int64_t{0}), int64_t{0})) * lanes;
  }
  int64_t length_of(int64_t t) const { return least(begin(t + 1), length) - begin(t); }

  // Whole rows, four at a time, which share what they read: twice the first-level cache, or half of these rows would be
  // borders that are read again.
  void take_rows(const Apply& a) {
    const int64_t row = a.before->out_width, height = a.before->out_height;
    const int64_t fit = (56 << 10) / 4 / a.graph.num_in / row;
    const int64_t rows = least(most(fit > 4 ? fit / 4 * 4 : fit, ceil_div(int64_t{2} * lanes, row)), height);
    tiles = ceil_div(height, rows);
    step = ceil_div(height, tiles) * row;
    tiles = ceil_div(height * row, step);
    tile = round_up(step + round_up(row, lanes) - row, lanes);  // the last row may be written too far
  }

  // Channels can be read where they are, unless loads bind and are not aligned (a vector of 16 then lies in two lines of
  // the cache), or the channels lie so that many of them compete for few places in the cache.
  bool reads_in_place(const Apply& a) const {
    const Layout& layout = *a.layout;
    const bool aligned = layout.source.channel % 16 == 0 && reinterpret_cast<uintptr_t>(a.source) % 64 == 0;
    // A copy costs as much as about two edges; what comes from memory is read 1.7 times as fast by copying.
    const int64_t edges = int64_t{a.graph.indptr[a.graph.blocks()]} * a.graph.b_in * groups.per_block;
    const bool far = layout.source.total * 4 > 4 << 20;
    if (shared_rows() && (far || edges >= int64_t{8} * a.graph.num_in)) return false;
    if (wide_registers && !aligned && edges >= int64_t{4} * a.graph.num_in) return false;
    return layout.same_as_source() && layout.source.channel % 128 != 0 && (aligned || groups.widest >= 4);
  }

  // Where every row stands alone it reads one number for each multiplication, from the first-level cache if it can.
  // Where several rows or several taps share what was read, the second level will do.
  int64_t tile_length(const Apply& a) const {
    const Layout& layout = *a.layout;
    const int64_t channel_bytes = int64_t{4} * a.graph.num_in * layout.num_planes();
    if (shared_rows()) {
      // The first-level cache; or the part of the second that is left by the weights, which pass by once a tile, and more
      // of it rather than to pack every pixel for several tiles.
      const int64_t unit = strip * lanes;
      auto fit = [&](int64_t kib) { return (kib << 10) / most(channel_bytes, int64_t{1}) - layout.halo; };
      const bool strided = layout.num_planes() > 3;
      const int64_t first_level = wide_registers ? 40 : 24;
      const int64_t pixels = pointwise ? fit(first_level) : strided ? fit(300) : most(fit(200), least(fit(300), 2 * layout.halo));
      return most(pixels, unit) / unit * unit;
    }
    if (pointwise) {
      if (is_stretched(a)) return int64_t{most_vectors(1)} * lanes;
      // Twice the first-level cache: shorter tiles would cost more in loops than they save.
      if (!wide_registers && groups.widest == 1 && a.graph.num_in > 96 && a.graph.num_in <= 256) return 6 * lanes;
      const int64_t fit = (groups.widest >= 4 ? (wide_registers ? 384 : 192) << 10 : 24 << 10) / channel_bytes / lanes;
      const bool wide = channel_bytes * 64 > 768 << 10;
      const int64_t low = (groups.widest == 1 && !wide ? 64 : 32) / lanes;
      const int64_t high = groups.widest == 1 ? 8 : (wide_registers && groups.widest >= 4 ? 384 : 96) / lanes;
      return least(most(fit, low), high) * lanes;
    }
    if (is_stretched(a)) return int64_t{most_vectors(1)} * lanes;
    const int64_t fit = ((384 << 10) / most(channel_bytes, int64_t{1}) - layout.halo) / lanes;
    return most(fit, int64_t{most_vectors(groups.widest)}) * lanes;
  }

  // The inner loops read the second-level cache faster than it delivers. Where the edges are many enough, they take
  // those of a stretch of inputs at a time; with few edges, or so many rows that these no longer stay in the cache
  // between two stretches, that costs more than it saves.
  bool is_stretched(const Apply& a) const {
    if (wide_registers || shared_rows() || a.graph.num_in > 1024 || a.graph.num_out > 1024) return false;
    if (!pointwise) return a.graph.num_in > 128;
    const int64_t edges = int64_t{a.graph.indptr[a.graph.blocks()]} * a.graph.b_in;
    return groups.widest == 1 && a.graph.num_in > 256 && edges * 4 >= int64_t{a.graph.blocks()} * a.graph.num_in;
  }

  int32_t stretch_length(const Apply& a) const {
    return most(is_stretched(a) ? 128 / a.graph.b_in : a.graph.num_in / a.graph.b_in, 1);
  }

  // Parts keep blocks whole where the blocks are small.
  int64_t first_group(int64_t part) const {
    const int64_t unit = shares ? turn_rows : groups.b_out <= batch ? groups.per_block : 1;
    if (part == parts) return group_count;
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

}  // namespace xn::XN_ISA
