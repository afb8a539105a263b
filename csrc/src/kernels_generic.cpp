#define XN_ISA generic
#define XN_LANES 4
#define XN_REGISTERS 16
#include "table.h"
