#include "transpose.h"

#include <algorithm>

#include "call.h"
#include "parallel.h"
#include "turns.h"

namespace xn {
namespace {

bool check_csr(const int32_t* indptr, const int32_t* indices, int32_t rows, int32_t columns) {
  if (indptr[0] != 0) return false;
  for (int32_t i = 0; i < rows; ++i) {
    if (indptr[i + 1] < indptr[i]) return false;
    int32_t least = 0;
    for (int32_t k = indptr[i]; k < indptr[i + 1]; ++k) {
      if (indices[k] < least || indices[k] >= columns) return false;
      least = indices[k] + 1;
    }
  }
  return true;
}

}  // namespace

bool check_graph(const xn_graph& g) {
  return g.num_in >= 1 && g.num_out >= 1 && g.b_in >= 1 && g.b_out >= 1 && g.num_in % g.b_in == 0 &&
         g.num_out % g.b_out == 0 && g.indptr && (g.indices || g.indptr[g.num_out / g.b_out] == 0);
}

bool check_tables(const xn_graph& g) {
  const int32_t rows = g.num_out / g.b_out, columns = g.num_in / g.b_in;
  if (!check_csr(g.indptr, g.indices, rows, columns)) return false;
  if (g.turns && !check_turns(forward_rows(g), g.turns)) return false;
  if (!g.t_indptr) return !g.t_turns;
  if (g.indptr[rows] && (!g.t_indices || !g.t_edges)) return false;
  if (!check_csr(g.t_indptr, g.t_indices, columns, rows) || g.t_indptr[columns] != g.indptr[rows]) return false;
  for (int32_t j = 0; j < columns; ++j)
    for (int32_t k = g.t_indptr[j]; k < g.t_indptr[j + 1]; ++k) {
      const int32_t i = g.t_indices[k], e = g.t_edges[k];
      if (e < g.indptr[i] || e >= g.indptr[i + 1] || g.indices[e] != j) return false;
    }
  return !g.t_turns || check_turns(backward_rows(g), g.t_turns);
}

void transpose_tables(const xn_graph& g, int32_t* t_indptr, int32_t* t_indices, int32_t* t_edges) {
  const int32_t rows = g.num_out / g.b_out, columns = g.num_in / g.b_in;
  for (int32_t j = 0; j <= columns; ++j) t_indptr[j] = 0;
  for (int32_t e = 0; e < g.indptr[rows]; ++e) ++t_indptr[g.indices[e] + 1];
  for (int32_t j = 0; j < columns; ++j) t_indptr[j + 1] += t_indptr[j];
  for (int32_t i = 0; i < rows; ++i)
    for (int32_t e = g.indptr[i]; e < g.indptr[i + 1]; ++e) {
      const int32_t at = t_indptr[g.indices[e]]++;
      t_indices[at] = i;
      t_edges[at] = e;
    }
  for (int32_t j = columns; j > 0; --j) t_indptr[j] = t_indptr[j - 1];
  t_indptr[0] = 0;
}

namespace {

// The weights of base edge k of column j, moved. Zero stands for a size that is not known beforehand.
template <int32_t known_out, int32_t known_in, int32_t known_taps>
struct Move {
  const xn_graph& g;
  const float* weight;
  int32_t any_taps;
  float* to;

  void operator()(int32_t j, int32_t begin, int32_t end) const {
    const int32_t b_out = known_out ? known_out : g.b_out, b_in = known_in ? known_in : g.b_in;
    const int32_t taps = known_taps ? known_taps : any_taps;
    const int64_t fan_out = int64_t{g.t_indptr[j + 1] - g.t_indptr[j]} * b_out * taps;
    float* row = to + (int64_t{g.t_indptr[j]} * b_in + (begin - g.t_indptr[j])) * b_out * taps;  // of input j * b_in
    for (int32_t k = begin; k < end; ++k, row += b_out * taps) {
      const int32_t i = g.t_indices[k];
      const int64_t degree = int64_t{g.indptr[i + 1] - g.indptr[i]} * b_in * taps;
      const float* from = weight + (int64_t{g.indptr[i]} * b_out + (g.t_edges[k] - g.indptr[i])) * b_in * taps;
      for (int32_t c = 0; c < b_in; ++c)
        for (int32_t r = 0; r < b_out; ++r)
          for (int32_t t = 0; t < taps; ++t) row[c * fan_out + r * taps + t] = from[r * degree + c * taps + t];
    }
  }
};

// Lone edges need nothing but their numbers.
template <int32_t known_taps>
struct Move<1, 1, known_taps> {
  const xn_graph& g;
  const float* weight;
  int32_t any_taps;
  float* to;

  void operator()(int32_t, int32_t begin, int32_t end) const {
    const int32_t taps = known_taps ? known_taps : any_taps;
    for (int32_t k = begin; k < end; ++k)
      for (int32_t t = 0; t < taps; ++t) to[int64_t{k} * taps + t] = weight[int64_t{g.t_edges[k]} * taps + t];
  }
};

// So many base rows at a time are read, that the line each of them is at stays in the first-level cache.
int32_t rows_at_a_time(const xn_graph& g) { return std::max(512 / g.b_out, 1); }

template <int32_t b_out, int32_t b_in, int32_t taps>
void move_all(const xn_graph& g, const float* weight, int32_t any_taps, float* to, int32_t begin, int32_t end) {
  const Move<b_out, b_in, taps> move{g, weight, any_taps, to};
  const int32_t rows = g.num_out / g.b_out, step = rows_at_a_time(g);
  for (int32_t first = 0; first < rows; first += step)
    for (int32_t j = begin; j < end; ++j) {
      const int32_t* column = g.t_indices + g.t_indptr[j];
      const int32_t* column_end = g.t_indices + g.t_indptr[j + 1];
      const int32_t* from = first == 0 ? column : std::lower_bound(column, column_end, first);
      const int32_t* until = first + step >= rows ? column_end : std::lower_bound(from, column_end, first + step);
      move(j, static_cast<int32_t>(from - g.t_indices), static_cast<int32_t>(until - g.t_indices));
    }
}

using MoveAll = void (*)(const xn_graph&, const float*, int32_t, float*, int32_t, int32_t);

template <int32_t b_out, int32_t b_in>
MoveAll find_taps(int32_t taps) {
  return taps == 1 ? move_all<b_out, b_in, 1> : taps == 9 ? move_all<b_out, b_in, 9> : move_all<b_out, b_in, 0>;
}

MoveAll find_move(const xn_graph& g, int32_t taps) {
  if (g.b_out == 1 && g.b_in == 1) return find_taps<1, 1>(taps);
  if (g.b_out == 4 && g.b_in == 1) return find_taps<4, 1>(taps);
  if (g.b_out == 8 && g.b_in == 1) return find_taps<8, 1>(taps);
  if (g.b_out == 4 && g.b_in == 4) return find_taps<4, 4>(taps);
  if (g.b_out == 8 && g.b_in == 8) return find_taps<8, 8>(taps);
  return move_all<0, 0, 0>;
}

}  // namespace

void transpose_weights(const xn_graph& g, const float* weight, int32_t taps, float* to, int threads) {
  const MoveAll move = find_move(g, taps);
  const int32_t columns = g.num_in / g.b_in;
  auto body = [&](int thread, int team) {
    move(g, weight, taps, to, static_cast<int32_t>(int64_t{columns} * thread / team),
         static_cast<int32_t>(int64_t{columns} * (thread + 1) / team));
  };
  parallel_for_threads(threads, body);
}

}  // namespace xn
