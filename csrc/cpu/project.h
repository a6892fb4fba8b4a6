// Products of float32 rows with the columns of a basis.
#pragma once

#include "cpu/kernels.h"
#include "cpu/product.h"

namespace fastsel::FASTSEL_LEVEL {

// Rows and columns taken together, as many sums as a product of codes has in registers or fewer,
// and terms added up before their sum joins the total: short sums err little, and their part of the
// basis stays in the cache.
constexpr int64_t kProjected = kTileRows;
constexpr int64_t kVecs = 2;
constexpr int64_t kColumns = kVecs * kVec;
constexpr int64_t kTerms = 64;

static_assert(kSketchUnit % kColumns == 0, "a unit is whole columns of a projection");

// Adds the products of terms [begin, end) of kProjected rows of `dim` with kColumns columns of the
// basis to `out`; both have rows of `depth`.
inline void add_products(const float* rows, int64_t dim, const float* basis, int64_t depth,
                         int64_t begin, int64_t end, float* out) {
  Vec sums[kProjected][kVecs] = {};
  for (int64_t k = begin; k < end; ++k) {
    Vec columns[kVecs];
    for (int64_t v = 0; v < kVecs; ++v) columns[v] = load(basis + k * depth + v * kVec);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kProjected; ++r) {
      const Vec row = broadcast(rows[r * dim + k]);
#pragma GCC unroll 2
      for (int64_t v = 0; v < kVecs; ++v) sums[r][v] = multiply_add(row, columns[v], sums[r][v]);
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
    for (int64_t first = 0; first < depth; first += kColumns) {
      add_products(rows, dim, basis + first, depth, k, end, out + first);
    }
  }
}

// At least the distance of a computed projection from the true one, for rows of norm 1 and a basis
// of spectral norm at most 1: rounding to float32 and a chain of n additions make each product err
// by (n + 2) u of itself at most, u = 2^-24, and a column's absolute products add up to at most 1.
inline double projection_error(int64_t dim, int64_t depth) {
  const double chain = static_cast<double>(kTerms + dim / kTerms + 4);
  return __builtin_sqrt(static_cast<double>(depth)) * chain * 0x1p-24;
}

}  // namespace fastsel::FASTSEL_LEVEL
