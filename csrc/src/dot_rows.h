// The innermost loops of the gradient to the weight: R rows of grad_y times E places in the panel, one accumulator each.
#pragma once

#include "vec.h"

namespace xn::XN_ISA {

struct DotRun {
  const float* grad;      // the first row
  int64_t grad_ld;        // between rows
  const float* panel;
  const int64_t* places;  // in the panel
  int64_t count;          // of places
  int64_t pixels;         // of which those that fill no vector are read along with what lies before them
  float* out;             // a number for each place of the first row
  int64_t out_ld;         // between rows
  bool fresh;             // writes `out`, or else adds to it
};

// The sums of four vectors. The numbers of each are added pairwise.
XN_INLINE Quad sum_four(Vec a, Vec b, Vec c, Vec d) {
  Mask low, high, first, second;
  for (int i = 0; i < lanes; ++i) {
    const int quad = i / 4 * 4, k = i % 4;
    low[i] = quad + k / 2 + (k % 2) * lanes;
    high[i] = low[i] + 2;
    first[i] = quad + k % 2 + (k / 2) * lanes;
    second[i] = first[i] + 2;
  }
  const Vec ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
  const Vec cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
  return fold(__builtin_shuffle(ab, cd, first) + __builtin_shuffle(ab, cd, second));
}

// From place n on: a mask of the last n lanes.
struct LastLanes {
  int32_t masks[2 * lanes];
  constexpr LastLanes() : masks{} {
    for (int i = lanes; i < 2 * lanes; ++i) masks[i] = -1;
  }
};
static constexpr LastLanes last_lanes_table;
static constexpr const int32_t* last_lanes = last_lanes_table.masks;

XN_INLINE Vec keep_lanes(Vec v, const int32_t* masks) {
  Mask mask;
  __builtin_memcpy(&mask, masks, sizeof(mask));
  return (Vec)((Mask)v & mask);
}

// Holds the fewer of the two kinds of operands in registers, and takes the others one at a time.
template <int R, int E, typename F>
XN_INLINE void dot_step(const float* const (&grad)[R], const float* const (&x)[E], int64_t p, const F& keep,
                        Vec (&acc)[R][E]) {
  if constexpr (E < R) {
    Vec v[E];
#pragma GCC unroll 16
    for (int e = 0; e < E; ++e) v[e] = keep(load(x[e] + p));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec g = keep(load(grad[r] + p));
#pragma GCC unroll 16
      for (int e = 0; e < E; ++e) acc[r][e] += g * v[e];
    }
  } else {
    Vec g[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) g[r] = keep(load(grad[r] + p));
#pragma GCC unroll 16
    for (int e = 0; e < E; ++e) {
      const Vec v = keep(load(x[e] + p));
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][e] += g[r] * v;
    }
  }
}

// Places [at, at + E), of which those from `count` on are the last one once more. Four sums are stored at a time: where E
// is no multiple of four they spoil places behind their own, which come later, unless these are no more.
template <int R, int E>
XN_INLINE void dot_group(const DotRun& run, int64_t at) {
  const float* x[E];
#pragma GCC unroll 16
  for (int e = 0; e < E; ++e) x[e] = run.panel + run.places[least(at + e, run.count - 1)];
  const float* grad[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) grad[r] = run.grad + r * run.grad_ld;
  Vec acc[R][E] = {};
  int64_t p = 0;
  for (; p + lanes <= run.pixels; p += lanes) dot_step<R, E>(grad, x, p, [](Vec v) { return v; }, acc);
  if (p < run.pixels) {
    const int32_t* kept = last_lanes + (run.pixels - p);
    dot_step<R, E>(grad, x, run.pixels - lanes, [kept](Vec v) { return keep_lanes(v, kept); }, acc);
  }
  const Vec none{};
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int e = 0; e < E; e += 4) {
      const Quad total = sum_four(acc[r][e], e + 1 < E ? acc[r][e + 1] : none, e + 2 < E ? acc[r][e + 2] : none,
                                  e + 3 < E ? acc[r][e + 3] : none);
      float* to = run.out + r * run.out_ld + at + e;
      if (at + e + 4 <= run.count) {
        store_quad(to, run.fresh ? total : total + load_quad(to));
        continue;
      }
      for (int i = 0; i < 4 && at + e + i < run.count; ++i) to[i] = run.fresh ? total[i] : total[i] + to[i];
    }
}

template <int R>
constexpr int most_places = (wide_registers ? 16 : 12) / R;
template <int R>
constexpr int place_unit = 4 / R;

template <int R, int E = most_places<R>>
XN_INLINE void dot_some(const DotRun& run, int64_t at, int64_t places) {
  if constexpr (E > place_unit<R>)
    if (places <= E - place_unit<R>) return dot_some<R, E - place_unit<R>>(run, at, places);
  dot_group<R, E>(run, at);
}

template <int R>
static void dot_rows(const DotRun& given) {
  const DotRun run = given;
  constexpr int E = most_places<R>;
  int64_t at = 0;
  for (; run.count - at >= 2 * E || run.count - at == E; at += E) dot_group<R, E>(run, at);
  // What is left is shared by groups of about the same size: few accumulators would wait for their own sums.
  while (at < run.count) {
    const int64_t left = run.count - at;
    const int64_t places = left > E ? round_up(ceil_div(left, int64_t{2}), int64_t{place_unit<R>}) : left;
    dot_some<R>(run, at, places);
    at += places;
  }
}

}  // namespace xn::XN_ISA
