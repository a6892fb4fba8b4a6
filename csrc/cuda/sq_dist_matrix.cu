// Canonical distances among a few thousand points: the arithmetic is float64's own, so what counts
// is to read and widen each component once for many pairs.
//
// A block computes a tile of 32 x 32 pairs of the upper triangle and writes it twice. Eight
// neighbouring threads hold the eight sums of 4 x 8 pairs, in registers; 32 components of the rows
// at a time are widened into shared memory.
#include <type_traits>

#include "cuda/canonical.h"

namespace fastsel::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kSide = 32;
constexpr int kDepth = 32;
constexpr int kRowGroups = kThreads / kWarp;  // a warp's four groups share their rows
constexpr int kColGroups = kPairsPerWarp;
constexpr int kRows = kSide / kRowGroups;
constexpr int kCols = kSide / kColGroups;

// The rows of a warp's groups are then in different banks.
constexpr int kStride = kDepth + kLanes;

struct MatrixShared {
  double rows[kSide][kStride];
  double cols[kSide][kStride];
};

// Components k .. k + kDepth - 1 of listed points, and zeros: they add +0.0.
template <class R>
__device__ void stage(double (&target)[kSide][kStride], const R& points, const int64_t* rows,
                      int64_t first, int64_t n, int64_t k) {
  for (int i = warp_id(); i < kSide; i += kRowGroups) {
    const int64_t position = first + i < n ? first + i : n - 1;
    const int64_t j = k + lane_id();
    target[i][lane_id()] = j < points.dim ? points[rows[position]][j] : 0.0;
  }
}

template <class R>
__global__ void __launch_bounds__(kThreads)
    sq_dist_matrix_kernel(const R points, const int64_t* rows, int64_t n, double* out) {
  if (blockIdx.x < blockIdx.y) return;
  FASTSEL_SHARED(MatrixShared, shared);
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kSide;
  const int64_t first_col = static_cast<int64_t>(blockIdx.x) * kSide;
  const int group = lane_id() / kLanes;
  const int lane = lane_id() % kLanes;
  double sums[kRows][kCols] = {};
  for (int64_t k = 0; k < points.dim; k += kDepth) {
    __syncthreads();
    stage(shared.rows, points, rows, first_row, n, k);
    stage(shared.cols, points, rows, first_col, n, k);
    __syncthreads();
    for (int j = lane; j < kDepth; j += kLanes) {
      double x[kRows];
      for (int r = 0; r < kRows; ++r) x[r] = shared.rows[warp_id() + r * kRowGroups][j];
      for (int c = 0; c < kCols; ++c) {
        const double y = shared.cols[group + c * kColGroups][j];
        for (int r = 0; r < kRows; ++r) sums[r][c] = add_square(sums[r][c], x[r], y);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) {
      const double value = sum_lanes(sums[r][c]);
      const int64_t row = first_row + warp_id() + r * kRowGroups;
      const int64_t col = first_col + group + c * kColGroups;
      // All eight threads have the value; they take turns, a column each.
      if (c != lane || row >= n || col >= n) continue;
      out[row * n + col] = value;
      out[col * n + row] = value;
    }
  }
}

static_assert(kCols == kLanes, "a thread writes a column");

}  // namespace

void sq_dist_matrix(const Matrix& points, const int64_t* rows, int64_t n, double* out,
                    Stream stream) {
  if (n == 0) return;
  with_rows(points, [&](const auto& typed) {
    using R = std::decay_t<decltype(typed)>;
    const unsigned tiles = blocks_for(n, kSide);
    launch(sq_dist_matrix_kernel<R>, dim3(tiles, tiles), kThreads, stream, typed, rows, n, out);
  });
}

}  // namespace fastsel::cuda
