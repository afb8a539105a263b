// The C functions: check the arguments, choose the layout, call the kernels.
#include <algorithm>
#include <cstdint>

#include "call.h"
#include "turns.h"

using xn::Apply;
using xn::backward_rows;
using xn::Call;
using xn::check_conv;
using xn::check_rows;
using xn::Columns;
using xn::columns_for;
using xn::Depthwise;
using xn::Dots;
using xn::Few;
using xn::few_rows;
using xn::forward_rows;
using xn::is_depthwise;
using xn::is_depthwise_backward;
using xn::kernel_taps;
using xn::Layout;
using xn::num_edges;
using xn::Way;
using xn::Winograd;

namespace {

Layout conv_layout(const Call& call, const xn_conv& conv) {
  return xn::forward_layout(conv, call.graph->num_in, call.graph->num_out, columns_for(forward_rows(*call.graph)));
}

Layout phase_layout(const Call& call, const xn_conv& conv, int64_t phase, Columns columns) {
  return xn::grad_input_layout(conv, call.graph->num_in, call.graph->num_out, phase, columns);
}

// Scratch for the gradient to the input by scattering, or 0 if that is not for this call.
size_t scatter_bytes(const Call& call, const xn_conv& conv) {
  size_t bytes = 0;
  for (int64_t phase = 0; phase < xn::grad_input_phases(conv); ++phase) {
    const Layout layout = phase_layout(call, conv, phase, Columns::compact);
    if (layout.idle()) continue;
    const size_t needed = call.kernels->scatter_scratch(call.forward(layout, kernel_taps(conv)));
    if (!needed) return 0;
    bytes = std::max(bytes, needed);
  }
  return bytes;
}

// Where the stride exceeds the kernel no tap reaches some pixels: zeros everywhere first, for those lie far apart.
void clear_if_idle(const Call& call, const xn_conv& conv, float* grad_x) {
  if (xn::grad_input_phases(conv) == 1) return;
  bool any = false;
  for (int64_t phase = 0; phase < xn::grad_input_phases(conv); ++phase) {
    const Layout layout = phase_layout(call, conv, phase, Columns::compact);
    any |= layout.idle() && !layout.empty();
  }
  if (!any) return;
  const int64_t pixels = int64_t{conv.input[0]} * conv.input[1] * conv.input[2];
  const int64_t size = pixels * conv.batch * call.graph->num_in;
  auto clear = [&](int thread, int threads) {
    std::fill(grad_x + size * thread / threads, grad_x + size * (thread + 1) / threads, 0.0f);
  };
  xn::parallel_for_threads(call.threads, clear);
}

// The way of a gradient to the input by Winograd's algorithm, and its scratch: 0 if that is not for this call.
struct WinogradBackward {
  Way way;
  size_t bytes;

  WinogradBackward(const Call& call, const xn_conv& conv) : way(Way::scattered), bytes(0) {
    if (is_depthwise_backward(*call.graph, conv)) return;
    bytes = call.winograd_bytes(conv, way);
    if (bytes || call.direct || !xn::is_winograd(conv)) return;
    way = Way::transposed;
    Winograd transposed = call.winograd(conv, way);
    transposed.rival_shares = scatter_bytes(call, conv) > 0;
    bytes = call.winograd_bytes(transposed, conv);
  }
};

// The kernels of a depthwise convolution as the gradient to its input takes them.
void turn_about(const xn_graph& graph, const float* weight, int32_t taps, float* to) {
  for (int32_t i = 0; i < graph.num_in; ++i) {
    const float* from = weight + int64_t{graph.t_edges[i]} * taps;
    std::reverse_copy(from, from + taps, to + int64_t{i} * taps);
  }
}

// An array without numbers may be NULL.
struct Array {
  const void* first;
  bool has_numbers;
};

bool all_there(std::initializer_list<Array> arrays) {
  return std::all_of(arrays.begin(), arrays.end(), [](const Array& a) { return a.first || !a.has_numbers; });
}

Array input_array(const void* first, const xn_conv& c, const xn_graph& g) {
  return {first, c.batch > 0 && g.num_in > 0 && c.input[0] > 0 && c.input[1] > 0 && c.input[2] > 0};
}
Array output_array(const void* first, const xn_conv& c, const xn_graph& g) {
  const xn::Int3 size = xn::output_size(c);
  return {first, c.batch > 0 && g.num_out > 0 && size[0] > 0 && size[1] > 0 && size[2] > 0};
}
Array weight_array(const void* first, const xn_graph& g) { return {first, num_edges(g) > 0}; }

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

int32_t xn_conv_is_winograd(const xn_graph* graph, const xn_conv* conv, int32_t op, int32_t num_threads, int32_t isa) {
  const Call call(graph, nullptr, num_threads, isa);
  if (call.status({conv}) || !check_conv(*conv, *graph) || op < XN_FORWARD || op > XN_GRAD_WEIGHT) return -1;
  if (op == XN_GRAD_WEIGHT) return 0;
  if (op == XN_FORWARD) return call.winograd_bytes(*conv, Way::forward) > 0;
  return call.has_transpose() ? WinogradBackward(call, *conv).bytes > 0 : -1;
}

int64_t xn_winograd_size(const xn_graph* graph, const xn_conv* conv, int32_t isa) {
  const Call call(graph, nullptr, 1, isa);
  if (call.status({conv}) || !check_conv(*conv, *graph)) return -1;
  static const float made = 0;  // an address, as of weights that exist
  return call.winograd_bytes(*conv, Way::forward, &made) ? xn::winograd_size(*graph) : 0;
}

int32_t xn_winograd_weight(const xn_graph* graph, const float* weight, float* to, int32_t num_threads, int32_t isa) {
  const Call call(graph, nullptr, num_threads, isa);
  if (const int32_t bad = call.status({to})) return bad;
  if (!weight && num_edges(*graph)) return XN_BAD_ARGUMENT;
  call.make_points(weight, false, to);
  return XN_OK;
}

int64_t xn_turns_room(const xn_graph* graph, int32_t op, int32_t isa) {
  const Call call(graph, nullptr, 1, isa);
  if (call.status({}) || (op != XN_FORWARD && op != XN_GRAD_INPUT)) return -1;
  if (op == XN_GRAD_INPUT && !call.has_transpose()) return -1;
  return xn::turn_table_room(op == XN_FORWARD ? forward_rows(*graph) : backward_rows(*graph));
}

int64_t xn_turns(const xn_graph* graph, int32_t op, int32_t* table, int64_t room) {
  const int64_t needed = xn_turns_room(graph, op, XN_ISA_GENERIC);
  if (needed <= 0) return needed;
  if (room < needed || !table) return -1;
  return xn::write_turns(op == XN_FORWARD ? forward_rows(*graph) : backward_rows(*graph), table, needed);
}

int64_t xn_conv_scratch(const xn_graph* graph, const xn_conv* conv, int32_t op, int32_t num_threads, int32_t isa) {
  const Call call(graph, nullptr, num_threads, isa);
  if (call.status({conv}) || !check_conv(*conv, *graph)) return -1;
  const int32_t taps = kernel_taps(*conv);
  size_t bytes = 0;
  if (op == XN_FORWARD && is_depthwise(*graph, *conv)) {
    bytes = call.kernels->depthwise_scratch(call.depthwise(*conv));
  } else if (op == XN_FORWARD) {
    bytes = call.winograd_bytes(*conv, Way::forward);
    if (!bytes) bytes = call.kernels->apply_scratch(call.forward(conv_layout(call, *conv), taps));
  } else if (op == XN_GRAD_WEIGHT && is_depthwise(*graph, *conv)) {
    bytes = call.kernels->depthwise_scratch(call.depthwise(*conv));
  } else if (op == XN_GRAD_WEIGHT) {
    bytes = call.kernels->dots_scratch(call.dots(conv_layout(call, *conv), taps));
  } else if (op == XN_GRAD_INPUT && call.has_transpose() && is_depthwise_backward(*graph, *conv)) {
    bytes = call.kernels->depthwise_scratch(call.depthwise_backward(*conv)) + static_cast<size_t>(call.weight_bytes(taps));
  } else if (op == XN_GRAD_INPUT && call.has_transpose()) {
    const WinogradBackward winograd(call, *conv);
    bytes = winograd.bytes;
    if (winograd.way == Way::transposed && bytes) bytes += static_cast<size_t>(call.weight_bytes(taps));
    if (!bytes) bytes = scatter_bytes(call, *conv);
    if (!bytes) {
      const Columns columns = columns_for(backward_rows(*graph));
      for (int64_t phase = 0; phase < xn::grad_input_phases(*conv); ++phase) {
        const Layout layout = phase_layout(call, *conv, phase, columns);
        if (!layout.idle()) bytes = std::max(bytes, call.kernels->apply_scratch(call.backward(layout, taps)));
      }
      bytes += static_cast<size_t>(call.weight_bytes(taps));
    }
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
  if (!all_there({input_array(x, *conv, *graph), weight_array(weight, *graph), output_array(y, *conv, *graph)}))
    return XN_BAD_ARGUMENT;
  if (is_depthwise(*graph, *conv)) {
    Depthwise depthwise = call.depthwise(*conv);
    depthwise.weight = weight, depthwise.bias = bias, depthwise.x = x, depthwise.y = y;
    call.kernels->depthwise(depthwise);
    return XN_OK;
  }
  if (call.winograd_bytes(*conv, Way::forward)) {
    Winograd winograd = call.winograd(*conv, Way::forward);
    winograd.bias = bias, winograd.source = x, winograd.target = y;
    call.make_points(weight, false, reinterpret_cast<float*>(call.scratch));
    call.kernels->winograd(winograd);
    return XN_OK;
  }
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
  if (!all_there({output_array(grad_y, *conv, *graph), weight_array(weight, *graph), input_array(grad_x, *conv, *graph)}))
    return XN_BAD_ARGUMENT;
  const int32_t taps = kernel_taps(*conv);
  if (is_depthwise_backward(*graph, *conv)) {
    Depthwise depthwise = call.depthwise_backward(*conv);
    depthwise.x = grad_y, depthwise.y = grad_x;
    turn_about(*graph, weight, taps, reinterpret_cast<float*>(call.scratch));
    call.kernels->depthwise(depthwise);
    return XN_OK;
  }
  if (const WinogradBackward backward(call, *conv); backward.bytes) {
    Winograd winograd = call.winograd(*conv, backward.way);
    winograd.source = grad_y, winograd.target = grad_x;
    float* transposed = reinterpret_cast<float*>(call.scratch + backward.bytes);
    if (backward.way == Way::transposed) xn::transpose_weights(*graph, weight, taps, transposed, call.threads);
    call.make_points(backward.way == Way::transposed ? transposed : weight, true, reinterpret_cast<float*>(call.scratch));
    call.kernels->winograd(winograd);
    return XN_OK;
  }
  clear_if_idle(call, *conv, grad_x);
  if (scatter_bytes(call, *conv)) {
    for (int64_t phase = 0; phase < xn::grad_input_phases(*conv); ++phase) {
      const Layout layout = phase_layout(call, *conv, phase, Columns::compact);
      Apply apply = call.forward(layout, taps);
      apply.weight = weight, apply.source = grad_y, apply.target = grad_x;
      if (!layout.idle()) call.kernels->scatter(apply);
    }
    return XN_OK;
  }
  float* transposed = reinterpret_cast<float*>(call.scratch);
  const Columns columns = columns_for(backward_rows(*graph));
  if (conv->batch > 0) xn::transpose_weights(*graph, weight, taps, transposed, call.threads);
  for (int64_t phase = 0; phase < xn::grad_input_phases(*conv); ++phase) {
    const Layout layout = phase_layout(call, *conv, phase, columns);
    Apply apply = call.backward(layout, taps);
    apply.weight = transposed, apply.source = grad_y, apply.target = grad_x;
    if (!layout.idle()) call.kernels->apply(apply);
  }
  return XN_OK;
}

int32_t xn_conv_grad_weight(const xn_graph* graph, const xn_conv* conv, const float* x, const float* grad_y,
                            float* grad_weight, void* scratch, int32_t num_threads, int32_t isa) {
  const Call call(graph, scratch, num_threads, isa);
  if (const int32_t bad = call.status({conv, scratch})) return bad;
  if (!check_conv(*conv, *graph)) return XN_BAD_ARGUMENT;
  if (!all_there({input_array(x, *conv, *graph), output_array(grad_y, *conv, *graph), weight_array(grad_weight, *graph)}))
    return XN_BAD_ARGUMENT;
  if (is_depthwise(*graph, *conv)) {
    Depthwise depthwise = call.depthwise(*conv);
    depthwise.x = x;
    if (conv->batch > 0) call.kernels->depthwise_dots(depthwise, grad_y, grad_weight);
    else std::fill(grad_weight, grad_weight + num_edges(*graph) * kernel_taps(*conv), 0.0f);
    return XN_OK;
  }
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
    const Layout layout = xn::rows_layout(rows, graph->num_out, graph->num_in);
    const size_t scattered = rows <= few_rows ? 0 : call.kernels->scatter_scratch(call.forward(layout, 1));
    bytes = rows <= few_rows ? call.kernels->few_grad_input_scratch(call.few(rows))
            : scattered      ? scattered
                             : call.kernels->apply_scratch(call.backward(layout, 1)) + static_cast<size_t>(call.weight_bytes(1));
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
  if (!all_there({{x, rows && graph->num_in}, weight_array(weight, *graph), {y, rows && graph->num_out}}))
    return XN_BAD_ARGUMENT;
  if (rows <= few_rows) {
    Few few = call.few(rows);
    few.weight = weight, few.bias = bias, few.x = x, few.result = y;
    few.x_ld = graph->num_in, few.result_ld = graph->num_out;
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
  if (!all_there({{grad_y, rows && graph->num_out}, weight_array(weight, *graph), {grad_x, rows && graph->num_in}}))
    return XN_BAD_ARGUMENT;
  if (rows <= few_rows) {
    Few few = call.few(rows);
    few.weight = weight, few.grad_y = grad_y, few.result = grad_x;
    call.kernels->few_grad_input(few);
    return XN_OK;
  }
  const Layout layout = xn::rows_layout(rows, graph->num_out, graph->num_in);
  if (call.kernels->scatter_scratch(call.forward(layout, 1))) {
    Apply apply = call.forward(layout, 1);
    apply.weight = weight, apply.source = grad_y, apply.target = grad_x;
    call.kernels->scatter(apply);
    return XN_OK;
  }
  float* transposed = reinterpret_cast<float*>(call.scratch);
  xn::transpose_weights(*graph, weight, 1, transposed, call.threads);
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
  if (!all_there({{x, rows && graph->num_in}, {grad_y, rows && graph->num_out}, weight_array(grad_weight, *graph)}))
    return XN_BAD_ARGUMENT;
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
