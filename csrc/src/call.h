// What the C functions have in common: checked arguments, the kernels and threads of a call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "cpu.h"
#include "parallel.h"
#include "transpose.h"
#include "xnets.h"

namespace xn {

// Up to so many rows of features each weight is used as it is read.
constexpr int64_t few_rows = 4;
constexpr int64_t most_int = INT32_MAX, most_taps = 1 << 20;

inline Rows forward_rows(const xn_graph& g) {
  return {g.indptr, g.indices, g.num_in, g.num_out, g.b_out, g.b_in, g.turns};
}
inline Rows backward_rows(const xn_graph& g) {
  return {g.t_indptr, g.t_indices, g.num_out, g.num_in, g.b_in, g.b_out, g.t_turns};
}

inline int64_t num_edges(const xn_graph& g) { return int64_t{g.indptr[g.num_out / g.b_out]} * g.b_out * g.b_in; }
inline int32_t kernel_taps(const xn_conv& c) { return c.kernel[0] * c.kernel[1] * c.kernel[2]; }

inline bool check_geometry(const xn_conv& c) {
  if (c.batch < 0) return false;
  int64_t input = std::max(c.batch, 1), kernel = 1, padded = 1, stride = 1;
  for (int a = 0; a < 3; ++a) {
    if (c.input[a] < 0 || c.kernel[a] < 1 || c.stride[a] < 1 || c.padding[a] < 0 || c.dilation[a] < 1) return false;
    const int64_t reach = int64_t{c.dilation[a]} * (c.kernel[a] - 1) + 1;
    const int64_t extent = int64_t{c.input[a]} + 2 * int64_t{c.padding[a]} + reach + 16;
    input *= std::max(c.input[a], 1), kernel *= c.kernel[a], padded *= extent, stride *= c.stride[a];
    if (input > most_int || kernel > most_taps || padded > most_int || stride > most_int) return false;
  }
  return true;
}

inline bool check_conv(const xn_conv& c, const xn_graph& g) {
  return check_geometry(c) && num_edges(g) <= INT64_MAX / 8 / kernel_taps(c);
}

inline bool check_rows(int64_t rows) { return rows >= 0 && rows <= most_int - 64; }

// Where every row stands alone loads bind, so that they should be aligned; elsewhere gaps cost more.
inline Columns columns_for(const Rows& rows) { return rows.b_out % 2 ? Columns::aligned : Columns::compact; }

// Whether the kernels that take an input for each output know its windows.
inline bool has_windows(const xn_conv& c) {
  const bool pixels = c.input[1] > 0 && c.input[2] > 0;
  const bool flat = pixels && c.input[0] == 1 && c.kernel[0] == 1 && c.stride[0] == 1 && c.padding[0] == 0;
  const bool square = c.kernel[1] == c.kernel[2] && c.stride[1] == c.stride[2] && c.padding[1] == c.padding[2];
  const bool known = (c.kernel[2] == 3 || c.kernel[2] == 5) && c.stride[2] <= 2 && c.padding[2] <= c.kernel[2];
  if (!flat || !square || !known || c.dilation[1] != 1 || c.dilation[2] != 1) return false;
  const Int3 size = output_size(c);
  return size[1] > 0 && size[2] > 0;
}

// Whether a convolution is one for those kernels.
inline bool is_depthwise(const xn_graph& g, const xn_conv& c) {
  if (g.b_out != 1 || g.b_in != 1 || !has_windows(c)) return false;
  for (int32_t i = 0; i <= g.num_out; ++i)
    if (g.indptr[i] != i) return false;
  return true;
}

// Whether the gradient to its input is another: that of its outputs, one for each input, with kernels turned about.
inline bool is_depthwise_backward(const xn_graph& g, const xn_conv& c) {
  if (!is_depthwise(g, c) || g.num_in != g.num_out || c.stride[2] != 1 || c.padding[2] >= c.kernel[2]) return false;
  for (int32_t i = 0; i <= g.num_in; ++i)
    if (g.t_indptr[i] != i) return false;
  return c.input[1] > 0 && c.input[2] > 0;
}

// Whether Winograd's algorithm knows the convolution; whether it pays is for the kernels to say.
inline bool is_winograd(const xn_conv& c) {
  for (int a = 0; a < 3; ++a)
    if (c.kernel[a] != (a ? 3 : 1) || c.stride[a] != 1 || c.dilation[a] != 1 || c.padding[a] > (a ? 2 : 0)) return false;
  return c.input[0] == 1;
}

// Floats.
inline int64_t winograd_size(const xn_graph& g) { return wino_weight_ld(num_edges(g)) * 16; }

// Three ways through the graph.
enum class Way { forward, transposed, scattered };

struct Call {
  const xn_graph* graph;
  const Kernels* kernels;
  int threads;
  bool direct, forced;  // never, always by Winograd's algorithm
  char* scratch;

  Call(const xn_graph* g, void* memory, int32_t num_threads, int32_t isa)
      : graph(g),
        kernels(kernels_for(isa)),
        threads(resolve_threads(num_threads)),
        direct(isa & XN_DIRECT),
        forced(isa & XN_WINOGRAD),
        scratch(reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory) + 63) / 64 * 64)) {}

  int32_t status(std::initializer_list<const void*> needed) const {
    if (!kernels) return XN_BAD_ISA;
    if (!graph || !check_graph(*graph)) return XN_BAD_ARGUMENT;
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
  Depthwise depthwise(const xn_conv& c) const {
    const Int3 size = output_size(c);
    const int64_t in = int64_t{c.input[1]} * c.input[2] * graph->num_in;
    const int64_t out = int64_t{size[1]} * size[2] * graph->num_out;
    return {c.batch,    graph->num_in, graph->num_out, c.input[1], c.input[2],  size[1],      size[2], c.kernel[2],
            c.stride[2], c.padding[2], graph->indices, nullptr,    nullptr,     nullptr,      nullptr, nullptr,
            in,         out,           0,              {},         nullptr,     scratch,      threads};
  }
  // Its weights, turned about, lie before the scratch of the kernels.
  Depthwise depthwise_backward(const xn_conv& c) const {
    Depthwise d = depthwise(c);
    std::swap(d.height, d.out_height), std::swap(d.width, d.out_width), std::swap(d.x_image, d.y_image);
    d.padding = d.kernel - 1 - d.padding;
    d.index = graph->t_indices;
    d.weight = reinterpret_cast<const float*>(scratch);
    d.scratch = scratch + (scratch ? weight_bytes(kernel_taps(c)) : 0);
    return d;
  }
  // With the points of the weights made already, or before the scratch of the algorithm.
  Winograd winograd(const xn_conv& c, Way way, const float* points = nullptr) const {
    const Int3 size = output_size(c);
    const int64_t x_pixels = int64_t{c.input[1]} * c.input[2], y_pixels = int64_t{size[1]} * size[2];
    const bool made = points != nullptr;
    Winograd w{way == Way::transposed ? backward_rows(*graph) : forward_rows(*graph), way == Way::scattered, c.batch,
               c.input[1], c.input[2], size[1], size[2], c.padding[1], c.padding[2],
               made ? points : reinterpret_cast<float*>(scratch), wino_weight_ld(num_edges(*graph)), made, forced, nullptr, nullptr,
               nullptr, x_pixels * graph->num_in, y_pixels * graph->num_out,
               scratch && !made ? scratch + winograd_size(*graph) * 4 : scratch, threads};
    if (way == Way::forward) return w;
    std::swap(w.height, w.out_height), std::swap(w.width, w.out_width), std::swap(w.source_image, w.target_image);
    w.top = 2 - w.top, w.left = 2 - w.left;
    return w;
  }
  void make_points(const float* weight, bool flip, float* to) const {
    kernels->winograd_weights(weight, num_edges(*graph), flip, to, threads);
  }
  // Bytes of scratch, or 0 if the algorithm is not for this call.
  size_t winograd_bytes(const Winograd& w, const xn_conv& c) const {
    if (direct || !is_winograd(c)) return 0;
    const size_t bytes = kernels->winograd_scratch(w);
    return bytes && !w.made ? bytes + static_cast<size_t>(winograd_size(*graph)) * 4 : bytes;
  }
  size_t winograd_bytes(const xn_conv& c, Way way, const float* points = nullptr) const {
    if (way == Way::forward && is_depthwise(*graph, c)) return 0;
    return winograd_bytes(winograd(c, way, points), c);
  }

  Few few(int64_t rows) const {
    return {forward_rows(*graph), static_cast<int32_t>(rows), nullptr, nullptr, nullptr, nullptr, nullptr, scratch,
            threads};
  }
  Dots dots(const Layout& layout, int32_t taps) const {
    return {forward_rows(*graph), &layout, taps, nullptr, nullptr, nullptr, scratch, threads};
  }
};

}  // namespace xn
