// Which builds of the kernels this processor can run.
#include "cpu/kernels.h"

namespace fastsel {

namespace {

struct Usable {
  Kernels kernels[3];
  int count = 0;

  void add(const Kernels& k) { kernels[count++] = k; }

  Usable() {
#define FASTSEL_KERNELS(level)            \
  {                                       \
    #level, level::min_update, level::knn \
  }
#ifdef FASTSEL_HAS_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
      add(FASTSEL_KERNELS(avx512));
    }
#endif
#ifdef FASTSEL_HAS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      add(FASTSEL_KERNELS(avx2));
    }
#endif
    add(FASTSEL_KERNELS(baseline));
#undef FASTSEL_KERNELS
  }
};

}  // namespace

const Kernels* usable_kernels(int* count) {
  static const Usable usable;
  *count = usable.count;
  return usable.kernels;
}

}  // namespace fastsel
