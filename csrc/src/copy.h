// Runs of numbers, copied or set to zero.
#pragma once

#include "vec.h"

namespace xn::XN_ISA {

// The last few numbers of a copy, in pieces of 8, 4, 2 and 1.
XN_INLINE void copy_rest(float* to, const float* from, int64_t count) {
#pragma GCC unroll 4
  for (int64_t piece = lanes / 2; piece; piece /= 2)
    if (count & piece) {
      __builtin_memcpy(to, from, static_cast<size_t>(piece) * 4);
      to += piece, from += piece;
    }
}

XN_INLINE void copy(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(from + i));
  copy_rest(to + i, from + i, count - i);
}

XN_INLINE void zero(float* to, int64_t count) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, Vec{});
  for (; i < count; ++i) to[i] = 0;
}

XN_INLINE void copy_whole_vectors(float* to, const float* from, int64_t count) {
  if (count == 3 * lanes) {
    const Vec a = load(from), b = load(from + lanes), c = load(from + 2 * lanes);
    store(to, a), store(to + lanes, b), store(to + 2 * lanes, c);
    return;
  }
  for (int64_t i = 0; i < count; i += lanes) store(to + i, load(from + i));
}

XN_INLINE void zero_whole_vectors(float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes) store(to + i, Vec{});
}

}  // namespace xn::XN_ISA
