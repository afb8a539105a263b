// Convolutions in which every output has one input: a band of an image at a time, from a padded copy of it in the
// first-level cache. Four rows of the output share what they read.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

struct Band {
  int64_t pitch;    // of the padded rows
  int64_t half;     // stride 2: the odd columns lie behind the even ones
  int64_t rows;     // of the output
  int64_t vectors;  // of a row of the output
  float* padded;
  float* prepared;  // one row of the input
  float* out;       // rows of the output that are not finished

  Band(Arena& arena, const Depthwise& a) {
    vectors = ceil_div(a.out_width, lanes);
    // Whole vectors are written from the last column on, and read from every column.
    half = round_up(most(vectors * lanes + a.kernel, (a.width + a.padding) / a.stride + 1) + 2 * lanes, lanes);
    pitch = half * a.stride;
    const int64_t fit = (16 << 10) / 4 / pitch - a.kernel;
    rows = least(most(fit / a.stride / 4 * 4, int64_t{4}), int64_t{a.out_height});
    padded = arena.take<float>(pitch * in_rows(a, rows));
    prepared = arena.take<float>(a.prepare ? round_up(a.width, lanes) + 2 * lanes : 0);
    out = arena.take<float>(4 * vectors * lanes);
  }

  static int64_t in_rows(const Depthwise& a, int64_t rows) { return (rows - 1) * a.stride + a.kernel; }
};

// A row of the input between the zeros that are there already. `room`: so many numbers can be read from `x`.
XN_INLINE void pad_row(const Depthwise& a, const Band& band, const float* x, int64_t room, float* to) {
  const int64_t step = a.stride * lanes;
  Mask lane;
  for (int i = 0; i < lanes; ++i) lane[i] = i;
  float* even = to + (a.stride == 1 ? a.padding : a.padding / 2 + a.padding % 2 * band.half);
  float* odd = to + (a.padding + 1) / 2 + (a.padding + 1) % 2 * band.half;
  for (int64_t i = 0; i < a.width; i += step) {
    float last[2 * lanes] = {};
    const float* from = x + i;
    if (i + step > room) {  // at the very end of the array
      copy(last, from, a.width - i);
      from = last;
    }
    const int32_t rest = static_cast<int32_t>(least(a.width - i, step));
    if (a.stride == 1) {
      store(even + i, rest == lanes ? load(from) : select(lane < rest, load(from), Vec{}));
      continue;
    }
    const Vec first = select(lane < rest, load(from), Vec{});
    const Vec second = select(lane + lanes < rest, load(from + lanes), Vec{});
    Mask evens;
    for (int k = 0; k < lanes; ++k) evens[k] = 2 * k;
    store(even + i / 2, __builtin_shuffle(first, second, evens));
    store(odd + i / 2, __builtin_shuffle(first, second, evens + 1));
  }
}

// R rows of the output from the padded rows that begin at `padded`. Only `width` numbers of a row are written.
template <int K, int S, int R>
XN_INLINE void depthwise_rows(const Band& band, const float* padded, const float* weight, float bias, Vec low, Vec high,
                              float* out, int64_t out_ld, int64_t width) {
  for (int64_t w = 0; w < width; w += lanes) {
    Vec acc[R];
    for (int r = 0; r < R; ++r) acc[r] = splat(bias);
#pragma GCC unroll 16
    for (int j = 0; j < (R - 1) * S + K; ++j)
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        const Vec v = load(padded + j * band.pitch + w + (S == 1 ? k : k / 2 + k % 2 * band.half));
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          if (j - r * S >= 0 && j - r * S < K) acc[r] += splat(weight[(j - r * S) * K + k]) * v;
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      acc[r] = clamp(acc[r], low, high);
      float* to = out + r * out_ld + w;
      if (w + lanes <= width) {
        store(to, acc[r]);
      } else {
        float last[lanes];
        store(last, acc[r]);
        copy_rest(to, last, width - w);
      }
    }
  }
}

// `rows` rows of one channel's output, from the padded band.
template <int K, int S>
static void depthwise_band(const Depthwise& a, const Band& band, const float* weight, float bias, int64_t rows, float* y,
                           const float* residual) {
  const bool clamped = a.act.kind == XN_ACT_CLAMP, direct = !residual && (clamped || a.act.kind == XN_ACT_NONE);
  const float infinity = __builtin_inff();
  const Vec low = splat(direct && clamped ? a.act.low : -infinity);
  const Vec high = splat(direct && clamped ? a.act.high : infinity);
  const int64_t width = a.out_width, out_ld = direct ? width : band.vectors * lanes;
  for (int64_t r = 0, step; r < rows; r += step) {
    step = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
    const float* from = band.padded + r * S * band.pitch;
    float* out = direct ? y + r * width : band.out;
    const int64_t written = direct ? width : out_ld;
    if (step == 4)
      depthwise_rows<K, S, 4>(band, from, weight, bias, low, high, out, out_ld, written);
    else if (step == 2)
      depthwise_rows<K, S, 2>(band, from, weight, bias, low, high, out, out_ld, written);
    else
      depthwise_rows<K, S, 1>(band, from, weight, bias, low, high, out, out_ld, written);
    for (int64_t i = r; !direct && i < r + step; ++i)
      map_run(y + i * width, band.out + (i - r) * out_ld, residual ? residual + i * width : nullptr, width, 1.0f, 0.0f,
              a.act);
  }
}

template <int K>
static auto find_depthwise(int stride) {
  return stride == 1 ? depthwise_band<K, 1> : depthwise_band<K, 2>;
}

XN_INLINE size_t band_bytes(const Depthwise& a) {
  Arena arena{nullptr, 0};
  Band count(arena, a);
  return (arena.used + 4095) / 4096 * 4096;
}

static size_t depthwise_scratch(const Depthwise& a) { return band_bytes(a) * static_cast<size_t>(a.threads); }

static void depthwise(const Depthwise& a) {
  const int64_t planes = int64_t{a.batch} * a.channels, pixels = int64_t{a.width} * a.height;
  const int64_t pixels_out = int64_t{a.out_width} * a.out_height;
  const auto run = a.kernel == 3 ? find_depthwise<3>(a.stride) : find_depthwise<5>(a.stride);
  const float* x_end = a.x + (a.batch - 1) * a.x_image + a.channels_in * pixels;
  const size_t bytes = band_bytes(a);
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    const Band band(arena, a);
    zero(band.padded, band.pitch * Band::in_rows(a, band.rows));
    for (int64_t p = planes * thread / threads; p < planes * (thread + 1) / threads; ++p) {
      const int64_t image = p / a.channels, c = p % a.channels, from = a.index[c];
      const float* x = a.x + image * a.x_image + from * pixels;
      const float* residual = a.residual ? a.residual + image * a.residual_image + c * pixels_out : nullptr;
      for (int64_t first = 0; first < a.out_height; first += band.rows) {
        const int64_t rows = least(band.rows, a.out_height - first);
        for (int64_t j = 0; j < Band::in_rows(a, rows); ++j) {
          const int64_t h = first * a.stride - a.padding + j;
          float* to = band.padded + j * band.pitch;
          if (h < 0 || h >= a.height) {
            zero(to, band.pitch);
          } else if (a.prepare) {
            map_run(band.prepared, x + h * a.width, nullptr, a.width, a.prepare->scale ? a.prepare->scale[from] : 1.0f,
                    a.prepare->shift ? a.prepare->shift[from] : 0.0f, a.prepare->act);
            pad_row(a, band, band.prepared, a.width + 2 * lanes, to);
          } else {
            pad_row(a, band, x + h * a.width, x_end - (x + h * a.width), to);
          }
        }
        run(a, band, a.weight + c * a.kernel * a.kernel, a.bias ? a.bias[c] : 0.0f, rows,
            a.y + image * a.y_image + c * pixels_out + first * a.out_width,
            residual ? residual + first * a.out_width : nullptr);
      }
    }
  };
  parallel_for_threads(static_cast<int>(least(planes, int64_t{a.threads})), body);
}

}  // namespace xn::XN_ISA
