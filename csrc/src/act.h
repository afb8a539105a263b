// Activation functions, on vectors, and the passes that end a layer: y = act(sum + residual).
#pragma once

#include "copy.h"

namespace xn::XN_ISA {

XN_INLINE Vec select(Mask where, Vec a, Vec b) { return where ? a : b; }

// NaN stays NaN, as in torch.
XN_INLINE Vec clamp(Vec v, Vec low, Vec high) {
  v = v < low ? low : v;
  return high < v ? high : v;
}

// e^v = 2^n e^r: relative error below 1e-7 between e^-87 and e^88, and what these give beyond.
XN_INLINE Vec exp_of(Vec v) {
  v = clamp(v, splat(-87.0f), splat(88.0f));
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: its last bits count ones
  const Vec shifted = v * 1.442695041f + magic;
  const Vec n = shifted - magic;
  const Vec r = v - n * 0.693145752f - n * 1.42860677e-6f;
  Vec p = splat(1.392617612e-03f);
  p = p * r + 8.363173075e-03f;
  p = p * r + 4.166655466e-02f;
  p = p * r + 1.666657703e-01f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const Mask power = (reinterpret_cast<Mask>(shifted) - 0x4b400000 + 127) << 23;
  return p * reinterpret_cast<Vec>(power);
}

XN_INLINE Vec sigmoid(Vec v) { return 1.0f / (1.0f + exp_of(-v)); }

XN_INLINE Vec magnitude(Vec v) { return reinterpret_cast<Vec>(reinterpret_cast<Mask>(v) & 0x7fffffff); }

XN_INLINE Vec tanh_of(Vec v) {
  const Vec size = magnitude(v), z = v * v;
  Vec p = splat(-6.045165100e-03f);
  p = p * z + 2.096132911e-02f;
  p = p * z - 5.384326318e-02f;
  p = p * z + 1.333271885e-01f;
  p = p * z - 3.333332843e-01f;
  const Vec small = v + v * z * p;
  const Vec large = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
  return select(size < 0.625f, small, v < 0.0f ? -large : large);
}

// v/2 erfc(-v/sqrt(2)), erfc(x) = t e^(p(t) - x^2) with t = 1 / (1 + x/2) for x >= 0: no digits are lost where erf
// comes close to -1.
XN_INLINE Vec gelu(Vec v) {
  const Vec x = clamp(magnitude(v) * 0.7071067812f, splat(0.0f), splat(13.0f));
  const Vec t = 1.0f / (1.0f + 0.5f * x);
  Vec p = splat(1.480460539e-01f);
  p = p * t - 6.975365903e-01f;
  p = p * t + 1.195327674e+00f;
  p = p * t - 7.464698933e-01f;
  p = p * t - 3.986631871e-02f;
  p = p * t - 1.950800288e-02f;
  p = p * t + 4.139596398e-02f;
  p = p * t + 3.852836336e-01f;
  p = p * t + 9.987824595e-01f;
  p = p * t - 1.265454930e+00f;
  const Vec tail = select(x > 9.2f, Vec{}, t * exp_of(p - x * x));
  return 0.5f * v * (v < 0.0f ? tail : 2.0f - tail);
}

// One activation function as a type, so that a loop over numbers is compiled for each.
template <int32_t kind>
struct Function {
  float low, high;

  __attribute__((always_inline)) Vec operator()(Vec v) const {
    if constexpr (kind == XN_ACT_CLAMP) return clamp(v, splat(low), splat(high));
    if constexpr (kind == XN_ACT_SILU) return v * sigmoid(v);
    if constexpr (kind == XN_ACT_HARDSWISH) return v * (clamp(v + 3.0f, splat(0.0f), splat(6.0f)) * (1.0f / 6.0f));
    if constexpr (kind == XN_ACT_SIGMOID) return sigmoid(v);
    if constexpr (kind == XN_ACT_HARDSIGMOID) return clamp(v + 3.0f, splat(0.0f), splat(6.0f)) * (1.0f / 6.0f);
    if constexpr (kind == XN_ACT_GELU) return gelu(v);
    if constexpr (kind == XN_ACT_TANH) return tanh_of(v);
    if constexpr (kind == XN_ACT_LEAKY) return v < 0.0f ? v * low : v;
    return v;
  }
};

template <typename Use>
XN_INLINE void with_function(const Activation& act, const Use& use) {
  switch (act.kind) {
    case XN_ACT_CLAMP: return use(Function<XN_ACT_CLAMP>{act.low, act.high});
    case XN_ACT_SILU: return use(Function<XN_ACT_SILU>{});
    case XN_ACT_HARDSWISH: return use(Function<XN_ACT_HARDSWISH>{});
    case XN_ACT_SIGMOID: return use(Function<XN_ACT_SIGMOID>{});
    case XN_ACT_HARDSIGMOID: return use(Function<XN_ACT_HARDSIGMOID>{});
    case XN_ACT_GELU: return use(Function<XN_ACT_GELU>{});
    case XN_ACT_TANH: return use(Function<XN_ACT_TANH>{});
    case XN_ACT_LEAKY: return use(Function<XN_ACT_LEAKY>{act.low, act.high});
    default: return use(Function<XN_ACT_NONE>{});
  }
}

// to = act(from * scale + shift + residual), where residual may be null; `to` may be `from` or `residual`.
static void map_run(float* to, const float* from, const float* residual, int64_t count, float scale, float shift,
                    const Activation& act) {
  const Vec by = splat(scale), plus = splat(shift);
  with_function(act, [&](auto function) {
    int64_t i = 0;
    if (residual)
      for (; i + lanes <= count; i += lanes)
        store(to + i, function(load(from + i) * by + plus + load(residual + i)));
    else
      for (; i + lanes <= count; i += lanes) store(to + i, function(load(from + i) * by + plus));
    if (i == count) return;
    const int64_t rest = count - i;
    float last[lanes] = {}, beside[lanes] = {};
    copy_rest(last, from + i, rest);
    if (residual) copy_rest(beside, residual + i, rest);
    store(last, function(load(last) * by + plus + load(beside)));
    copy_rest(to + i, last, rest);
  });
}

}  // namespace xn::XN_ISA
