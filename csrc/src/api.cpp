// The C functions: check the arguments, choose the layout, call the kernels.
#include <algorithm>
#include <cstdint>

#include "cpu.h"
#include "parallel.h"
#include "transpose.h"
#include "xnets.h"

namespace {

using xn::Apply;
using xn::Columns;
using xn::Dots;
using xn::Few;
using xn::Kernels;
using xn::Layout;
using xn::Rows;

// Up to so many rows of features each weight is used as it is read.
constexpr int64_t few_rows = 4;
constexpr int64_t most_int = INT32_MAX;

Rows forward_rows(const xn_graph& g) { return {g.indptr, g.indices, g.num_in, g.num_out, g.b_out, g.b_in}; }
Rows backward_rows(const xn_graph& g) { return {g.t_indptr, g.t_indices, g.num_out, g.num_in, g.b_in, g.b_out}; }

int64_t num_edges(const xn_graph& g) { return int64_t{g.indptr[g.num_out / g.b_out]} * g.b_out * g.b_in; }
int32_t kernel_taps(const xn_conv& c) { return c.kernel[0] * c.kernel[1] * c.kernel[2]; }

bool check_conv(const xn_conv& c, const xn_graph& g) {
  if (c.batch < 0) return false;
  int64_t input = std::max(c.batch, 1), kernel = 1, padded = 1, stride = 1;
  for (int a = 0; a < 3; ++a) {
    if (c.input[a] < 0 || c.kernel[a] < 1 || c.stride[a] < 1 || c.padding[a] < 0 || c.dilation[a] < 1) return false;
    const int64_t reach = int64_t{c.dilation[a]} * (c.kernel[a] - 1) + 1;
    const int64_t extent = int64_t{c.input[a]} + 2 * int64_t{c.padding[a]} + reach + 16;
    input *= std::max(c.input[a], 1), kernel *= c.kernel[a], padded *= extent, stride *= c.stride[a];
    if (input > most_int || kernel > most_int || padded > most_int || stride > most_int) return false;
  }
  return num_edges(g) <= INT64_MAX / 8 / kernel;
}

bool check_rows(int64_t rows) { return rows >= 0 && rows <= most_int - 64; }

// Where every row stands alone loads bind, so that they should be aligned; elsewhere gaps cost more.
Columns columns_for(const Rows& rows) { return rows.b_out % 2 ? Columns::aligned : Columns::compact; }

struct Call {
  const xn_graph* graph;
  const Kernels* kernels;
  int threads;
  char* scratch;

  Call(const xn_graph* g, void* memory, int32_t num_threads, int32_t isa)
      : graph(g),
        kernels(xn::kernels_for(isa)),
        threads(xn::resolve_threads(num_threads)),
        scratch(reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory) + 63) / 64 * 64)) {}

  int32_t status(std::initializer_list<const void*> needed) const {
    if (!kernels) return XN_BAD_ISA;
    if (!graph || !xn::check_graph(*graph)) return XN_BAD_ARGUMENT;
    for (const void* p : needed)
      if (!p) return XN_BAD_ARGUMENT;
    return XN_OK;
  }

  bool has_transpose() const { return graph->t_indptr && ((graph->t_indices && graph->t_edges) || !num_edges(*graph)); }

  // The transposed weights lie before the scratch of the kernels.
  int64_t weight_bytes(int32_t taps) const { return (num_edges(*graph) * taps * 4 + 63) / 64 * 64; }

  Apply forward(const Layout& layout, int32_t taps) const {
    return {forward_rows(*graph), &layout, nullptr, taps, nullptr, nullptr, nullptr, scratch, threads};
  }
  Apply backward(const Layout& layout, int32_t taps) const {
    return {backward_rows(*graph), &layout, nullptr, taps, nullptr, nullptr, nullptr,
            scratch + (scratch ? weight_bytes(taps) : 0), threads};
  }
  Few few(int64_t rows) const {
    return {forward_rows(*graph), static_cast<int32_t>(rows), nullptr, nullptr, nullptr, nullptr, nullptr, scratch,
            threads};
  }
  Dots dots(const Layout& layout, int32_t taps) const {
    return {forward_rows(*graph), &layout, taps, nullptr, nullptr, nullptr, scratch, threads};
  }
};

Layout conv_layout(const Call& call, const xn_conv& conv) {
  return xn::forward_layout(conv, call.graph->num_in, call.graph->num_out, columns_for(forward_rows(*call.graph)));
}

Layout phase_layout(const Call& call, const xn_conv& conv, int64_t phase) {
  return xn::grad_input_layout(conv, call.graph->num_in, call.graph->num_out, phase,
                               columns_for(backward_rows(*call.graph)));
}

}  // namespace

extern "C" {

int32_t xn_abi_version(void) { return XN_ABI_VERSION; }
int32_t xn_isa_best(void) { return xn::best_isa(); }
int32_t xn_isa_usable(int32_t isa) { return xn::kernels_for(isa) != nullptr; }
const char* xn_openmp_path(void) { return xn::openmp_path(); }

int32_t xn_check_graph(const xn_graph* graph) {
  return graph && xn::check_graph(*graph) && xn::check_tables(*graph) ? XN_OK : XN_BAD_ARGUMENT;
}

int32_t xn_transpose(const xn_graph* graph, int32_t* t_indptr, int32_t* t_indices, int32_t* t_edges) {
  if (!graph || !xn::check_graph(*graph) || !t_indptr) return XN_BAD_ARGUMENT;
  if (num_edges(*graph) && (!t_indices || !t_edges)) return XN_BAD_ARGUMENT;
  xn::transpose_tables(*graph, t_indptr, t_indices, t_edges);
  return XN_OK;
}

int64_t xn_conv_scratch(const xn_graph* graph, const xn_conv* conv, int32_t op, int32_t num_threads, int32_t isa) {
  const Call call(graph, nullptr, num_threads, isa);
  if (call.status({conv}) || !check_conv(*conv, *graph)) return -1;
  const int32_t taps = kernel_taps(*conv);
  size_t bytes = 0;
  if (op == XN_FORWARD) {
    bytes = call.kernels->apply_scratch(call.forward(conv_layout(call, *conv), taps));
  } else if (op == XN_GRAD_WEIGHT) {
    bytes = call.kernels->dots_scratch(call.dots(conv_layout(call, *conv), taps));
  } else if (op == XN_GRAD_INPUT && call.has_transpose()) {
    for (int64_t phase = 0; phase < xn::grad_input_phases(*conv); ++phase)
      bytes = std::max(bytes, call.kernels->apply_scratch(call.backward(phase_layout(call, *conv, phase), taps)));
    bytes += static_cast<size_t>(call.weight_bytes(taps));
  } else {
    return -1;
  }
  return static_cast<int64_t>(bytes + 64);
}

int32_t xn_conv_forward(const xn_graph* graph, const xn_conv* conv, const float* x, const float* weight,
                        const float* bias, float* y, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({conv, scratch})) return bad;
  if (!check_conv(*conv, *graph)) return XN_BAD_ARGUMENT;
  const Layout layout = conv_layout(call, *conv);
  Apply apply = call.forward(layout, kernel_taps(*conv));
  apply.weight = weight, apply.bias = bias, apply.source = x, apply.target = y;
  call.kernels->apply(apply);
  return XN_OK;
}

int32_t xn_conv_grad_input(const xn_graph* graph, const xn_conv* conv, const float* grad_y, const float* weight,
                           float* grad_x, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({conv, scratch})) return bad;
  if (!check_conv(*conv, *graph) || !call.has_transpose()) return XN_BAD_ARGUMENT;
  const int32_t taps = kernel_taps(*conv);
  float* transposed = reinterpret_cast<float*>(call.scratch);
  if (conv->batch > 0) xn::transpose_weights(*graph, weight, taps, transposed, call.threads);
  for (int64_t phase = 0; phase < xn::grad_input_phases(*conv); ++phase) {
    const Layout layout = phase_layout(call, *conv, phase);
    Apply apply = call.backward(layout, taps);
    apply.weight = transposed, apply.source = grad_y, apply.target = grad_x;
    call.kernels->apply(apply);
  }
  return XN_OK;
}

int32_t xn_conv_grad_weight(const xn_graph* graph, const xn_conv* conv, const float* x, const float* grad_y,
                            float* grad_weight, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({conv, scratch})) return bad;
  if (!check_conv(*conv, *graph)) return XN_BAD_ARGUMENT;
  const Layout layout = conv_layout(call, *conv);
  Dots dots = call.dots(layout, kernel_taps(*conv));
  dots.x = x, dots.grad_y = grad_y, dots.grad_weight = grad_weight;
  call.kernels->dots(dots);
  return XN_OK;
}

int64_t xn_linear_scratch(const xn_graph* graph, int64_t rows, int32_t op, int32_t num_threads, int32_t isa) {
  const Call call(graph, nullptr, num_threads, isa);
  if (call.status({}) || !check_rows(rows)) return -1;
  size_t bytes = 0;
  if (op == XN_FORWARD) {
    if (rows > few_rows)
      bytes = call.kernels->apply_scratch(call.forward(xn::rows_layout(rows, graph->num_in, graph->num_out), 1));
  } else if (op == XN_GRAD_WEIGHT) {
    if (rows > few_rows)
      bytes = call.kernels->dots_scratch(call.dots(xn::rows_layout(rows, graph->num_in, graph->num_out), 1));
  } else if (op == XN_GRAD_INPUT && call.has_transpose()) {
    bytes = rows <= few_rows
                ? call.kernels->few_grad_input_scratch(call.few(rows))
                : call.kernels->apply_scratch(call.backward(xn::rows_layout(rows, graph->num_out, graph->num_in), 1)) +
                      static_cast<size_t>(call.weight_bytes(1));
  } else {
    return -1;
  }
  return static_cast<int64_t>(bytes + 64);
}

int32_t xn_linear_forward(const xn_graph* graph, int64_t rows, const float* x, const float* weight, const float* bias,
                          float* y, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({scratch})) return bad;
  if (!check_rows(rows)) return XN_BAD_ARGUMENT;
  if (rows <= few_rows) {
    Few few = call.few(rows);
    few.weight = weight, few.bias = bias, few.x = x, few.result = y;
    call.kernels->few_forward(few);
    return XN_OK;
  }
  const Layout layout = xn::rows_layout(rows, graph->num_in, graph->num_out);
  Apply apply = call.forward(layout, 1);
  apply.weight = weight, apply.bias = bias, apply.source = x, apply.target = y;
  call.kernels->apply(apply);
  return XN_OK;
}

int32_t xn_linear_grad_input(const xn_graph* graph, int64_t rows, const float* grad_y, const float* weight,
                             float* grad_x, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({scratch})) return bad;
  if (!check_rows(rows) || !call.has_transpose()) return XN_BAD_ARGUMENT;
  if (rows <= few_rows) {
    Few few = call.few(rows);
    few.weight = weight, few.grad_y = grad_y, few.result = grad_x;
    call.kernels->few_grad_input(few);
    return XN_OK;
  }
  float* transposed = reinterpret_cast<float*>(call.scratch);
  xn::transpose_weights(*graph, weight, 1, transposed, call.threads);
  const Layout layout = xn::rows_layout(rows, graph->num_out, graph->num_in);
  Apply apply = call.backward(layout, 1);
  apply.weight = transposed, apply.source = grad_y, apply.target = grad_x;
  call.kernels->apply(apply);
  return XN_OK;
}

int32_t xn_linear_grad_weight(const xn_graph* graph, int64_t rows, const float* x, const float* grad_y,
                              float* grad_weight, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({scratch})) return bad;
  if (!check_rows(rows)) return XN_BAD_ARGUMENT;
  if (rows <= few_rows) {
    Few few = call.few(rows);
    few.x = x, few.grad_y = grad_y, few.result = grad_weight;
    call.kernels->few_grad_weight(few);
    return XN_OK;
  }
  const Layout layout = xn::rows_layout(rows, graph->num_in, graph->num_out);
  Dots dots = call.dots(layout, 1);
  dots.x = x, dots.grad_y = grad_y, dots.grad_weight = grad_weight;
  call.kernels->dots(dots);
  return XN_OK;
}

}  // extern "C"
