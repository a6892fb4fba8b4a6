// Keys lowered to the canonical distances of listed pairs. The least of several does not depend on
// their order.
#include "cuda/pairs.h"

namespace fastsel::cuda {

namespace {

template <class R>
__global__ void __launch_bounds__(kPairThreads)
    pair_min_kernel(const R points, const int64_t* rows, const R centres, const int64_t* cols,
                    const Pairs pairs, double* keys) {
  for_each_pair<false>(
      pairs, points.dim, [&](int64_t row) { return points[rows[row]]; },
      [&](int64_t column) { return centres[cols[column]]; },
      [&](int64_t, int64_t row, int64_t, double value) { atomic_min(keys + rows[row], value); });
}

}  // namespace

void pair_min(const Matrix& points, const int64_t* rows, const Matrix& centres, const int64_t* cols,
              const Pairs& pairs, double* keys, Stream stream) {
  if (pairs.capacity == 0) return;
  with_rows(points, [&](const auto& typed) {
    using R = std::decay_t<decltype(typed)>;
    launch(pair_min_kernel<R>, dim3(pair_blocks(pairs)), kPairThreads, stream, typed, rows,
           R(centres), cols, pairs, keys);
  });
}

}  // namespace fastsel::cuda
