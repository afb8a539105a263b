// Pooling: the rows of a window are brought together first, for all columns at once, then the columns.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

// As torch: a NaN anywhere in the window is the maximum.
struct Maximum {
  static constexpr float nothing = -__builtin_inff();
  __attribute__((always_inline)) Vec operator()(Vec a, Vec b) const {
    return (b > a) | (b != b) ? b : a;
  }
};

struct Sum {
  static constexpr float nothing = 0.0f;
  __attribute__((always_inline)) Vec operator()(Vec a, Vec b) const { return a + b; }
};

// Lanes 0, step, 2 * step ... from p on. Reads up to 2 * lanes numbers at a step of 2.
XN_INLINE Vec load_spread(const float* p, int64_t step) {
  if (step == 1) return load(p);
  if (step == 2) return every_other<0>(load(p), load(p + lanes));
  Vec v;
  for (int i = 0; i < lanes; ++i) v[i] = p[i * step];
  return v;
}

// One axis of one window: the pixels [begin, end) of it that exist, counted in taps, and what the mean divides by.
struct Window {
  int64_t first, begin, end, size;

  Window(const Pool& a, int axis, int64_t output) {
    const int64_t input = a.input[axis], padding = a.padding[axis], step = a.dilation[axis], taps = a.kernel[axis];
    first = output * a.stride[axis] - padding;
    begin = first < 0 ? ceil_div(-first, step) : 0;
    end = first < input ? least(taps, (input - 1 - first) / step + 1) : 0;
    begin = least(begin, end);
    // Only means count, and they have no dilation. A window may reach beyond the padding, where nothing counts.
    size = a.exclude_padding ? end - begin : least(taps, input + padding - first);
    size = most(size, int64_t{1});
  }
};

struct PoolWorkspace {
  float* columns;   // one row of the padded image
  float* divisors;  // of the windows of a row
  int64_t width;

  PoolWorkspace(Arena& arena, const Pool& a) {
    // What the last whole vector of windows reads.
    width = (round_up(a.output[2], lanes) - 1) * a.stride[2] + int64_t{a.kernel[2] - 1} * a.dilation[2] + 1 + 2 * lanes;
    width = most(width, int64_t{a.padding[2]} + lanes);
    columns = arena.take<float>(width);
    divisors = arena.take<float>(a.average ? round_up(a.output[2], lanes) : 0);
  }
};

// columns[w] = all rows[0 .. count)[w], and columns[w] itself if `more`.
template <typename Join>
XN_INLINE void join_rows(float* columns, const float* const* rows, int count, int64_t width, bool more,
                         const Join& join) {
  auto joined = [&](int64_t w, auto&& at) {
    Vec v = at(rows[0] + w);
    for (int i = 1; i < count; ++i) v = join(v, at(rows[i] + w));
    return v;
  };
  int64_t w = 0;
  for (; w + lanes <= width; w += lanes) {
    const Vec v = joined(w, [](const float* p) { return load(p); });
    store(columns + w, more ? join(load(columns + w), v) : v);
  }
  if (w == width) return;
  const Vec v = joined(w, [&](const float* p) {
    float last[lanes] = {};
    copy_rest(last, p, width - w);
    return load(last);
  });
  float last[lanes];
  store(last, more ? join(load(columns + w), v) : v);
  copy_rest(columns + w, last, width - w);
}

template <typename Join, typename Act>
static void pool_plane(const Pool& a, const PoolWorkspace& work, const float* x, float* y, const Join& join,
                       const Act& act) {
  constexpr int most_rows = 16;
  const int64_t padding = a.padding[2], in_width = a.input[2], out_width = a.output[2];
  const int64_t used = least(in_width, work.width - lanes - padding);  // of a row of the input
  const int64_t row_bytes = in_width, plane = row_bytes * a.input[1];
  for (int32_t d = 0; d < a.output[0]; ++d)
    for (int32_t h = 0; h < a.output[1]; ++h, y += out_width) {
      const Window depth(a, 0, d), height(a, 1, h);
      const float* rows[most_rows];
      int count = 0;
      bool more = false;
      auto flush = [&] {
        if (count && used > 0) join_rows(work.columns + padding, rows, count, used, more, join);
        more |= count > 0, count = 0;
      };
      for (int64_t i = depth.begin; i < depth.end; ++i)
        for (int64_t j = height.begin; j < height.end; ++j) {
          rows[count++] = x + (depth.first + i * a.dilation[0]) * plane + (height.first + j * a.dilation[1]) * in_width;
          if (count == most_rows) flush();
        }
      flush();
      if (!more)
        for (int64_t w = 0; w < used; ++w) work.columns[padding + w] = Join::nothing;
      for (int64_t w = 0; w < out_width; w += lanes) {
        const float* from = work.columns + w * a.stride[2];
        Vec v = load_spread(from, a.stride[2]);
        for (int32_t k = 1; k < a.kernel[2]; ++k)
          v = join(v, load_spread(from + int64_t{k} * a.dilation[2], a.stride[2]));
        if (a.average) v /= load(work.divisors + w) * static_cast<float>(depth.size * height.size);
        v = act(v);
        if (w + lanes <= out_width) {
          store(y + w, v);
        } else {
          float last[lanes];
          store(last, v);
          copy_rest(y + w, last, out_width - w);
        }
      }
    }
}

// The mean of all pixels of a channel.
static float mean(const float* x, int64_t count) {
  Vec sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes)
    for (int u = 0; u < 4; ++u) sums[u] += load(x + i + u * lanes);
  for (; i + lanes <= count; i += lanes) sums[0] += load(x + i);
  float last[lanes] = {};
  copy_rest(last, x + i, count - i);
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]) + load(last)) / static_cast<float>(count);
}

XN_INLINE bool is_global_mean(const Pool& a) {
  bool global = a.average;
  for (int i = 0; i < 3; ++i) global &= a.output[i] == 1 && a.padding[i] == 0 && a.kernel[i] == a.input[i];
  return global;
}

XN_INLINE size_t pool_workspace_bytes(const Pool& a) {
  Arena arena{nullptr, 0};
  PoolWorkspace count(arena, a);
  return (arena.used + 4095) / 4096 * 4096;
}

static size_t pool_scratch(const Pool& a) { return pool_workspace_bytes(a) * static_cast<size_t>(a.threads); }

static void pool(const Pool& a) {
  const int64_t planes = int64_t{a.batch} * a.channels, pixels_out = int64_t{a.output[0]} * a.output[1] * a.output[2];
  const int64_t pixels = int64_t{a.input[0]} * a.input[1] * a.input[2];
  if (planes == 0 || pixels_out == 0) return;
  const size_t bytes = pool_workspace_bytes(a);
  const bool global = is_global_mean(a);
  auto body = [&](int thread, int threads) {
    Arena arena{static_cast<char*>(a.scratch) + bytes * static_cast<size_t>(thread), 0};
    PoolWorkspace work(arena, a);
    const float nothing = a.average ? Sum::nothing : Maximum::nothing;
    for (int64_t w = 0; w < work.width; ++w) work.columns[w] = nothing;
    if (a.average)
      for (int64_t w = 0; w < round_up(a.output[2], lanes); ++w)
        work.divisors[w] = static_cast<float>(Window(a, 2, least(w, int64_t{a.output[2]} - 1)).size);
    with_function(a.act, [&](auto act) {
      for (int64_t p = planes * thread / threads; p < planes * (thread + 1) / threads; ++p) {
        const float* x = a.x + p / a.channels * a.x_image + p % a.channels * pixels;
        float* y = a.y + p / a.channels * a.y_image + p % a.channels * pixels_out;
        if (global)
          *y = act(splat(mean(x, pixels)))[0];
        else if (a.average)
          pool_plane(a, work, x, y, Sum{}, act);
        else
          pool_plane(a, work, x, y, Maximum{}, act);
      }
    });
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
