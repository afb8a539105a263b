// The graph and its weights, seen from the inputs.
#pragma once

#include <cstdint>

#include "xnets.h"

namespace xn {

bool check_graph(const xn_graph& graph);
bool check_tables(const xn_graph& graph);
void transpose_tables(const xn_graph& graph, int32_t* t_indptr, int32_t* t_indices, int32_t* t_edges);

// The weights in the canonical order of the transposed graph: by input, then by output.
void transpose_weights(const xn_graph& graph, const float* weight, int32_t taps, float* to, int threads);

}  // namespace xn
