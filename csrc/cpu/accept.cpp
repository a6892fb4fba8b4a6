// Threshold acceptance among a few thousand candidates whose keys are up to date.
//
// As in pick.cpp, all filtered distances among them come from one blocked product; then each
// accepted row looks along its row of that matrix. A row that fell to the last limit is not looked
// at again.
#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

int64_t accept(const Matrix& points, const Codes& codes, const int64_t* rows, int64_t n_rows,
               double* keys, const double* limits, int64_t n_limits, int64_t max_picks,
               int64_t* picks, int64_t* sweeps, double* sq_radii, Work* work, int threads) {
  const double last = limits[n_limits - 1];
  const int64_t stride = matrix_stride(n_rows);
  const Buffer<float> matrix(n_rows * stride);
  const Buffer<float> reaches(stride);
  const Buffer<double> key(n_rows);
  const auto reach_of = [&](int64_t i) {
    const bool open = i < n_rows && key.get()[i] > last;
    return open ? reach(key.get()[i], codes.errors[rows[i]], codes.scale) : kNobody;
  };
  for (int64_t i = 0; i < n_rows; ++i) key.get()[i] = keys[rows[i]];
  for (int64_t i = 0; i < stride; ++i) reaches.get()[i] = reach_of(i);
  *work = {n_rows * n_rows, 0, 0};
  filter_matrix(codes, rows, n_rows, stride, matrix.get(), threads);
  int64_t count = 0;
  with_rows(points, [&](const auto& typed) {
    const auto lower = [&](int64_t i, int64_t centre) {
      const double value = pair_sq_dist(typed, rows[i], rows[centre], points.dim);
      ++work->canonical;
      if (!(value < key.get()[i])) return;
      key.get()[i] = value;
      reaches.get()[i] = reach_of(i);
    };
    for (int64_t s = 0; s < n_limits; ++s) {
      for (int64_t i = 0; i < n_rows && count < max_picks; ++i) {
        if (!(key.get()[i] > limits[s])) continue;
        picks[count] = rows[i];
        sweeps[count] = s;
        sq_radii[count++] = key.get()[i];
        key.get()[i] = -1.0;
        reaches.get()[i] = kNobody;
        const float* row = matrix.get() + i * stride;
        const float error = codes.errors[rows[i]];
        for (int64_t j = 0; j < stride; j += kVec) {
          const Vec bounds = squared(load(reaches.get() + j) + broadcast(error));
          if (!any(load(row + j) < bounds)) continue;
          for (int64_t k = j; k < j + kVec; ++k) {
            if (row[k] < bounds[k - j]) lower(k, i);
          }
        }
      }
    }
  });
  for (int64_t i = 0; i < n_rows; ++i) keys[rows[i]] = key.get()[i];
  return count;
}

}  // namespace fastsel::FASTSEL_LEVEL
