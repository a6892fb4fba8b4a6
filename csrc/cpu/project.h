// Products of float32 rows with the columns of a basis.
#pragma once

#include "cpu/kernels.h"
#include "cpu/product.h"

namespace fastsel::FASTSEL_LEVEL {

// Rows taken together, and terms added up before their sum joins the total: short sums err little,
// and their part of the basis stays in the cache.
constexpr int64_t kProjected = 4;
constexpr int64_t kTerms = 64;

// Adds the products of terms [begin, end) of kProjected rows of `dim` with kSketchUnit columns of
// the basis to `out`; both have rows of `depth`.
inline void add_products(const float* rows, int64_t dim, const float* basis, int64_t depth,
                         int64_t begin, int64_t end, float* out) {
  constexpr int64_t kVecs = kSketchUnit / kVec;
  Vec sums[kProjected][kVecs] = {};
  for (int64_t k = begin; k < end; ++k) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVecs; ++v) {
      const Vec column = load(basis + k * depth + v * kVec);
#pragma GCC unroll 4
      for (int64_t r = 0; r < kProjected; ++r) {
        sums[r][v] += broadcast(rows[r * dim + k]) * column;
      }
    }
  }
  for (int64_t r = 0; r < kProjected; ++r) {
    for (int64_t v = 0; v < kVecs; ++v) {
      float* total = out + r * depth + v * kVec;
      store(total, load(total) + sums[r][v]);
    }
  }
}

// out [kProjected, depth] = rows [kProjected, dim] basis [dim, depth], depth in units of
// kSketchUnit.
inline void project_rows(const float* rows, int64_t dim, const float* basis, int64_t depth,
                         float* out) {
  std::memset(out, 0, static_cast<size_t>(kProjected * depth) * sizeof(float));
  for (int64_t k = 0; k < dim; k += kTerms) {
    const int64_t end = dim - k < kTerms ? dim : k + kTerms;
    for (int64_t unit = 0; unit < depth; unit += kSketchUnit) {
      add_products(rows, dim, basis + unit, depth, k, end, out + unit);
    }
  }
}

// At least the distance of a computed projection from the true one, for rows of norm 1 and a basis
// of spectral norm at most 1: rounding to float32 and a chain of n additions make each product err
// by (n + 2) u of itself, u = 2^-24, and a column's absolute products add up to at most 1.
inline double projection_error(int64_t dim, int64_t depth) {
  const double chain = static_cast<double>(kTerms + dim / kTerms + 4);
  return __builtin_sqrt(static_cast<double>(depth)) * chain * 0x1p-24;
}

}  // namespace fastsel::FASTSEL_LEVEL
