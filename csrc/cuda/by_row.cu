// Columns of listed pairs, brought together by their rows: a counting sort, with sums by torch.
#include "cuda/pairs.h"

namespace fastsel::cuda {

namespace {

__global__ void __launch_bounds__(kPairThreads)
    by_row_kernel(const Pairs pairs, int64_t* next, int32_t* cols) {
  const int64_t n = listed(pairs);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kPairThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kPairThreads + threadIdx.x; i < n;
       i += stride) {
    const unsigned long long place =
        atomicAdd(reinterpret_cast<unsigned long long*>(next + pairs.pairs[2 * i]), 1ull);
    if (cols != nullptr) cols[place] = pairs.pairs[2 * i + 1];
  }
}

}  // namespace

void by_row(const Pairs& pairs, int64_t* next, int32_t* cols, Stream stream) {
  if (pairs.capacity == 0) return;
  launch(by_row_kernel, dim3(pair_blocks(pairs)), kPairThreads, stream, pairs, next, cols);
}

}  // namespace fastsel::cuda
