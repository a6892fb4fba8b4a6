// Active rows in the balls of picks of their round.
#include "cuda/entropy.h"

namespace fastsel::cuda {

namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    enter_picks_kernel(const double* matrix, const int64_t* rows, int64_t n, const int64_t* gains,
                       const int64_t* places, const double* sq_eps, int64_t first,
                       const Balls balls) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n || gains[rows[i]] == kNever) return;
  const int64_t pick = blockIdx.y;
  const double value = matrix[places[pick] * n + i];
  if (0.0 < value && value < sq_eps[pick]) append(balls, rows[i], first + pick, log_sq_dist(value));
}

}  // namespace

void enter_picks(const double* matrix, const int64_t* rows, int64_t n, const int64_t* gains,
                 const int64_t* places, const double* sq_eps, int64_t n_picks, int64_t first,
                 const Balls& balls, Stream stream) {
  const dim3 grid(blocks_for(n, kThreads), static_cast<unsigned>(n_picks));
  launch(enter_picks_kernel, grid, kThreads, stream, matrix, rows, n, gains, places, sq_eps, first,
         balls);
}

}  // namespace fastsel::cuda
