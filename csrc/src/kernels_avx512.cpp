#define XN_ISA avx512
#define XN_LANES 16
#define XN_REGISTERS 32
#include "table.h"
