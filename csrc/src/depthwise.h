// Convolutions in which every output has one input: straight from the image, four rows of the output at a time, which
// share what they read. Vectors that reach over the left or right border drop what they find there; rows above and
// below the image are a row of zeros.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

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

// What tap k of a row multiplies in vector v of the output; with S = 2 in the order of `halve`.
template <int S>
XN_INLINE Vec load_tap(const float* row, int64_t v, int k) {
  if constexpr (S == 1) {
    return load(row + v * lanes + k);
  } else {
    const float* pair = row + v * 2 * lanes + k / 2 * 2;
    return k % 2 ? halve<1>(load(pair), load(pair + lanes)) : halve<0>(load(pair), load(pair + lanes));
  }
}

// What one thread holds.
struct Windows {
  int64_t vectors = 0;       // of a row of the output
  int64_t reach = 0;         // from the first number that is read for a row to behind the last
  int64_t band = 0;          // rows of the output whose input is copied at once, where it cannot be read in place
  const float** rows = nullptr;    // of a channel's input, those above and below the image among them
  int64_t inner = 0, inner_end = 0;  // the vectors that do not reach over the border
  int32_t* lane_masks = nullptr;   // of each of the others: which lanes a column of taps may use
  float* zeros = nullptr;
  float* copied = nullptr;
  float* out = nullptr;            // rows of the output that are not finished

  Windows() = default;
  Windows(Arena& arena, const Depthwise& a) {
    vectors = ceil_div(a.out_width, lanes);
    reach = (vectors - 1) * lanes * a.stride + (a.kernel - 1) / a.stride * a.stride + lanes * a.stride;
    const int64_t fit = most((16 << 10) / 4 / a.width - a.kernel, int64_t{0}) / a.stride / 4 * 4;
    band = least(most(fit, int64_t{4}), a.out_height);
    rows = arena.take<const float*>((a.out_height - 1) * a.stride + a.kernel);
    inner = least(ceil_div(a.padding, lanes * a.stride), vectors);
    // The first vector whose last lane reads beyond the image.
    const int64_t room = a.width + a.padding - a.kernel - (lanes - 1) * a.stride;
    inner_end = most(room < 0 ? 0 : least(room / (lanes * a.stride) + 1, vectors), inner);
    lane_masks = arena.take<int32_t>(vectors * a.kernel * lanes);
    zeros = arena.take<float>(reach);
    copied = arena.take<float>(in_rows(a, band) * a.width + 2 * a.padding + reach);
    out = arena.take<float>(4 * vectors * lanes);
    if (!arena.base) return;
    zero(zeros, reach);
    zero(copied, a.padding);
    for (int64_t v = 0; v < vectors; ++v)
      for (int32_t k = 0; k < a.kernel; ++k)
        for (int i = 0; i < lanes; ++i) {
          const int64_t at = v * lanes + (a.stride == 2 ? halved_lane(i) : i), column = at * a.stride - a.padding + k;
          const bool exists = at < a.out_width && column >= 0 && column < a.width;
          lane_masks[(v * a.kernel + k) * lanes + i] = exists ? -1 : 0;
        }
  }

  // How vector v, which reaches over the border, drops what its taps find there.
  template <int K>
  auto borders(int64_t v) const {
    return [lane = lane_masks + v * K * lanes](Vec in, int k) {
      Mask mask;
      __builtin_memcpy(&mask, lane + k * lanes, sizeof mask);
      return reinterpret_cast<Vec>(reinterpret_cast<Mask>(in) & mask);
    };
  }

  // Whether a channel of the input can be read where it lies: the array ends before what the first and the last would
  // drop.
  bool fits(const Depthwise& a, const float* x) const {
    const float* end = a.x + (a.batch - 1) * a.x_image + a.channels_in * a.height * a.width;
    return x - a.x >= a.padding && end - x >= (a.height - 1) * a.width - a.padding + reach;
  }

  static int64_t in_rows(const Depthwise& a, int64_t rows) { return (rows - 1) * a.stride + a.kernel; }
};

// R rows of the output from the rows of the input that it begins with, vectors from right to left: what is written too
// far to the right is written again afterwards, if it is part of the output.
template <int K, int S, int R>
XN_INLINE void depthwise_rows(const Windows& windows, const float* const* rows, const Vec* w, Vec bias, Vec low, Vec high,
                              float* out, int64_t out_ld) {
  constexpr int N = (R - 1) * S + K;
  const float* x[N];
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) x[j] = rows[j];
  auto vector = [&](int64_t v, auto keep) {
    Vec acc[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[r] = bias;
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j)
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        const Vec in = keep(load_tap<S>(x[j], v, k), k);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          if (j - r * S >= 0 && j - r * S < K) acc[r] += w[(j - r * S) * K + k] * in;
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      store(out + r * out_ld + v * lanes, clamp(S == 2 ? in_order(acc[r]) : acc[r], low, high));
  };
  auto edges = [&](int64_t begin, int64_t end) {
    for (int64_t v = end - 1; v >= begin; --v) vector(v, windows.borders<K>(v));
  };
  edges(windows.inner_end, windows.vectors);
  for (int64_t v = windows.inner_end - 1; v >= windows.inner; --v) vector(v, [](Vec in, int) { return in; });
  edges(0, windows.inner);
}

// `rows` rows of one channel's output, from `windows.rows`. Numbers from `y_end` on must not be touched.
template <int K, int S>
static void depthwise_channel(const Depthwise& a, const Windows& windows, const float* const* in, const float* weight,
                              float bias, int64_t rows, float* y, const float* y_end, const float* residual) {
  const bool clamped = a.act.kind == XN_ACT_CLAMP, direct = !residual && (clamped || a.act.kind == XN_ACT_NONE);
  const float infinity = __builtin_inff();
  const Vec low = splat(direct && clamped ? a.act.low : -infinity);
  const Vec high = splat(direct && clamped ? a.act.high : infinity);
  const int64_t width = a.out_width, ld = windows.vectors * lanes;
  const Vec start = splat(bias);
  Vec w[K * K];
#pragma GCC unroll 25
  for (int t = 0; t < K * K; ++t) w[t] = splat(weight[t]);
  for (int64_t r = 0, step; r < rows; r += step, in += step * S) {
    step = least(rows - r, int64_t{4});
    float* to = y + r * width;
    const bool in_place = direct && y_end - to >= (step - 1) * width + ld;
    float* out = in_place ? to : windows.out;
    const int64_t out_ld = in_place ? width : ld;
    if (step == 4)
      depthwise_rows<K, S, 4>(windows, in, w, start, low, high, out, out_ld);
    else if (step == 3)
      depthwise_rows<K, S, 3>(windows, in, w, start, low, high, out, out_ld);
    else if (step == 2)
      depthwise_rows<K, S, 2>(windows, in, w, start, low, high, out, out_ld);
    else
      depthwise_rows<K, S, 1>(windows, in, w, start, low, high, out, out_ld);
    for (int64_t i = 0; !in_place && i < step; ++i) {
      const float* add = residual ? residual + (r + i) * width : nullptr;
      if (direct)
        copy(to + i * width, out + i * ld, width);
      else
        map_run(to + i * width, out + i * ld, add, width, 1.0f, 0.0f, a.act);
    }
  }
}

template <int K>
static auto find_depthwise(int stride) {
  return stride == 1 ? depthwise_channel<K, 1> : depthwise_channel<K, 2>;
}

XN_INLINE size_t windows_bytes(const Depthwise& a) {
  Arena arena{nullptr, 0};
  Windows count(arena, a);
  return (arena.used + 4095) / 4096 * 4096;
}

static size_t depthwise_scratch(const Depthwise& a) { return windows_bytes(a) * static_cast<size_t>(a.threads); }

// Points `windows.rows` at the input of rows [first, first + rows) of a channel's output, read at `x` or, where it cannot
// be read there, from a copy.
XN_INLINE void find_rows(const Depthwise& a, const Windows& windows, const float* x, int64_t from, bool in_place,
                         int64_t first, int64_t rows) {
  const int64_t top = first * a.stride - a.padding, begin = most(top, int64_t{0});
  const int64_t count = most(least(top + Windows::in_rows(a, rows), a.height) - begin, int64_t{0});
  const float* source = x + begin * a.width;
  if (!in_place) {
    float* to = windows.copied + a.padding;
    if (a.prepare)
      map_run(to, source, nullptr, count * a.width, a.prepare->scale ? a.prepare->scale[from] : 1.0f,
              a.prepare->shift ? a.prepare->shift[from] : 0.0f, a.prepare->act);
    else
      copy(to, source, count * a.width);
    source = to;
  }
  for (int64_t j = 0; j < Windows::in_rows(a, rows); ++j) {
    const bool exists = top + j >= begin && top + j < begin + count;
    windows.rows[j] = exists ? source + (top + j - begin) * a.width - a.padding : windows.zeros;
  }
}

// Rows [first, first + rows) of one channel's output, at `y`; numbers from `y_end` on must not be touched.
static void depthwise_part(const Depthwise& a, const Windows& windows, int64_t image, int64_t c, int64_t first,
                           int64_t rows, float* y, const float* y_end, const float* residual) {
  const auto run = a.kernel == 3 ? find_depthwise<3>(a.stride) : find_depthwise<5>(a.stride);
  const int64_t from = a.index ? a.index[c] : c, pixels = a.width * a.height;
  const float* x = a.x + image * a.x_image + from * pixels;
  const bool in_place = !a.prepare && windows.fits(a, x);
  const int64_t end = first + rows, band = in_place ? rows : windows.band;
  for (; first < end; first += band) {
    rows = least(band, end - first);
    find_rows(a, windows, x, from, in_place, first, rows);
    run(a, windows, windows.rows, a.weight + c * a.kernel * a.kernel, a.bias ? a.bias[c] : 0.0f, rows, y, y_end,
        residual);
    y += rows * a.out_width;
    if (residual) residual += rows * a.out_width;
  }
}

static void depthwise(const Depthwise& a) {
  const int64_t planes = int64_t{a.batch} * a.channels, pixels = a.out_width * a.out_height;
  const size_t bytes = windows_bytes(a);
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    const Windows windows(arena, a);
    const int64_t end = planes * (thread + 1) / threads;
    for (int64_t p = planes * thread / threads; p < end; ++p) {
      const int64_t image = p / a.channels, c = p % a.channels;
      float* y = a.y + image * a.y_image + c * pixels;
      const float* y_end = y + least(a.channels - c, end - p) * pixels;  // of what this thread writes from here on
      depthwise_part(a, windows, image, c, 0, a.out_height, y, y_end,
                     a.residual ? a.residual + image * a.residual_image + c * pixels : nullptr);
    }
  };
  parallel_for_threads(static_cast<int>(least(planes, int64_t{a.threads})), body);
}

}  // namespace xn::XN_ISA
