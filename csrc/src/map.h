// Steps that look at one number at a time: affine maps, activations, sums, channels moved and scaled.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

// Below so many numbers, a second thread costs more than it saves.
constexpr int64_t numbers_per_thread = 8192;

static void map(const Map& a) {
  const int64_t planes = int64_t{a.batch} * a.channels;
  const bool uniform = !a.scale && !a.shift && !a.index;
  auto body = [&](int thread, int threads) {
    int64_t plane = planes * thread / threads;
    const int64_t end = planes * (thread + 1) / threads;
    while (plane < end) {
      const int64_t image = plane / a.channels, channel = plane % a.channels;
      // The channels of an image lie side by side: they are one run where all are treated alike.
      const int64_t count = uniform ? least(end - plane, a.channels - channel) : 1;
      const int64_t at = channel * a.pixels, from = a.index ? a.index[channel] * a.pixels : at;
      map_run(a.y + image * a.y_image + at, a.x + image * a.x_image + from,
              a.residual ? a.residual + image * a.residual_image + at : nullptr, count * a.pixels,
              a.scale ? a.scale[image * a.scale_image + channel] : 1.0f, a.shift ? a.shift[channel] : 0.0f, a.act);
      plane += count;
    }
  };
  const int64_t useful = ceil_div(planes * a.pixels, numbers_per_thread);
  parallel_for_threads(static_cast<int>(least(useful, int64_t{a.threads})), body);
}

}  // namespace xn::XN_ISA
