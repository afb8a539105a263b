// Vectors of XN_LANES floats by the compiler's vector extension.
//
// Everything below lives in the instruction set's own namespace, and nothing here may call an inline function
// of the standard library: the linker would keep one copy of it, perhaps the one for the newest processor.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"
#include "parallel.h"

namespace xn::XN_ISA {

constexpr int lanes = XN_LANES;
constexpr bool wide_registers = XN_REGISTERS == 32;
constexpr bool long_vectors = lanes > 8;
// How many accumulators fit into 32 or 16 registers beside the operands.
constexpr int accumulators = wide_registers ? 24 : 12;

typedef float Vec __attribute__((vector_size(lanes * 4)));
typedef float Unaligned __attribute__((vector_size(lanes * 4), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(lanes * 4)));

// Four numbers, wherever vectors are longer.
typedef float Quad __attribute__((vector_size(16)));
typedef float UnalignedQuad __attribute__((vector_size(16), aligned(4), may_alias));

#define XN_INLINE static inline __attribute__((always_inline))

XN_INLINE Vec load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
XN_INLINE void store(float* p, Vec v) { *reinterpret_cast<Unaligned*>(p) = v; }
XN_INLINE Quad load_quad(const float* p) { return *reinterpret_cast<const UnalignedQuad*>(p); }
XN_INLINE void store_quad(float* p, Quad q) { *reinterpret_cast<UnalignedQuad*>(p) = q; }
XN_INLINE Vec splat(float s) { return s - Vec{}; }

template <typename T>
XN_INLINE T least(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
XN_INLINE T most(T a, T b) {
  return a < b ? b : a;
}
XN_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
XN_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Picks from a and b, in groups of `group` lanes: the even groups of both, or the odd ones, interleaved.
template <int group, int odd>
XN_INLINE Vec interleave(Vec a, Vec b) {
  Mask mask;
  for (int i = 0; i < lanes; ++i) {
    const int g = i / group;
    mask[i] = (g & 1 ? lanes : 0) + ((g & ~1) + odd) * group + i % group;
  }
  return __builtin_shuffle(a, b, mask);
}

// Lanes 4 apart, added up.
XN_INLINE Quad fold(Vec v) {
  Quad part[lanes / 4];
  __builtin_memcpy(part, &v, sizeof(v));
  for (int n = lanes / 4; n > 1; n /= 2)
    for (int i = 0; i < n / 2; ++i) part[i] += part[i + n / 2];
  return part[0];
}

XN_INLINE float sum(Vec v) {
  const Quad part = fold(v);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// Numbers 0, 2, 4 .. or 1, 3, 5 .. of the two vectors one after another: picked within 128 bits, then pairs are moved.
template <int odd>
XN_INLINE Vec every_other(Vec a, Vec b) {
  Mask pick, move;
  for (int i = 0; i < lanes; ++i) {
    pick[i] = i / 4 * 4 + (i & 1) * 2 + odd + (i & 2 ? lanes : 0);
    const int pair = i / 2, pairs = lanes / 2;
    move[i] = (pair < pairs / 2 ? 4 * pair : 4 * (pair - pairs / 2) + 2) + (i & 1);
  }
  const Vec picked = __builtin_shuffle(a, b, pick);
  return lanes == 4 ? picked : __builtin_shuffle(picked, move);
}

// Transposes lanes x lanes numbers, row i in v[i].
template <int group = 1>
XN_INLINE void transpose_registers(Vec* v) {
  if constexpr (group < lanes) {
    // After the step, v[i] holds groups of 2 * group lanes that belong together.
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      if (!(i & group)) {
        const Vec a = v[i], b = v[i + group];
        v[i] = interleave<group, 0>(a, b);
        v[i + group] = interleave<group, 1>(a, b);
      }
    transpose_registers<group * 2>(v);
  }
}

// Scratch memory, handed out from the front in aligned pieces. With a null base it only counts.
struct Arena {
  char* base;
  size_t used;

  template <typename T>
  T* take(int64_t count) {
    used = (used + 63) / 64 * 64;
    T* piece = reinterpret_cast<T*>(base + used);
    used += static_cast<size_t>(count) * sizeof(T);
    return piece;
  }
};

}  // namespace xn::XN_ISA
