// Rows that stand alone, four at a time, by a table of turns: see turns.h.
#pragma once

#include "rows.h"
#include "turns.h"

namespace xn::XN_ISA {

// The weights in the order of the turns, those of rows that have run out of edges zero.
static void order_weights(const TurnTable& table, const float* weight, float* to, int thread, int threads) {
  const int32_t* edges = table.edges();
  const int64_t all = int64_t{table.turns()} * turn_rows;
  const int64_t end = all * (thread + 1) / threads;
  for (int64_t i = all * thread / threads; i < end; ++i) to[i] = edges[i] < 0 ? 0.0f : weight[edges[i]];
}

// Where a group is.
struct Turn {
  const int32_t* input;
  const float* weight;
  const char* panel;
  uint32_t panel_ld;  // bytes
  const float* far;   // the next line to ask for
  int64_t far_step;
};

template <int kind, int P, bool asks>
XN_INLINE void take_turns(Turn& at, int32_t turns, Vec (&acc)[turn_rows][P]) {
  constexpr TurnKind k = turn_kind[kind];
  const int32_t* input = at.input;
  const float* weight = at.weight;
  const int32_t* end = input + int64_t{turns} * k.inputs;
  do {
    if constexpr (asks) {
      __builtin_prefetch(at.far);
      __builtin_prefetch(at.far + P * lanes - 1);
      at.far += at.far_step;
    }
#pragma GCC unroll 4
    for (int i = 0; i < k.inputs; ++i) {
      const float* x = reinterpret_cast<const float*>(at.panel + static_cast<uint32_t>(input[i]) * at.panel_ld);
      Vec v[P];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) v[p] = load(x + p * lanes);
#pragma GCC unroll 4
      for (int r = 0; r < turn_rows; ++r)
        if (k.of_row[r] == i) {
          const Vec w = splat(weight[r]);
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p) acc[r][p] += w * v[p];
        }
    }
    input += k.inputs, weight += turn_rows;
  } while (input < end);
  at.input = input, at.weight = weight;
}

template <int P, bool asks>
XN_INLINE void take_step(const TurnStep& step, Turn& at, Vec (&acc)[turn_rows][P]) {
  switch (step.kind) {
    case 0: return take_turns<0, P, asks>(at, step.turns, acc);
    case 1: return take_turns<1, P, asks>(at, step.turns, acc);
    case 2: return take_turns<2, P, asks>(at, step.turns, acc);
    case 3: return take_turns<3, P, asks>(at, step.turns, acc);
    case 4: return take_turns<4, P, asks>(at, step.turns, acc);
    case 5: return take_turns<5, P, asks>(at, step.turns, acc);
    case 6: return take_turns<6, P, asks>(at, step.turns, acc);
    case 7: return take_turns<7, P, asks>(at, step.turns, acc);
    case 8: return take_turns<8, P, asks>(at, step.turns, acc);
    case 9: return take_turns<9, P, asks>(at, step.turns, acc);
    case 10: return take_turns<10, P, asks>(at, step.turns, acc);
    default: __builtin_unreachable();
  }
}

// Groups [begin, end) of four rows. The strip's weights are those of the table's turns.
template <int P, bool asks>
static void share(const Strip& given, const int32_t* turns, int32_t begin, int32_t end) {
  const Strip s = given;
  const TurnTable table{turns};
  float* out = s.out;
  const float* residual = s.residual;
  const float* bias = s.bias ? s.bias + int64_t{begin} * turn_rows : nullptr;
  Turn at{nullptr, s.weight + int64_t{table.turns_before(begin)} * turn_rows, reinterpret_cast<const char*>(s.panel),
          static_cast<uint32_t>(s.panel_ld * 4), asks ? s.requests->at : nullptr, asks ? s.requests->step : 0};
  for (int32_t g = begin; g < end; ++g) {
    const int32_t* step = table.group(g);
    const int32_t* last = step + *step;
    at.input = last + 1;
    bool fresh = true;
    Vec acc[turn_rows][P] = {};
    do {  // a group without edges has its bias
      bool ends = true;
      if (step < last) {
        const TurnStep now = TurnStep::read(*++step);
        take_step<P, asks>(now, at, acc);
        ends = now.ends;
      }
      if (!ends) continue;
      end_sum<turn_rows, P>(s, out, bias, residual, fresh, s.clamped && step == last, acc);
#pragma GCC unroll 4
      for (int r = 0; r < turn_rows; ++r)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) acc[r][p] = Vec{};
      fresh = false;
    } while (step < last);
    out += turn_rows * s.out_ld;
    if (residual) residual += turn_rows * s.out_ld;
    if (bias) bias += turn_rows;
  }
  if constexpr (asks) {
    s.requests->at = at.far;
    s.requests->left -= table.turns_before(end) - table.turns_before(begin);
  }
}

// Rows [begin, end), from a whole group on: what is left of the last one goes without the table.
static void share_rows(Strip strip, int vectors, const float* ordered, int32_t begin, int32_t end) {
  const int32_t* turns = strip.graph->turns;
  const bool asks = !wide_registers && strip.requests->left > 0;  // else nobody streams
  const int32_t first = begin / turn_rows, last = end / turn_rows, rest = least(end, last * turn_rows);
  const float* weight = strip.weight;
  strip.weight = ordered;
  if (vectors == 3)
    asks ? share<3, true>(strip, turns, first, last) : share<3, false>(strip, turns, first, last);
  else if (vectors == 2)
    asks ? share<2, true>(strip, turns, first, last) : share<2, false>(strip, turns, first, last);
  else
    share<1, false>(strip, turns, first, last);
  if (rest == end) return;
  strip.weight = weight;
  strip.out += (rest - begin) * strip.out_ld;
  if (strip.residual) strip.residual += (rest - begin) * strip.out_ld;
  find_strip_kernel(1, vectors, true, false)(strip, rest, end);
}

}  // namespace xn::XN_ISA
