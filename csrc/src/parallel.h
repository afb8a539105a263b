// Threads: one parallel region on the OpenMP runtime that the process already has.
#pragma once

namespace xn {

// Runs body(context, thread, threads) once in each of at most `num_threads` threads.
using Body = void (*)(void* context, int thread, int threads);
void parallel(int num_threads, Body body, void* context);

// How many threads a call asked for `num_threads` may use: itself, or what the runtime would use if <= 0.
int resolve_threads(int num_threads);

const char* openmp_path();

template <typename F>
void parallel_for_threads(int num_threads, F& body) {
  parallel(num_threads, [](void* f, int thread, int threads) { (*static_cast<F*>(f))(thread, threads); }, &body);
}

}  // namespace xn
