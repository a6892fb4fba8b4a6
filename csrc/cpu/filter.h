// The float32 filter: which pairs can matter, decided from inner products in float32.
//
// A row x has the image x' = float32((x - shift) * scale), with scale a power of two that takes the
// largest norm of (x - shift) * scale to at most 1. For rows x and c with squared image norms n_x
// and n_c, the filter's squared distance is n_x + n_c - 2 x'.c', and it differs from the canonical
// squared distance, times scale^2, by at most margin_x + margin_c, where
//
//   margin_x = (dim + 16) u / (1 - (dim + 16) u) * n_x + floor,    u = 2^-24.
//
// Why: subtraction in float64 is correctly rounded, so an image has relative error u (1 + 2^-29) in
// each component. Then, with 2ab <= a^2 + b^2 throughout and terms of second order left to the
// slack of the constant 16:
//   - a dot product of dim terms errs by gamma_dim |x'| |c'|, doubled: gamma_dim (n_x + n_c);
//   - images move a distance by u (|x| + |c|), its square by at most 4 u (n_x + n_c);
//   - rounding n_x and n_c, and the sums of the three terms: at most 6 u (n_x + n_c);
//   - the canonical distance itself errs by (dim / 8 + 8) 2^-53 of at most 2 (n_x + n_c).
// floor covers products and components below float32's normal range, flushed to zero or not.
// fastsel/filter.py computes norms and margins, and tests/test_filter.py holds the bound against
// adversarial rows.
#pragma once

#include <cmath>

#include "cpu/product.h"
#include "cpu/rows.h"

namespace fastsel::FASTSEL_LEVEL {

// Writes the images of the rows rows[0 .. count) as columns of [dim, width], zeros beyond count.
template <class R>
inline void pack(const R& rows, const Frame& frame, const int64_t* index, int64_t count,
                 int64_t dim, int64_t width, float* out) {
  for (int64_t i = 0; i < width; ++i) {
    if (i >= count) {
      for (int64_t k = 0; k < dim; ++k) out[k * width + i] = 0.0f;
      continue;
    }
    const auto row = rows[index[i]];
    for (int64_t k = 0; k < dim; k += kLanes) {
      const int64_t n = k + kLanes <= dim ? kLanes : dim - k;
      const Lanes x = n == kLanes ? row.lanes(k) : row.tail(k, dim);
      for (int64_t j = 0; j < n; ++j) {
        out[(k + j) * width + i] = static_cast<float>((x[j] - frame.shift[k + j]) * frame.scale);
      }
    }
  }
}

inline float round_up(double value) {
  const float nearest = static_cast<float>(value);
  return static_cast<double>(nearest) < value ? __builtin_nextafterf(nearest, INFINITY) : nearest;
}

// A pair can lower a point's key only if its filtered distance, less the centre's margin, is under
// this.
inline float filter_bound(double key, float margin, double scale) {
  return round_up(key * scale * scale + static_cast<double>(margin));
}

// Filtered squared distances of a tile, less the centres' margins: one vector of points against
// centre r. sq_norms and centre_terms (squared norm less margin) are those of the points and
// centres.
inline Vec filtered(Vec product, Vec sq_norms, float centre_term) {
  return multiply_add(product, broadcast(-2.0f), sq_norms + broadcast(centre_term));
}

// Canonical squared distance of two rows of the same matrix.
template <class R>
inline double pair_sq_dist(const R& rows, int64_t i, int64_t j, int64_t dim) {
  return FASTSEL_LEVEL::sq_dist(rows[i], rows[j], dim);
}

}  // namespace fastsel::FASTSEL_LEVEL
