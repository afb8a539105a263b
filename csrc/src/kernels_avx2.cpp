#define XN_ISA avx2
#define XN_LANES 8
#define XN_REGISTERS 16
#include "table.h"
