// The table of one instruction set. The including file names it and says how wide its vectors are.
#include "apply.h"
#include "depthwise_dots.h"
#include "dots.h"
#include "few.h"
#include "map.h"
#include "pool.h"
#include "scatter.h"
#include "winograd.h"

#define XN_TABLE_(isa) isa##_kernels
#define XN_TABLE(isa) XN_TABLE_(isa)

namespace xn {

const Kernels XN_TABLE(XN_ISA) = {
    XN_ISA::lanes, XN_ISA::apply_scratch, XN_ISA::apply, XN_ISA::scatter_scratch, XN_ISA::scatter,
    XN_ISA::winograd_scratch, XN_ISA::winograd, XN_ISA::winograd_weights, XN_ISA::dots_scratch, XN_ISA::dots,
    XN_ISA::few_forward, XN_ISA::few_grad_input_scratch, XN_ISA::few_grad_input, XN_ISA::few_grad_weight,
    XN_ISA::depthwise_scratch, XN_ISA::depthwise, XN_ISA::depthwise_dots, XN_ISA::map, XN_ISA::pool_scratch,
    XN_ISA::pool,
};

}  // namespace xn
