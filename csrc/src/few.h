// Linear layers with few rows of features. Every weight is used once or twice, so the loops run along the edges of an
// output and read the weights as they lie in memory.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

constexpr int32_t few_run = 128;  // edges whose products are added up before they are added to the rest: rounds better

// R outputs of one block times the inputs that `inputs(k)` finds for edges k .. k + 3. Inputs are put together by four
// scalar loads: faster than the gather instruction, and every machine can.
template <int R, typename Inputs>
XN_INLINE int32_t dot_quads(const float* weight, int64_t weight_ld, int32_t count, const Inputs& inputs,
                            Quad (&acc)[R]) {
  constexpr int turns = R == 1 ? 4 : 2;  // quads of edges that are added up on their own: one chain would bind
  constexpr int32_t step = 4 * turns;
  int32_t k = 0;
  while (k + step <= count) {
    Quad run[turns][R] = {};
    for (const int32_t end = least(k + few_run, count); k + step <= end; k += step)
#pragma GCC unroll 4
      for (int t = 0; t < turns; ++t) {
        const Quad x = inputs(k + 4 * t);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) run[t][r] += load_quad(weight + r * weight_ld + k + 4 * t) * x;
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      if constexpr (turns == 4) run[0][r] += run[2][r], run[1][r] += run[3][r];
      acc[r] += run[0][r] + run[1][r];
    }
  }
  for (; k + 4 <= count; k += 4) {
    const Quad a = inputs(k);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[r] += load_quad(weight + r * weight_ld + k) * a;
  }
  return k;
}

template <int R>
static void few_dot(const Few& a, int32_t block, int32_t first, const float* x, float* y, const float* residual) {
  const Rows& graph = a.graph;
  const int32_t* index = graph.indices + graph.indptr[block];
  const int32_t b_in = graph.b_in, count = graph.degree(block);
  const int64_t row = int64_t{block} * graph.b_out + first;
  const float* weight = a.weight + graph.first_edge(block, first);
  auto input = [&](int32_t k) { return x + int64_t{index[k / b_in]} * b_in + k % b_in; };

  Quad acc[R] = {};
  int32_t k = 0;
  if (b_in == 1)
    k = dot_quads<R>(weight, count, count, [&](int32_t e) {
      return Quad{x[index[e]], x[index[e + 1]], x[index[e + 2]], x[index[e + 3]]};
    }, acc);
  else if (b_in == 4)
    k = dot_quads<R>(weight, count, count, [&](int32_t e) { return load_quad(x + index[e / 4] * 4); }, acc);
  else if (b_in == 8)
    k = dot_quads<R>(weight, count, count, [&](int32_t e) { return load_quad(x + index[e / 8] * 8 + e % 8); }, acc);
  else if (b_in % 4 == 0)
    k = dot_quads<R>(weight, count, count, [&](int32_t e) { return load_quad(input(e)); }, acc);
  else
    k = dot_quads<R>(weight, count, count, [&](int32_t e) {
      return Quad{*input(e), *input(e + 1), *input(e + 2), *input(e + 3)};
    }, acc);
  for (int r = 0; r < R; ++r) {
    float total = (acc[r][0] + acc[r][1]) + (acc[r][2] + acc[r][3]) + (a.bias ? a.bias[row + r] : 0.0f);
    for (int32_t j = k; j < count; ++j) total += weight[int64_t{r} * count + j] * *input(j);
    y[row + r] = residual ? total + residual[row + r] : total;
  }
}

static void few_forward_block(const Few& a, int32_t block, const float* x, float* y, const float* residual) {
  int32_t r = 0;
  for (; r + 4 <= a.graph.b_out; r += 4) few_dot<4>(a, block, r, x, y, residual);
  for (; r < a.graph.b_out; ++r) few_dot<1>(a, block, r, x, y, residual);
}

static void few_forward(const Few& a) {
  auto body = [&](int thread, int threads) {
    const int64_t blocks = a.graph.blocks();
    const int32_t begin = static_cast<int32_t>(blocks * thread / threads);
    const int32_t end = static_cast<int32_t>(blocks * (thread + 1) / threads);
    const float* residual = a.finish ? a.finish->residual : nullptr;
    for (int32_t i = begin; i < end; ++i)
      for (int32_t row = 0; row < a.rows; ++row)
        few_forward_block(a, i, a.x + row * a.x_ld, a.result + row * a.result_ld,
                          residual ? residual + row * a.finish->residual_image : nullptr);
    if (!a.finish || a.finish->act.kind == XN_ACT_NONE) return;
    for (int32_t row = 0; row < a.rows; ++row) {
      float* y = a.result + row * a.result_ld + int64_t{begin} * a.graph.b_out;
      map_run(y, y, nullptr, int64_t{end - begin} * a.graph.b_out, 1.0f, 0.0f, a.finish->act);
    }
  };
  parallel_for_threads(a.threads, body);
}

// One block's part of the gradient to the input: R outputs are summed up before they are added where their inputs lie.
template <int R>
static void few_scatter(const Few& a, int32_t block, int32_t first, const float* grad_y, float* grad_x) {
  const Rows& graph = a.graph;
  const int32_t* index = graph.indices + graph.indptr[block];
  const int32_t b_in = graph.b_in, count = graph.degree(block);
  const float* weight = a.weight + graph.first_edge(block, first);
  const float* grad = grad_y + int64_t{block} * graph.b_out + first;
  auto quad = [&](int32_t k) {
    Quad total = grad[0] * load_quad(weight + k);
#pragma GCC unroll 4
    for (int r = 1; r < R; ++r) total += grad[r] * load_quad(weight + int64_t{r} * count + k);
    return total;
  };
  int32_t k = 0;
  if (b_in == 1) {
    for (; k + 4 <= count; k += 4) {
      const Quad total = quad(k);
      for (int i = 0; i < 4; ++i) grad_x[index[k + i]] += total[i];
    }
  } else if (b_in % 4 == 0) {
    for (; k < count; k += 4) {
      float* to = grad_x + int64_t{index[k / b_in]} * b_in + k % b_in;
      *reinterpret_cast<UnalignedQuad*>(to) += quad(k);
    }
  }
  for (; k < count; ++k) {
    float total = 0;
    for (int r = 0; r < R; ++r) total += grad[r] * weight[int64_t{r} * count + k];
    grad_x[int64_t{index[k / b_in]} * b_in + k % b_in] += total;
  }
}

// So many parts, shared out to the threads, are summed up on their own: a sum in one piece would round worse.
static int64_t few_parts(const Few& a) { return round_up(8, a.threads); }

static size_t few_grad_input_scratch(const Few& a) {
  return sizeof(float) * static_cast<size_t>(few_parts(a)) * a.rows * a.graph.num_in;
}

// Each part holds what its own outputs give; then all parts are added, in order.
static void few_grad_input(const Few& a) {
  const Rows& graph = a.graph;
  const int64_t size = int64_t{a.rows} * graph.num_in, parts = few_parts(a);
  float* partial = static_cast<float*>(a.scratch);
  auto scatter = [&](int thread, int threads) {
    for (int64_t p = parts * thread / threads; p < parts * (thread + 1) / threads; ++p) {
      float* part = partial + p * size;
      for (int64_t i = 0; i < size; ++i) part[i] = 0;
      const int32_t begin = static_cast<int32_t>(int64_t{graph.blocks()} * p / parts);
      const int32_t end = static_cast<int32_t>(int64_t{graph.blocks()} * (p + 1) / parts);
      for (int32_t block = begin; block < end; ++block)
        for (int32_t row = 0; row < a.rows; ++row) {
          const float* grad_y = a.grad_y + int64_t{row} * graph.num_out;
          float* grad_x = part + int64_t{row} * graph.num_in;
          int32_t r = 0;
          for (; r + 4 <= graph.b_out; r += 4) few_scatter<4>(a, block, r, grad_y, grad_x);
          for (; r < graph.b_out; ++r) few_scatter<1>(a, block, r, grad_y, grad_x);
        }
    }
  };
  parallel_for_threads(a.threads, scatter);
  auto add = [&](int thread, int threads) {
    for (int64_t i = size * thread / threads; i < size * (thread + 1) / threads; ++i) {
      float total = 0;
      for (int64_t p = 0; p < parts; ++p) total += partial[p * size + i];
      a.result[i] = total;
    }
  };
  parallel_for_threads(a.threads, add);
}

// The weights' gradient, in the order of memory: grad_y of the output times the inputs of its edges.
template <typename Inputs>
XN_INLINE int32_t outer_quads(float* to, int32_t count, int32_t rows, const float* grad_y, int64_t grad_ld,
                              const Inputs& inputs) {
  int32_t k = 0;
  for (; k + 4 <= count; k += 4) {
    Quad total = grad_y[0] * inputs(k, 0);
    for (int32_t row = 1; row < rows; ++row) total += grad_y[row * grad_ld] * inputs(k, row);
    *reinterpret_cast<UnalignedQuad*>(to + k) = total;
  }
  return k;
}

static void few_outer(const Few& a, int32_t block, int32_t r) {
  const Rows& graph = a.graph;
  const int32_t* index = graph.indices + graph.indptr[block];
  const int32_t b_in = graph.b_in, count = graph.degree(block);
  const float* grad_y = a.grad_y + int64_t{block} * graph.b_out + r;
  float* to = a.result + graph.first_edge(block, r);
  const int64_t ld = graph.num_in;
  int32_t k = 0;
  if (b_in == 1)
    k = outer_quads(to, count, a.rows, grad_y, graph.num_out, [&](int32_t e, int32_t row) {
      const float* x = a.x + row * ld;
      return Quad{x[index[e]], x[index[e + 1]], x[index[e + 2]], x[index[e + 3]]};
    });
  else if (b_in % 4 == 0)
    k = outer_quads(to, count, a.rows, grad_y, graph.num_out, [&](int32_t e, int32_t row) {
      return load_quad(a.x + row * ld + int64_t{index[e / b_in]} * b_in + e % b_in);
    });
  for (; k < count; ++k) {
    float total = 0;
    for (int32_t row = 0; row < a.rows; ++row)
      total += grad_y[int64_t{row} * graph.num_out] * a.x[row * ld + int64_t{index[k / b_in]} * b_in + k % b_in];
    to[k] = total;
  }
}

static void few_grad_weight(const Few& a) {
  const Rows& graph = a.graph;
  if (a.rows == 0) {
    const int64_t edges = graph.first_edge(graph.blocks() - 1, graph.b_out);
    for (int64_t e = 0; e < edges; ++e) a.result[e] = 0;
    return;
  }
  auto body = [&](int thread, int threads) {
    const int64_t blocks = graph.blocks();
    const int32_t begin = static_cast<int32_t>(blocks * thread / threads);
    const int32_t end = static_cast<int32_t>(blocks * (thread + 1) / threads);
    for (int32_t i = begin; i < end; ++i)
      for (int32_t r = 0; r < graph.b_out; ++r) few_outer(a, i, r);
  };
  parallel_for_threads(a.threads, body);
}

}  // namespace xn::XN_ISA
