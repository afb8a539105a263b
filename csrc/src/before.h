// A depthwise convolution before a 1x1 one, computed where its result would be copied from: tile by tile, into the
// panel. The image between the two is never stored.
#pragma once

#include "plan.h"

namespace xn::XN_ISA {

// One vector of a tile: its place in a channel of the panel, the place of its first tap in a channel of the source,
// and which lanes each column of taps may use, or null for all.
struct Piece {
  int64_t at, from;
  const int32_t* columns;
};

// Every other number of two vectors, from `odd` on, pair by pair in an order that costs one instruction.
template <int odd>
XN_INLINE Vec halve(Vec a, Vec b) {
  Mask mask;
  for (int i = 0; i < lanes; ++i) mask[i] = (i % 4 < 2 ? 0 : lanes) + i / 4 * 4 + i % 2 * 2 + odd;
  return __builtin_shuffle(a, b, mask);
}

// Which number of the halved run lies in lane i, and the run put back in order.
XN_INLINE int halved_lane(int i) { return (i % 4 < 2 ? 0 : lanes / 2) + i / 4 * 2 + i % 2; }
XN_INLINE Vec in_order(Vec v) {
  Mask mask;
  for (int i = 0; i < lanes; ++i) mask[halved_lane(i)] = i;
  return __builtin_shuffle(v, mask);
}

// The pieces of one channel, whose pixels lie at `from` with rows of `pitch`.
template <int K, int S>
static void depthwise_pieces(const Piece* pieces, int64_t count, const float* from, int64_t pitch, const float* weight,
                             float bias, Vec low, Vec high, float* out) {
  Vec w[K * K];
#pragma GCC unroll 25
  for (int t = 0; t < K * K; ++t) w[t] = splat(weight[t]);
  const Vec start = splat(bias);
  for (int64_t i = 0; i < count; ++i) {
    const float* x = from + pieces[i].from;
    Vec sums[K];  // of a column of taps
#pragma GCC unroll 5
    for (int j = 0; j < K; ++j)
#pragma GCC unroll 5
      for (int k = 0; k < K; ++k) {
        Vec v;
        if constexpr (S == 1) {
          v = load(x + j * pitch + k);
        } else {
          const float* pair = x + j * pitch + k / 2 * 2;
          v = k % 2 ? halve<1>(load(pair), load(pair + lanes)) : halve<0>(load(pair), load(pair + lanes));
        }
        sums[k] = j ? sums[k] + w[j * K + k] * v : w[j * K + k] * v;
      }
    if (pieces[i].columns) {
#pragma GCC unroll 5
      for (int k = 0; k < K; ++k) {
        Mask lane;
        __builtin_memcpy(&lane, pieces[i].columns + k * lanes, sizeof lane);
        sums[k] = reinterpret_cast<Vec>(reinterpret_cast<Mask>(sums[k]) & lane);
      }
    }
    Vec sum = start;
#pragma GCC unroll 5
    for (int k = 0; k < K; ++k) sum += sums[k];
    if constexpr (S == 2) sum = in_order(sum);
    store(out + pieces[i].at, clamp(sum, low, high));
  }
}

// What one thread holds.
struct DepthwiseBefore {
  Piece* pieces;
  int32_t* columns;
  float* copies;  // of channels whose tile meets the border of the image, zeros beyond it
  int64_t span;   // of a copy, at most

  DepthwiseBefore(Arena& arena, const Apply& a, const Plan& plan) : pieces(nullptr), columns(nullptr), copies(nullptr), span(0) {
    if (!a.before) return;
    const Before& b = *a.before;
    const int64_t most_rows = least((plan.tile - 1) / b.out_width + 2, b.out_height);
    const int64_t most_pieces = plan.tile / lanes + most_rows + 1;
    span = ((most_rows - 1) * b.stride + b.kernel) * b.width + 2 * b.padding + 2 * lanes * b.stride;
    span = round_up(span + 2 * lanes, lanes);
    pieces = arena.take<Piece>(most_pieces);
    columns = arena.take<int32_t>(most_pieces * b.kernel * lanes);
    copies = arena.take<float>(span * copied_at_once());
  }

  // A copy is read a while after it was written: loads that straddle fresh stores wait for them.
  int64_t copied_at_once() const { return most(least((8 << 10) / 4 / span, int64_t{8}), int64_t{1}); }

  // The pieces of flat positions [begin, begin + count) of the result.
  int64_t cut(const Before& b, int64_t begin, int64_t count) const {
    const bool flat = b.stride == 1 && b.out_width == b.width;  // a vector may go on in the next row
    int64_t pieces_made = 0;
    int32_t* mask = columns;
    for (int64_t at = 0; at < count;) {
      const int64_t row = (begin + at) / b.out_width, column = (begin + at) % b.out_width;
      const int64_t left = flat ? count - at : least(count - at, b.out_width - column);
      const int64_t first = column * b.stride - b.padding, last = first + (lanes - 1) * b.stride + b.kernel - 1;
      Piece& piece = pieces[pieces_made++];
      piece = {at, (row * b.stride - b.padding) * b.width + first, nullptr};
      if (first < 0 || last >= b.width) {
        piece.columns = mask;
        for (int32_t k = 0; k < b.kernel; ++k)
          for (int i = 0; i < lanes; ++i) {
            const int lane = b.stride == 2 ? halved_lane(i) : i;
            const int64_t c = (flat ? (column + lane) % b.width - b.padding : first + lane * b.stride) + k;
            *mask++ = c >= 0 && c < b.width ? -1 : 0;
          }
      }
      at += least(left, int64_t{lanes});
    }
    return pieces_made;
  }

  // Channels [first, first + channels) of flat positions [begin, begin + count) of an image, into the panel.
  void pack(const Panel& panel, const Apply& a, int32_t first, int32_t channels, int64_t image, int64_t begin,
            int64_t count) const {
    const Before& b = *a.before;
    const int64_t made = cut(b, begin, count), pixels = b.height * b.width;
    int64_t low = pieces[0].from, high = low;
    for (int64_t i = 0; i < made; ++i) low = least(low, pieces[i].from), high = most(high, pieces[i].from);
    high += (b.kernel - 1) * (b.width + 1) + b.stride * lanes;
    // Rows above and below the image are zeros.
    const bool inner = begin / b.out_width * b.stride >= b.padding &&
                       (begin + count - 1) / b.out_width * b.stride - b.padding + b.kernel <= b.height;
    const auto run = b.kernel == 3 ? (b.stride == 1 ? depthwise_pieces<3, 1> : depthwise_pieces<3, 2>)
                                   : (b.stride == 1 ? depthwise_pieces<5, 1> : depthwise_pieces<5, 2>);
    const float infinity = __builtin_inff();
    const bool clamped = b.act.kind == XN_ACT_CLAMP, mapped = b.act.kind != XN_ACT_NONE && !clamped;
    const Vec least_value = splat(clamped ? b.act.low : -infinity), most_value = splat(clamped ? b.act.high : infinity);
    const float* x_end = a.source + b.total;
    const int64_t at_once = copied_at_once();
    for (int32_t c = first; c < first + channels; c += static_cast<int32_t>(at_once)) {
      const int32_t until = static_cast<int32_t>(least(c + at_once, int64_t{first + channels}));
      auto channel = [&](int32_t i) { return a.source + image * b.image + i * pixels; };
      auto direct = [&](const float* x) { return inner && x - a.source >= -low && x_end - x >= high; };
      for (int32_t i = c; i < until; ++i)
        if (const float* x = channel(i); !direct(x)) copy_channel(copies + (i - c) * span, x, pixels, low, high, x_end);
      for (int32_t i = c; i < until; ++i) {
        const float* x = channel(i);
        float* out = panel.own + (i - first) * panel.plane_ld;
        run(pieces, made, direct(x) ? x : copies + (i - c) * span - low, b.width, b.weight + int64_t{i} * b.kernel * b.kernel,
            b.bias ? b.bias[i] : 0.0f, least_value, most_value, out);
        if (mapped) map_run(out, out, nullptr, round_up(count, lanes), 1.0f, 0.0f, b.act);
      }
    }
  }

  // Places [low, high) of a channel, some of which are not in it, to `to`.
  static void copy_channel(float* to, const float* x, int64_t pixels, int64_t low, int64_t high, const float* x_end) {
    const int64_t begin = least(most(low, int64_t{0}), pixels), end = most(least(high, pixels), begin);
    const int64_t before = least(begin - low, high - low), after = least(high - end, high - low);
    zero_whole_vectors(to, before);
    if (x_end - (x + end) >= lanes)
      copy_whole_vectors(to + before, x + begin, end - begin);
    else
      copy(to + before, x + begin, end - begin);
    zero_whole_vectors(to + (high - low) - after, after);
  }
};

}  // namespace xn::XN_ISA
