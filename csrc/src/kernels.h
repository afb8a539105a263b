// What one instruction set offers. Each is compiled from the same sources in a namespace of its own; the
// rest of the library reaches them only through this table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.h"

namespace xn {

// A bipartite graph in one direction: from the channels that are read to the rows that are computed.
struct Rows {
  const int32_t* indptr;
  const int32_t* indices;
  int32_t num_in, num_out, b_out, b_in;
  const int32_t* turns = nullptr;  // see turns.h, or null

  int32_t blocks() const { return num_out / b_out; }
  int32_t degree(int32_t i) const { return (indptr[i + 1] - indptr[i]) * b_in; }
  // Where the edges of row r of block i begin.
  int64_t first_edge(int32_t i, int32_t r) const {
    return int64_t{indptr[i]} * b_in * b_out + int64_t{r} * degree(i);
  }
};

// An activation function of xnets.h.
struct Activation {
  int32_t kind;
  float low, high;
};

// What a layer does beside its sums. The residual has the target's shape and strides, except between images.
struct Finish {
  const float* residual;  // or null
  int64_t residual_image;
  Activation act;
};

// What is done to the source as it is read, by channel; null: 1 and 0. What is padded stays zero.
struct Prepare {
  const float* scale;
  const float* shift;
  Activation act;
};

// A convolution of images in which output c has the one input index[c] (null: c), kernel 3 or 5 and stride 1 or 2 in both axes.
struct Depthwise {
  int32_t batch, channels_in, channels;
  int64_t height, width, out_height, out_width;
  int32_t kernel, stride, padding;
  const int32_t* index;
  const float* weight;
  const float* bias;
  const float* x;
  float* y;
  const float* residual;
  int64_t x_image, y_image, residual_image;
  Activation act;
  const Prepare* prepare;
  void* scratch;
  int threads;
};

// target[row] = bias[row] + sum over its edges and taps of weight * source[channel], along `layout`.
struct Apply {
  Rows graph;
  const Layout* layout;
  const float* weight;
  int32_t taps;  // of one edge in `weight`
  const float* bias;
  const float* source;
  float* target;
  void* scratch;
  int threads;
  const Finish* finish = nullptr;
  const Prepare* prepare = nullptr;
  const Depthwise* before = nullptr;  // 1x1: its output is what `layout` reads; `source` and `prepare` are then not used
};

// grad_weight[edge, tap] = sum over pixels of grad_y[row] * x[channel], along the forward `layout`.
struct Dots {
  Rows graph;
  const Layout* layout;
  int32_t taps;
  const float* x;
  const float* grad_y;
  float* grad_weight;
  void* scratch;
  int threads;
};

// Few rows of features: nothing to share a weight with, so each is read once and used at once.
struct Few {
  Rows graph;
  int32_t rows;
  const float* weight;  // not for the gradient to it
  const float* bias;
  const float* x;       // (rows, num_in)
  const float* grad_y;  // (rows, num_out)
  float* result;
  void* scratch;        // for the gradient to the input
  int threads;
  int64_t x_ld = 0, result_ld = 0;  // forward: between rows
  const Finish* finish = nullptr;   // forward
};

// Between the transformed weights of two points: places of the cache differ, however many edges there are.
constexpr int64_t wino_weight_ld(int64_t edges) { return (edges + 31) / 16 * 16; }

// A convolution 3x3 of stride 1 by transformed weights; `scatter`: from the outputs of the graph to its inputs.
struct Winograd {
  Rows graph;
  bool scatter;
  int64_t images, height, width, out_height, out_width;
  int64_t top, left;    // padding
  const float* weight;  // (16, weight_ld): points of the edges
  int64_t weight_ld;
  bool made;            // before this call
  bool forced;          // whether it pays or not
  const float* bias;
  const float* source;
  float* target;
  int64_t source_image, target_image;
  void* scratch;
  int threads;
  const Finish* finish = nullptr;
  const Prepare* prepare = nullptr;
  bool rival_shares = false;  // several rows share what they read in the way that would be taken instead
};

// y = act(x[index[c]] * scale[c] + shift[c] + residual) for every channel c; what is null is the channel itself, 1, 0, 0.
struct Map {
  int32_t batch, channels;
  int64_t pixels;
  const float* x;
  float* y;
  const float* residual;
  int64_t x_image, y_image, residual_image;
  const float* scale;
  const float* shift;
  int64_t scale_image;  // between the scales of two images
  const int32_t* index;
  Activation act;
  int threads;
};

// Maximum or mean of the windows of every channel.
struct Pool {
  int32_t batch, channels;
  Int3 input, kernel, stride, padding, dilation, output;
  const float* x;
  float* y;
  int64_t x_image, y_image;
  bool average, exclude_padding;
  Activation act;
  void* scratch;
  int threads;
};

struct Kernels {
  int lanes;
  size_t (*apply_scratch)(const Apply&);
  void (*apply)(const Apply&);
  // The gradient to the input on the forward graph and its weights: `graph.num_out` channels are read, `num_in` written.
  size_t (*scatter_scratch)(const Apply&);  // 0 if the transposed graph serves better
  void (*scatter)(const Apply&);
  size_t (*winograd_scratch)(const Winograd&);  // 0 if another way serves better
  void (*winograd)(const Winograd&);
  // The weights of the edges, (edges, 9), as points; `flip`: of the gradient to the input.
  void (*winograd_weights)(const float* weight, int64_t edges, bool flip, float* to, int threads);
  size_t (*dots_scratch)(const Dots&);
  void (*dots)(const Dots&);
  void (*few_forward)(const Few&);
  size_t (*few_grad_input_scratch)(const Few&);
  void (*few_grad_input)(const Few&);
  void (*few_grad_weight)(const Few&);
  size_t (*depthwise_scratch)(const Depthwise&);
  void (*depthwise)(const Depthwise&);
  void (*depthwise_dots)(const Depthwise&, const float* grad_y, float* grad_weight);  // with as much scratch
  void (*map)(const Map&);
  size_t (*pool_scratch)(const Pool&);
  void (*pool)(const Pool&);
};

extern const Kernels generic_kernels;
#ifdef XN_X86
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

}  // namespace xn
