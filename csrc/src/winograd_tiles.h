// The three transforms of F(2x2, 3x3), Winograd's minimal algorithm for 3x3 convolutions of stride 1 (Lavin and Gray 2016):
// 2x2 pixels of the result are sums of 4x4 products where the definition takes 36.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

constexpr int wino_points = 16;  // products of a tile, 4 * row + column

// The first or second half of a[0], b[0], a[1], b[1] ..
XN_INLINE void zip(Vec a, Vec b, Vec& first, Vec& second) {
  Mask low, high, left, right;
  for (int i = 0; i < lanes; ++i) {
    low[i] = i / 4 * 4 + i % 4 / 2 + (i & 1 ? lanes : 0), high[i] = low[i] + 2;
    const int part = i / 4, parts = lanes / 4;  // of 128 bits: those of `low` and `high` by turns
    left[i] = part / 2 * 4 + i % 4 + (part & 1 ? lanes : 0), right[i] = left[i] + parts / 2 * 4;
  }
  first = __builtin_shuffle(a, b, low), second = __builtin_shuffle(a, b, high);
  if (lanes == 4) return;
  const Vec l = first, h = second;
  first = __builtin_shuffle(l, h, left), second = __builtin_shuffle(l, h, right);
}

// Tiles side by side in one image: `count` of them from tile (row, column) on, `at` in their order.
struct TileRun {
  int64_t image, row, column;
  int64_t at, count;
};

// The weights of edges [begin, end), (edges, 9), as points: (16, ld). `flip`: of the transposed convolution.
static void wino_weights(const float* weight, int64_t begin, int64_t end, bool flip, float* to, int64_t ld) {
  auto transform = [&](const Vec* g, auto&& put) {
    Vec columns[4][3];
#pragma GCC unroll 4
    for (int c = 0; c < 3; ++c) {
      const Vec a = g[c], b = g[3 + c], d = g[6 + c], half = 0.5f * (a + d);
      columns[0][c] = a, columns[1][c] = half + 0.5f * b, columns[2][c] = half - 0.5f * b, columns[3][c] = d;
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const Vec a = columns[r][0], b = columns[r][1], d = columns[r][2], half = 0.5f * (a + d);
      put(4 * r, a), put(4 * r + 1, half + 0.5f * b), put(4 * r + 2, half - 0.5f * b), put(4 * r + 3, d);
    }
  };
  constexpr int whole = lanes >= 9 ? 9 : 8;  // taps that come by whole vectors
  int64_t e = begin;
  // A vector of the last edge must not reach beyond the array.
  for (; e + lanes + (lanes > 9) <= end; e += lanes) {
    Vec g[9];
#pragma GCC unroll 4
    for (int first = 0; first < whole; first += lanes) {
      Vec v[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) v[i] = load(weight + (e + i) * 9 + first);
      transpose_registers(v);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i)
        if (first + i < whole) g[flip ? 8 - first - i : first + i] = v[i];
    }
    if (whole < 9)
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) g[flip ? 0 : 8][i] = weight[(e + i) * 9 + 8];
    transform(g, [&](int point, Vec v) { store(to + point * ld + e, v); });
  }
  for (; e < end; ++e) {
    Vec g[9];
    for (int t = 0; t < 9; ++t) g[flip ? 8 - t : t] = splat(weight[e * 9 + t]);
    transform(g, [&](int point, Vec v) { to[point * ld + e] = v[0]; });
  }
}

// One channel's rows of pixels to points: reads the source by whole vectors where that stays within it.
struct WinoInput {
  int64_t height, width, above, before;  // the image, and its padding
  const float* end;                      // of the source
  float* lines;                          // (4, 2, line_ld): combined rows, their even columns and their odd ones
  float* mapped;                         // (4, 2 * line_ld): rows, as prepared
  const float* zeros;                    // a row of the image
  int64_t line_ld;

  static Vec load_first(const float* from, int64_t count) {
    float rest[lanes] = {};
    if (count > 0) copy_rest(rest, from, least(count, int64_t{lanes} - 1));
    return count >= lanes ? load(from) : load(rest);
  }

  // B^T times `count` numbers of four rows, to columns `skipped` and on. `rough`: by whole vectors, two at a time.
  void combine(const float* const* given, int64_t count, int64_t skipped, bool rough) const {
    const float* rows[4] = {given[0], given[1], given[2], given[3]};
    const int64_t ld = line_ld;
    // What lies at even places of the rows goes to odd columns if an odd number of columns are skipped.
    float* even = lines + (skipped & 1) * ld + skipped / 2;
    float* odd = lines + (skipped & 1 ? 0 : ld) + (skipped + 1) / 2;
    auto put = [&](int64_t at, auto&& get) {
      Vec u[4][2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const Vec a = get(0, half), b = get(1, half), c = get(2, half), d = get(3, half);
        u[0][half] = a - c, u[1][half] = b + c, u[2][half] = c - b, u[3][half] = b - d;
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        store(even + 2 * i * ld + at / 2, every_other<0>(u[i][0], u[i][1]));
        store(odd + 2 * i * ld + at / 2, every_other<1>(u[i][0], u[i][1]));
      }
    };
    int64_t at = 0;
    for (; at + (rough ? 1 : 2 * lanes) <= count; at += 2 * lanes)
      put(at, [&](int i, int half) { return load(rows[i] + at + half * lanes); });
    if (at < count)
      put(at, [&](int i, int half) { return load_first(rows[i] + at + half * lanes, count - at - half * lanes); });
  }

  // Writes point k of the run's tiles to `to + k * ld + run.at` and up to a vector beyond.
  template <typename F>
  void transform(const float* channel, const TileRun& run, float* to, int64_t ld, bool prepares, F prepare) const {
    const int64_t top = 2 * run.row - above, left = 2 * run.column - before, span = 2 * run.count + 2;
    const int64_t from = most(left, int64_t{0}), count = most(least(left + span, width) - from, int64_t{0});
    const int64_t skipped = least(from - left, span);
    const float* rows[4];
    bool rough = true;  // zeros and mapped rows have room for whole vectors
    for (int i = 0; i < 4; ++i) {
      rows[i] = zeros;
      if (top + i < 0 || top + i >= height || count == 0) continue;
      rows[i] = channel + (top + i) * width + from;
      if (!prepares) {
        rough = rough && end - rows[i] >= round_up(count, 2 * lanes);
        continue;
      }
      float* out = mapped + i * 2 * line_ld;
      int64_t at = 0;
      for (; at + lanes <= count; at += lanes) store(out + at, prepare(load(rows[i] + at)));
      if (at < count) store(out + at, prepare(load_first(rows[i] + at, count - at)));
      rows[i] = out;
    }
    float* const line = lines;
    const int64_t line_step = line_ld, filled = skipped + count;
    if (skipped)
      for (int i = 0; i < 8; ++i) store(line + i * line_step, Vec{});
    if (count) combine(rows, count, skipped, rough);
    for (int i = 0; filled < span && i < 4; ++i) {  // padding to the right: at most some columns, but whole images of 1
      zero_whole_vectors(line + 2 * i * line_step + (filled + 1) / 2, (span - filled) / 2 + 1);
      zero_whole_vectors(line + (2 * i + 1) * line_step + filled / 2, (span - filled) / 2 + 1);
    }
#pragma GCC unroll 1
    for (int i = 0; i < 4; ++i) {
      const float* even = line + 2 * i * line_step;
      const float* odd = even + line_step;
      float* out = to + 4 * i * ld + run.at;
      for (int64_t k = 0; k < run.count; k += lanes) {
        const Vec a = load(even + k), b = load(odd + k), c = load(even + k + 1), d = load(odd + k + 1);
        store(out + k, a - c), store(out + ld + k, b + c);
        store(out + 2 * ld + k, c - b), store(out + 3 * ld + k, b - d);
      }
    }
  }
};

// Points of `count` tiles, (16, ld), to their pixels: (2, 2 * count), rows `line_ld` apart, by whole vectors.
XN_INLINE void wino_output(const float* points, int64_t ld, int64_t count, Vec bias, float* to, int64_t line_ld) {
  for (int64_t k = 0; k < count; k += lanes) {
    Vec left[4], right[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* p = points + 4 * i * ld + k;
      const Vec b = load(p + ld), c = load(p + 2 * ld);
      left[i] = load(p) + (b + c), right[i] = (b - c) - load(p + 3 * ld);
    }
    auto put = [&](float* row, Vec l, Vec r) {
      Vec first, second;
      zip(l, r, first, second);
      store(row, first), store(row + lanes, second);
    };
    put(to + 2 * k, left[0] + (left[1] + left[2]) + bias, right[0] + (right[1] + right[2]) + bias);
    put(to + line_ld + 2 * k, (left[1] - left[2]) - left[3] + bias, (right[1] - right[2]) - right[3] + bias);
  }
}

}  // namespace xn::XN_ISA
