// Which instruction sets this build has and this machine can run.
#pragma once

#include "kernels.h"

namespace xn {

int best_isa();
const Kernels* kernels_for(int isa);  // null if it cannot be used; XN_ISA_AUTO is the best

}  // namespace xn
