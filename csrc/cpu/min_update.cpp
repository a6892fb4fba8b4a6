// Distances to a selected set, lowered by one new centre. Streams all points once, so it is bound
// by memory bandwidth: n * dim * sizeof(T) bytes a call.
#include "cpu/rows.h"

namespace fastsel::FASTSEL_LEVEL {

void min_update(const Matrix& points, const Matrix& centres, int64_t centre, double* sq_dist,
                int threads) {
  const int64_t dim = points.dim;
  const Buffer<double> wide(dim);
  with_rows(centres, [&](const auto& rows) { widen_row(rows[centre], dim, wide.get()); });
  const Row<double, false> target{wide.get(), 1.0};
  with_rows(points, [&](const auto& rows) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < points.n; ++i) {
      const double value = FASTSEL_LEVEL::sq_dist(rows[i], target, dim);
      if (value < sq_dist[i]) sq_dist[i] = value;
    }
  });
}

}  // namespace fastsel::FASTSEL_LEVEL
