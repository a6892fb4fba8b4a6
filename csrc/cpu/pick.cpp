// Greedy picks among a few thousand candidates whose keys are up to date.
//
// All filtered distances among them come from one blocked product; then each pick looks along its
// row of that matrix and computes the canonical distance of the few pairs that may matter.
#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// The first position of the largest key.
int64_t argmax(const double* keys, int64_t n) {
  Lanes best = keys[0] - Lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Lanes x = load_lanes(keys + i);
    best = x > best ? x : best;
  }
  double top = best[0];
  for (int64_t l = 1; l < kLanes; ++l) top = best[l] > top ? best[l] : top;
  for (; i < n; ++i) top = keys[i] > top ? keys[i] : top;
  i = 0;
  while (keys[i] != top) ++i;
  return i;
}

}  // namespace

int64_t matrix_stride(int64_t n_rows) { return (n_rows + kTileCols - 1) / kTileCols * kTileCols; }

void filter_matrix(const Codes& codes, const int64_t* rows, int64_t n_rows, int64_t stride,
                   float* out, int threads) {
  const int64_t n_panels = stride / kTileCols;
  CentreBlock centres(n_rows, codes.depth);
  centres.load(codes, rows, n_rows);
#pragma omp parallel num_threads(threads)
  {
    const Buffer<int32_t> panel(codes.depth / kStep * kTileCols);
#pragma omp for schedule(dynamic)
    for (int64_t p = 0; p < n_panels; ++p) {
      const int64_t begin = p * kTileCols;
      const int64_t width = n_rows - begin < kTileCols ? n_rows - begin : kTileCols;
      pack_points(codes, rows + begin, width, kTileCols, panel.get());
      alignas(64) float scales[kTileCols];
      alignas(64) float sq_norms[kTileCols];
      for (int64_t i = 0; i < kTileCols; ++i) {
        scales[i] = i < width ? codes.scales[rows[begin + i]] : 0.0f;
        sq_norms[i] = i < width ? codes.sq_norms[rows[begin + i]] : INFINITY;
      }
      for (int64_t first = 0; first < n_rows; first += kTileRows) {
        const Tile tile = centres.against(panel.get(), first);
        for (int64_t r = 0; r < kTileRows && first + r < n_rows; ++r) {
          float* row = out + (first + r) * stride + begin;
          for (int64_t v = 0; v < kTileVecs; ++v) {
            store(row + v * kVec,
                  filtered(tile.sums[r][v], load(scales + v * kVec), load(sq_norms + v * kVec),
                           centres.scales()[first + r], centres.sq_norms()[first + r]));
          }
        }
      }
    }
  }
}

int64_t pick(const Matrix& points, const Codes& codes, const int64_t* rows, int64_t n_rows,
             double* keys, Rival rival, double min_distance, int64_t max_picks, int64_t* picks,
             double* sq_radii, Work* work, int threads) {
  const int64_t dim = points.dim;
  const int64_t stride = matrix_stride(n_rows);
  const Buffer<float> matrix(n_rows * stride);
  const Buffer<double> key(n_rows);
  const Buffer<float> reaches(stride);
  for (int64_t i = 0; i < stride; ++i) {
    reaches.get()[i] = kNobody;
    if (i >= n_rows) continue;
    key.get()[i] = keys[rows[i]];
    reaches.get()[i] = reach(keys[rows[i]], codes.errors[rows[i]], codes.scale);
  }
  *work = {n_rows * n_rows, 0, 0};
  int64_t count = 0;
  filter_matrix(codes, rows, n_rows, stride, matrix.get(), threads);
  with_rows(points, [&](const auto& typed) {
    while (count < max_picks) {
      const int64_t best = argmax(key.get(), n_rows);
      const double sq_radius = key.get()[best];
      if (!rival.beaten_by(sq_radius, rows[best])) break;
      if (!(__builtin_sqrt(sq_radius) > min_distance)) break;
      picks[count] = rows[best];
      sq_radii[count++] = sq_radius;
      key.get()[best] = -1.0;
      reaches.get()[best] = kNobody;
      const float* row = matrix.get() + best * stride;
      const float error = codes.errors[rows[best]];
      for (int64_t i = 0; i < stride; i += kVec) {
        const Vec bounds = squared(load(reaches.get() + i) + broadcast(error));
        if (!any(load(row + i) < bounds)) continue;
        for (int64_t j = i; j < i + kVec; ++j) {
          if (!(row[j] < bounds[j - i])) continue;
          const double value = pair_sq_dist(typed, rows[j], rows[best], dim);
          ++work->canonical;
          if (!(value < key.get()[j])) continue;
          key.get()[j] = value;
          reaches.get()[j] = reach(value, codes.errors[rows[j]], codes.scale);
        }
      }
    }
  });
  for (int64_t i = 0; i < n_rows; ++i) keys[rows[i]] = key.get()[i];
  return count;
}

}  // namespace fastsel::FASTSEL_LEVEL
