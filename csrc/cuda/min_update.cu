// Distances to a selected set, lowered by one new centre. Streams all points once, so it is bound
// by memory bandwidth: n * dim * sizeof(T) bytes a call.
#include "cuda/canonical.h"

namespace fastsel::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kRows = kThreads / kLanes;

template <class R>
__global__ void __launch_bounds__(kThreads)
    min_update_kernel(const R rows, int64_t n, const double* centre, double* sq_dist) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / kLanes;
  const Row<double, false> target{centre, 1.0};
  const double value = cuda::sq_dist(rows[row < n ? row : n - 1], target, rows.dim);
  if (row < n && lane_id() % kLanes == 0 && value < sq_dist[row]) sq_dist[row] = value;
}

}  // namespace

void min_update(const Matrix& points, const double* centre, double* sq_dist, Stream stream) {
  if (points.n == 0) return;
  with_rows(points, [&](const auto& rows) {
    using R = std::decay_t<decltype(rows)>;
    launch(min_update_kernel<R>, dim3(blocks_for(points.n, kRows)), kThreads, stream, rows,
           points.n, centre, sq_dist);
  });
}

}  // namespace fastsel::cuda
