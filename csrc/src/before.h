// A depthwise convolution before a 1x1 one, computed where its output would be copied from: tile by tile, into the
// panel. The image between the two lies nowhere.
#pragma once

#include "depthwise.h"
#include "pack.h"

namespace xn::XN_ISA {

// R rows of the output of many channels, whose input lies equally far apart, but for the rows of zeros.
template <int K, int S, int R>
static void depthwise_channels(const Windows& windows, const float* const* rows, const int64_t* steps, int64_t channels,
                               const float* weight, const float* bias, Vec low, Vec high, float* out, int64_t out_ld,
                               int64_t out_channel) {
  constexpr int N = (R - 1) * S + K;
  const float* x[N];
  for (int j = 0; j < N; ++j) x[j] = rows[j];
  for (int64_t c = 0; c < channels; ++c) {
    Vec w[K * K];
#pragma GCC unroll 25
    for (int t = 0; t < K * K; ++t) w[t] = splat(weight[t]);
    depthwise_rows<K, S, R>(windows, x, w, splat(bias ? bias[c] : 0.0f), low, high, out, out_ld);
    for (int j = 0; j < N; ++j) x[j] += steps[j];
    weight += K * K;
    out += out_channel;
  }
}

using DepthwiseChannels = decltype(&depthwise_channels<3, 1, 1>);

template <int K, int S>
static DepthwiseChannels find_depthwise_channels(int64_t rows) {
  switch (rows) {
    case 1: return depthwise_channels<K, S, 1>;
    case 2: return depthwise_channels<K, S, 2>;
    case 3: return depthwise_channels<K, S, 3>;
    default: return depthwise_channels<K, S, 4>;
  }
}
template <int K>
static DepthwiseChannels find_depthwise_channels(int32_t stride, int64_t rows) {
  return stride == 1 ? find_depthwise_channels<K, 1>(rows) : find_depthwise_channels<K, 2>(rows);
}
constexpr int most_in_rows = 3 * 2 + 5;  // of four rows of the output

// Channels [first, first + channels) of flat positions [begin, begin + count) of an image, which are whole rows. What a
// row writes too far to the right, the next one writes again, and the last one's fits into the panel.
static void pack_depthwise(Panel& panel, const Depthwise& d, const Windows& windows, int32_t first, int32_t channels,
                           int64_t image, int64_t begin, int64_t count) {
  panel.data = panel.own;
  panel.channel_ld = panel.plane_ld;
  const int64_t top = begin / d.out_width, rows = count / d.out_width, pixels = d.width * d.height;
  if (count % lanes)  // whole vectors are read, whatever was left there
    for (int64_t c = 0; c < channels; ++c) store(panel.own + c * panel.plane_ld + count / lanes * lanes, Vec{});
  auto one = [&](int64_t c) {
    depthwise_part(d, windows, image, first + c, top, rows, panel.own + c * panel.plane_ld,
                   panel.own + panel.size, nullptr);
  };
  // All but the first and the last channel of the array can be read in place.
  const float* x = d.x + image * d.x_image + first * pixels;
  int64_t low = 0, high = d.act.kind == XN_ACT_CLAMP || d.act.kind == XN_ACT_NONE ? channels : 0;
  while (low < high && !windows.fits(d, x + low * pixels)) ++low;
  while (low < high && !windows.fits(d, x + (high - 1) * pixels)) --high;
  high = most(low, high);
  for (int64_t c = 0; c < low; ++c) one(c);
  const bool clamped = d.act.kind == XN_ACT_CLAMP;
  const float infinity = __builtin_inff();
  const Vec least_value = splat(clamped ? d.act.low : -infinity), most_value = splat(clamped ? d.act.high : infinity);
  for (int64_t r = 0; r < rows && low < high; r += 4) {
    const int64_t taken = least(rows - r, int64_t{4});
    const auto run = d.kernel == 3 ? find_depthwise_channels<3>(d.stride, taken) : find_depthwise_channels<5>(d.stride, taken);
    const float* in[most_in_rows];
    int64_t steps[most_in_rows];
    for (int64_t j = 0; j < Windows::in_rows(d, taken); ++j) {
      const int64_t h = (top + r) * d.stride - d.padding + j;
      const bool exists = h >= 0 && h < d.height;
      in[j] = exists ? x + low * pixels + h * d.width - d.padding : windows.zeros;
      steps[j] = exists ? pixels : 0;
    }
    run(windows, in, steps, high - low, d.weight + (first + low) * d.kernel * d.kernel,
        d.bias ? d.bias + first + low : nullptr, least_value, most_value,
        panel.own + low * panel.plane_ld + r * d.out_width, d.out_width, panel.plane_ld);
  }
  for (int64_t c = high; c < channels; ++c) one(c);
}

}  // namespace xn::XN_ISA
