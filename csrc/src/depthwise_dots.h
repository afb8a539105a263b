// The gradient to the weight of convolutions in which every output has one input: all taps of a channel at a time, each
// the product of the gradient with the image shifted, whose rows serve several taps while they are close.
#pragma once

#include "depthwise.h"

namespace xn::XN_ISA {

// So many rows of taps have their sums in registers.
template <int K>
constexpr int tap_rows = K * K <= accumulators + 1 ? K : 1;

// Where lane i's number of a run of `lanes` goes when every other number of two vectors was picked by `halve`.
XN_INLINE Vec as_halved(Vec v) {
  Mask mask;
  for (int i = 0; i < lanes; ++i) mask[i] = halved_lane(i);
  return __builtin_shuffle(v, mask);
}

// The first numbers at `p`, as many as `mask` says, and zeros; those from `end` on must not be read.
XN_INLINE Vec load_some(const float* p, Mask mask, int64_t count, const float* end) {
  if (end - p >= lanes) return reinterpret_cast<Vec>(reinterpret_cast<Mask>(load(p)) & mask);
  float some[lanes] = {};
  copy_rest(some, p, count);
  return load(some);
}

// Adds to `totals`, K * K vectors, what `rows` rows of the gradient at `grad` give with the rows in `windows`.
template <int K, int S>
static void depthwise_dot_rows(const Depthwise& a, const Windows& windows, const float* grad, const float* end,
                               int64_t rows, Vec* totals) {
  constexpr int G = tap_rows<K>;
  const int64_t last = windows.vectors - 1, width = a.out_width - last * lanes;
  Mask whole;
  for (int i = 0; i < lanes; ++i) whole[i] = i < width ? -1 : 0;
  for (int first = 0; first < K; first += G) {
    Vec acc[G][K] = {};
    const float* g_row = grad;
    const float* const* in = windows.rows + first;
    for (int64_t r = 0; r < rows; ++r, g_row += a.out_width, in += S) {
      auto vector = [&](int64_t v, auto keep) {
        const float* p = g_row + v * lanes;
        Vec g = v < last || width == lanes ? load(p) : load_some(p, whole, width, end);
        if (S == 2) g = as_halved(g);
#pragma GCC unroll 8
        for (int j = 0; j < G; ++j)
#pragma GCC unroll 8
          for (int k = 0; k < K; ++k) acc[j][k] += g * keep(load_tap<S>(in[j], v, k), k);
      };
      auto edges = [&](int64_t begin, int64_t until) {
        for (int64_t v = begin; v < until; ++v) vector(v, windows.borders<K>(v));
      };
      edges(0, windows.inner);
      for (int64_t v = windows.inner; v < windows.inner_end; ++v) vector(v, [](Vec x, int) { return x; });
      edges(windows.inner_end, windows.vectors);
    }
#pragma GCC unroll 8
    for (int j = 0; j < G; ++j)
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) totals[(first + j) * K + k] += acc[j][k];
  }
}

template <int K>
static auto find_depthwise_dots(int stride) {
  return stride == 1 ? depthwise_dot_rows<K, 1> : depthwise_dot_rows<K, 2>;
}

// `a.x` is the input; `grad_y` is as large as the output.
static void depthwise_dots(const Depthwise& a, const float* grad_y, float* grad_weight) {
  constexpr int64_t longest = 48;  // products in a sum, which is then added to the total: that rounds less
  const size_t bytes = windows_bytes(a);
  const auto run = a.kernel == 3 ? find_depthwise_dots<3>(a.stride) : find_depthwise_dots<5>(a.stride);
  const int64_t pixels = a.width * a.height, out_pixels = a.out_width * a.out_height;
  const float* end = grad_y + (a.batch - 1) * a.y_image + a.channels * out_pixels;
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    const Windows windows(arena, a);
    const int64_t band = least(windows.band, most(longest / windows.vectors, int64_t{1}));
    const int64_t taps = a.kernel * a.kernel;
    for (int64_t c = int64_t{a.channels} * thread / threads; c < int64_t{a.channels} * (thread + 1) / threads; ++c) {
      Vec totals[25] = {};
      const int64_t from = a.index ? a.index[c] : c;
      for (int64_t image = 0; image < a.batch; ++image) {
        const float* x = a.x + image * a.x_image + from * pixels;
        const float* grad = grad_y + image * a.y_image + c * out_pixels;
        const bool in_place = windows.fits(a, x);
        for (int64_t first = 0; first < a.out_height; first += band) {
          const int64_t rows = least(band, a.out_height - first);
          find_rows(a, windows, x, from, in_place, first, rows);
          run(a, windows, grad + first * a.out_width, end, rows, totals);
        }
      }
      for (int64_t t = 0; t < taps; ++t) grad_weight[c * taps + t] = sum(totals[t]);
    }
  };
  parallel_for_threads(least(a.channels, a.threads), body);
}

}  // namespace xn::XN_ISA
