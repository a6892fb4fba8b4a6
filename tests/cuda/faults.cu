// Kernels with a fault each, which the emulation must find.
#include "cuda/device.h"

namespace {

using fastsel::cuda::launch;

struct Shared {
  int values[64];
};

// The last thread to write wins.
__global__ void race_kernel(int* out) {
  FASTSEL_SHARED(Shared, shared);
  shared.values[0] = static_cast<int>(threadIdx.x);
  __syncthreads();
  *out = shared.values[0];
}

// A neighbour's value may not be there yet.
__global__ void no_barrier_kernel(int* out) {
  FASTSEL_SHARED(Shared, shared);
  shared.values[threadIdx.x] = 1;
  out[threadIdx.x] = shared.values[63 - threadIdx.x];
}

__global__ void one_barrier_short_kernel(int* out) {
  if (threadIdx.x < 32) __syncthreads();
  *out = 1;
}

__global__ void half_a_warp_kernel(int* out) {
  if (threadIdx.x % 32 < 16) *out = __shfl_sync(0xffffffffu, 1, 0);
}

// The copy is on its way.
__global__ void early_kernel(float* out) {
  FASTSEL_SHARED(Shared, shared);
  auto* target = reinterpret_cast<float*>(shared.values);
  if (threadIdx.x == 0) {
    fastsel::cuda::copy_async(target, out);
    out[1] = *target;
    fastsel::cuda::end_copies();
    fastsel::cuda::wait_for_copies<0>();
  }
}

__global__ void beyond_kernel(int* out) {
  FASTSEL_SHARED(Shared, shared);
  volatile int* values = shared.values;
  values[threadIdx.x + 1] = 1;
  *out = values[0];
}

}  // namespace

// Runs the fault of that name over out [64]; returns 1 where the emulation refused it.
extern "C" __attribute__((visibility("default"))) int emulation_fault(const char* name, int* out) {
  const std::string fault = name;
  try {
    if (fault == "race") launch(race_kernel, dim3(1), 64, nullptr, out);
    if (fault == "no barrier") launch(no_barrier_kernel, dim3(1), 64, nullptr, out);
    if (fault == "one barrier short") launch(one_barrier_short_kernel, dim3(1), 64, nullptr, out);
    if (fault == "half a warp") launch(half_a_warp_kernel, dim3(1), 64, nullptr, out);
    if (fault == "early") launch(early_kernel, dim3(1), 64, nullptr, reinterpret_cast<float*>(out));
    if (fault == "beyond") launch(beyond_kernel, dim3(1), 64, nullptr, out);
  } catch (const std::exception&) {
    return 1;
  }
  return 0;
}
