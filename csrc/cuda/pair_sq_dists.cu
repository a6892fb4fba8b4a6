// Keys of listed pairs of a query and a point: canonical distances, or minus inner products.
#include "cuda/pairs.h"

namespace fastsel::cuda {

namespace {

template <class R, bool Inner>
__global__ void __launch_bounds__(kPairThreads)
    pair_sq_dists_kernel(const R queries, const R points, const Pairs pairs, double* out) {
  for_each_pair<Inner>(
      pairs, points.dim, [&](int64_t row) { return queries[row]; },
      [&](int64_t column) { return points[column]; },
      [&](int64_t place, int64_t, int64_t, double value) { out[place] = value; });
}

}  // namespace

void pair_sq_dists(const Matrix& queries, const Matrix& points, const Pairs& pairs,
                   bool by_inner_product, double* out, Stream stream) {
  if (pairs.capacity == 0) return;
  with_keys(points, by_inner_product, [&](const auto& typed, auto inner) {
    using R = std::decay_t<decltype(typed)>;
    launch(pair_sq_dists_kernel<R, decltype(inner)::value>, dim3(pair_blocks(pairs)), kPairThreads,
           stream, R(queries), typed, pairs, out);
  });
}

}  // namespace fastsel::cuda
