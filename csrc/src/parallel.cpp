// The library does not link OpenMP: a second runtime in the process would mean a second pool of threads
// that fights with torch's. It looks up the runtime that torch has loaded, by the GNU entry points,
// which libgomp has and LLVM's and Intel's libomp on Linux provide as well.
#include "parallel.h"

#include <dlfcn.h>

#include <cstdlib>

namespace xn {
namespace {

struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*thread_num)() = nullptr;
  int (*num_threads)() = nullptr;
  int (*max_threads)() = nullptr;
  const char* path = "";

  OpenMP() {
    // The symbols as libtorch_cpu sees them come first: another package (scikit-learn, say) may have mapped
    // an OpenMP runtime of its own. RTLD_DEFAULT serves programs that link OpenMP without torch.
    void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (!torch || !find_in(torch)) find_in(RTLD_DEFAULT);
    if (torch) dlclose(torch);
  }

  bool find_in(void* where) {
    auto entry = reinterpret_cast<decltype(parallel)>(dlsym(where, "GOMP_parallel"));
    thread_num = reinterpret_cast<int (*)()>(dlsym(where, "omp_get_thread_num"));
    num_threads = reinterpret_cast<int (*)()>(dlsym(where, "omp_get_num_threads"));
    max_threads = reinterpret_cast<int (*)()>(dlsym(where, "omp_get_max_threads"));
    if (!entry || !thread_num || !num_threads || !max_threads) return false;
    parallel = entry;
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(entry), &info) && info.dli_fname) path = info.dli_fname;
    return true;
  }
};

// Looked up once, at the first call that asks; the language makes this safe from several threads.
const OpenMP& openmp() {
  static const OpenMP runtime;
  return runtime;
}

struct Task {
  Body body;
  void* context;
};

void run_task(void* data) {
  const Task* task = static_cast<const Task*>(data);
  task->body(task->context, openmp().thread_num(), openmp().num_threads());
}

}  // namespace

void parallel(int num_threads, Body body, void* context) {
  if (num_threads <= 1 || !openmp().parallel) return body(context, 0, 1);
  Task task{body, context};
  openmp().parallel(run_task, &task, static_cast<unsigned>(num_threads), 0);
}

int resolve_threads(int num_threads) {
  if (num_threads > 0) return num_threads;
  return openmp().max_threads ? openmp().max_threads() : 1;
}

const char* openmp_path() { return openmp().path; }

}  // namespace xn
