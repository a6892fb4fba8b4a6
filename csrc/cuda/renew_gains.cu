// Gains of rows whose distance to the members has fallen.
#include "cuda/entropy.h"

namespace fastsel::cuda {

namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    renew_gains_kernel(const int64_t* rows, const double* before, int64_t n, const double* sq_dist,
                       double least, int64_t* gains) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t row = rows[i];
  const double now = sq_dist[row];
  if (now <= least) {
    gains[row] = kNever;
  } else if (gains[row] > kLast) {
    gains[row] = now > 0.0 ? gains[row] + (log_sq_dist(now) - log_sq_dist(before[i])) : kLast;
  }
}

}  // namespace

void renew_gains(const int64_t* rows, const double* before, int64_t n, const double* sq_dist,
                 double least, int64_t* gains, Stream stream) {
  launch(renew_gains_kernel, dim3(blocks_for(n, kThreads)), kThreads, stream, rows, before, n,
         sq_dist, least, gains);
}

}  // namespace fastsel::cuda
