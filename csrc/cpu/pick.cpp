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

template <class R>
void fill_matrix(const R& rows, const Frame& frame, const int64_t* index, int64_t n, int64_t dim,
                 int64_t stride, float* out, int threads) {
  const int64_t n_panels = stride / kTileCols;
  const int64_t n_strips = (n + kTileRows - 1) / kTileRows;
  const Buffer<float> panels(n_panels * kTileCols * dim);
  const Buffer<float> strips(n_strips * kTileRows * dim);
  const Buffer<float> sq_norms(stride);
  for (int64_t i = 0; i < stride; ++i) {
    sq_norms.get()[i] = i < n ? frame.sq_norms[index[i]] : INFINITY;
  }
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t p = 0; p < n_panels; ++p) {
      const int64_t begin = p * kTileCols;
      pack(rows, frame, index + begin, n - begin < kTileCols ? n - begin : kTileCols, dim,
           kTileCols, panels.get() + begin * dim);
    }
#pragma omp for schedule(static)
    for (int64_t s = 0; s < n_strips; ++s) {
      const int64_t begin = s * kTileRows;
      pack(rows, frame, index + begin, n - begin < kTileRows ? n - begin : kTileRows, dim,
           kTileRows, strips.get() + begin * dim);
    }
#pragma omp for schedule(dynamic)
    for (int64_t p = 0; p < n_panels; ++p) {
      for (int64_t s = 0; s < n_strips; ++s) {
        const Tile tile =
            product(panels.get() + p * kTileCols * dim, strips.get() + s * kTileRows * dim, dim);
        for (int64_t r = 0; r < kTileRows; ++r) {
          const int64_t centre = s * kTileRows + r;
          if (centre >= n) break;
          const float term = frame.sq_norms[index[centre]] - frame.margins[index[centre]];
          for (int64_t v = 0; v < kTileVecs; ++v) {
            const int64_t column = p * kTileCols + v * kVec;
            store(out + centre * stride + column,
                  filtered(tile.sums[r][v], load(sq_norms.get() + column), term));
          }
        }
      }
    }
  }
}

}  // namespace

int64_t matrix_stride(int64_t n_rows) { return (n_rows + kTileCols - 1) / kTileCols * kTileCols; }

void filter_matrix(const Matrix& points, const Frame& frame, const int64_t* rows, int64_t n_rows,
                   int64_t stride, float* out, int threads) {
  with_rows(points, [&](const auto& typed) {
    fill_matrix(typed, frame, rows, n_rows, points.dim, stride, out, threads);
  });
}

int64_t pick(const Matrix& points, const Frame& frame, const int64_t* rows, int64_t n_rows,
             double* keys, Rival rival, double min_distance, int64_t max_picks, int64_t* picks,
             double* sq_radii, Work* work, int threads) {
  const int64_t dim = points.dim;
  const int64_t stride = matrix_stride(n_rows);
  const Buffer<float> matrix(n_rows * stride);
  const Buffer<double> key(n_rows);
  const Buffer<float> bounds(stride);
  for (int64_t i = 0; i < stride; ++i) {
    bounds.get()[i] = -INFINITY;
    if (i >= n_rows) continue;
    key.get()[i] = keys[rows[i]];
    bounds.get()[i] = filter_bound(keys[rows[i]], frame.margins[rows[i]], frame.scale);
  }
  *work = {n_rows * n_rows, 0};
  int64_t count = 0;
  with_rows(points, [&](const auto& typed) {
    fill_matrix(typed, frame, rows, n_rows, dim, stride, matrix.get(), threads);
    while (count < max_picks) {
      const int64_t best = argmax(key.get(), n_rows);
      const double sq_radius = key.get()[best];
      if (!rival.beaten_by(sq_radius, rows[best])) break;
      if (!(__builtin_sqrt(sq_radius) > min_distance)) break;
      picks[count] = rows[best];
      sq_radii[count++] = sq_radius;
      key.get()[best] = -1.0;
      bounds.get()[best] = -INFINITY;
      const float* row = matrix.get() + best * stride;
      for (int64_t i = 0; i < stride; i += kVec) {
        if (!any(load(row + i) < load(bounds.get() + i))) continue;
        for (int64_t j = i; j < i + kVec; ++j) {
          if (!(row[j] < bounds.get()[j])) continue;
          const double value = pair_sq_dist(typed, rows[j], rows[best], dim);
          ++work->canonical;
          if (!(value < key.get()[j])) continue;
          key.get()[j] = value;
          bounds.get()[j] = filter_bound(value, frame.margins[rows[j]], frame.scale);
        }
      }
    }
  });
  for (int64_t i = 0; i < n_rows; ++i) keys[rows[i]] = key.get()[i];
  return count;
}

}  // namespace fastsel::FASTSEL_LEVEL
