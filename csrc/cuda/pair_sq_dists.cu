// Canonical distances of listed pairs of a query and a point.
#include "cuda/pairs.h"

namespace fastsel::cuda {

namespace {

template <class R>
__global__ void __launch_bounds__(kPairThreads)
    pair_sq_dists_kernel(const R queries, const R points, const Pairs pairs, double* out) {
  for_each_pair(
      pairs, points.dim, [&](int64_t row) { return queries[row]; },
      [&](int64_t column) { return points[column]; },
      [&](int64_t place, int64_t, int64_t, double value) { out[place] = value; });
}

}  // namespace

void pair_sq_dists(const Matrix& queries, const Matrix& points, const Pairs& pairs, double* out,
                   Stream stream) {
  if (pairs.capacity == 0) return;
  with_rows(points, [&](const auto& typed) {
    using R = std::decay_t<decltype(typed)>;
    launch(pair_sq_dists_kernel<R>, dim3(pair_blocks(pairs)), kPairThreads, stream, R(queries),
           typed, pairs, out);
  });
}

}  // namespace fastsel::cuda
