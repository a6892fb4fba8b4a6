// Which builds of the kernels this processor can run.
#include "cpu/kernels.h"

namespace fastsel {

namespace {

struct Usable {
  Kernels kernels[3];
  int count = 0;

  void add(const Kernels& k) { kernels[count++] = k; }

  Usable() {
#define FASTSEL_ADD(level)                                                                      \
  add({#level, level::min_update, level::knn, level::knn_rounds, level::foresee,                \
       level::sort_neighbours, level::encode, level::project, level::principal, level::refresh, \
       level::pick, level::accept, level::filter_matrix, level::matrix_stride,                  \
       level::entropy_start, level::entropy_refresh, level::entropy_pick})
#ifdef FASTSEL_HAS_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      FASTSEL_ADD(avx512);
    }
#endif
#ifdef FASTSEL_HAS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      FASTSEL_ADD(avx2);
    }
#endif
    FASTSEL_ADD(baseline);
#undef FASTSEL_ADD
  }
};

}  // namespace

const Kernels* usable_kernels(int* count) {
  static const Usable usable;
  *count = usable.count;
  return usable.kernels;
}

}  // namespace fastsel
