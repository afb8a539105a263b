#include "cpu.h"

namespace xn {

// The compiler's run-time library reads cpuid once, and checks that the system saves the wide registers.
int best_isa() {
#ifdef XN_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw"))
    return XN_ISA_AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return XN_ISA_AVX2;
#endif
  return XN_ISA_GENERIC;
}

const Kernels* kernels_for(int isa) {
  const int best = best_isa(), named = isa & ~(XN_DIRECT | XN_WINOGRAD);
  switch (named == XN_ISA_AUTO ? best : named) {
    case XN_ISA_GENERIC: return &generic_kernels;
#ifdef XN_X86
    case XN_ISA_AVX2: return best >= XN_ISA_AVX2 ? &avx2_kernels : nullptr;
    case XN_ISA_AVX512: return best >= XN_ISA_AVX512 ? &avx512_kernels : nullptr;
#endif
    default: return nullptr;
  }
}

}  // namespace xn
