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

// Lowers sq_dist[i], for every row i of points, to its squared distance to row `centre` of centres.
using MinUpdate = void(const Matrix& points, const Matrix& centres, int64_t centre, double* sq_dist,
                       int threads);

// The k nearest points of `count` queries from first_query on, ascending by (sq_dist, index), into
// sq_dist and index [count, k]. With exclude_self, query i skips point i.
using Knn = void(const Matrix& queries, const Matrix& points, int64_t first_query, int64_t count,
                 int64_t k, bool exclude_self, double* sq_dist, int64_t* index, int threads);

#define FASTSEL_DECLARE(level) \
  namespace level {            \
  MinUpdate min_update;        \
  Knn knn;                     \
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
};

// Those that this machine can run, best first; `count` says how many.
const Kernels* usable_kernels(int* count);

}  // namespace fastsel
