// What the kernel files offer, for each instruction set, to the bindings.
#pragma once

#include <cstdint>

namespace fastsel {

enum class Dtype { kFloat16, kBfloat16, kFloat32, kFloat64 };

// Rows of features. `norms` is null, or the rows count as divided by these (the cosine metric).
struct Matrix {
  const void* data;  // [n, dim], C order
  Dtype dtype;
  int64_t n;
  int64_t dim;
  const double* norms;  // [n]
};

// How rows look to the float32 filter; csrc/cpu/filter.h tells what these mean.
struct Frame {
  const double* shift;    // [dim]
  double scale;           // a power of two
  const float* sq_norms;  // [n]
  const float* margins;   // [n]
};

// The best candidate that is not being looked at, as (squared distance, row): one that is looked at
// is worth going on with only while it comes before this in the order of picks.
struct Rival {
  double key;
  int64_t row;

  bool beaten_by(double other_key, int64_t other_row) const {
    return other_key > key || (other_key == key && other_row < row);
  }
};

// What a call did, so that its speed can be explained.
struct Work {
  int64_t filtered;   // pairs that the float32 filter looked at
  int64_t canonical;  // pairs whose canonical distance was computed
};

// Lowers sq_dist[i], for every row i of points, to its squared distance to row `centre` of centres.
using MinUpdate = void(const Matrix& points, const Matrix& centres, int64_t centre, double* sq_dist,
                       int threads);

// The k nearest points of `count` queries from first_query on, ascending by (sq_dist, index), into
// sq_dist and index [count, k]. With exclude_self, query i skips point i.
using Knn = void(const Matrix& queries, const Matrix& points, int64_t first_query, int64_t count,
                 int64_t k, bool exclude_self, double* sq_dist, int64_t* index, int threads);

// Applies to each of the listed rows of points, in order, the centres it has not seen: seen[row] is
// how many of the `centres` (rows of points) keys[row] accounts for. A row is dropped, partly
// refreshed, as soon as it no longer beats the rival. `tiles` holds the first n_tiles blocks of
// centres packed by pack_centres; the rest are packed on the fly.
using Refresh = Work(const Matrix& points, const Frame& frame, const int64_t* rows, int64_t n_rows,
                     double* keys, int64_t* seen, const int64_t* centres, int64_t n_centres,
                     const float* tiles, int64_t n_tiles, Rival rival, int threads);

// Greedy picks among the listed rows, ascending, whose keys are up to date: the row of largest key,
// as long as it beats the rival and sqrt(key) > min_distance, at most max_picks times. The others'
// keys account for every pick; a picked row's key becomes -1. Returns the number of picks.
using Pick = int64_t(const Matrix& points, const Frame& frame, const int64_t* rows, int64_t n_rows,
                     double* keys, Rival rival, double min_distance, int64_t max_picks,
                     int64_t* picks, double* sq_radii, Work* work, int threads);

// Filtered squared distances, less the centre's margin, of all listed rows to each other: centre by
// centre, float32 [n_rows, stride] with stride = matrix_stride(n_rows) >= n_rows.
using FilterMatrix = void(const Matrix& points, const Frame& frame, const int64_t* rows,
                          int64_t n_rows, int64_t stride, float* out, int threads);
using MatrixStride = int64_t(int64_t n_rows);

// How many centres make a block, and the packed image of the blocks first_block .. last_block - 1
// of `centres`, float32 [last_block - first_block, block, dim].
using CentreBlock = int64_t(int64_t dim);
using PackCentres = void(const Matrix& points, const Frame& frame, const int64_t* centres,
                         int64_t first_block, int64_t last_block, float* tiles, int threads);

#define FASTSEL_DECLARE(level) \
  namespace level {            \
  MinUpdate min_update;        \
  Knn knn;                     \
  Refresh refresh;             \
  Pick pick;                   \
  FilterMatrix filter_matrix;  \
  MatrixStride matrix_stride;  \
  CentreBlock centre_block;    \
  PackCentres pack_centres;    \
  }
FASTSEL_DECLARE(baseline)
FASTSEL_DECLARE(avx2)
FASTSEL_DECLARE(avx512)
#undef FASTSEL_DECLARE

// The kernels of one instruction set.
struct Kernels {
  const char* level;
  MinUpdate* min_update;
  Knn* knn;
  Refresh* refresh;
  Pick* pick;
  FilterMatrix* filter_matrix;
  MatrixStride* matrix_stride;
  CentreBlock* centre_block;
  PackCentres* pack_centres;
};

// Those that this machine can run, best first; `count` says how many.
const Kernels* usable_kernels(int* count);

}  // namespace fastsel
