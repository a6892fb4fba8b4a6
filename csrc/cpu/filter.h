// The filter: which pairs can matter, decided from inner products of int8 codes.
//
// A row x has the image x' = (x - shift) * scale, with scale a power of two that takes the largest
// norm of an image to at most 1, and a code: integers q with s q near x', s a float32 of its own.
// encode.cpp makes them, with an error e >= |x' - s q|. The triangle inequality does the rest: with
// r the distance under which a pair (x, c) matters, times scale, the pair can be passed over unless
//
//   |s_x q_x - s_c q_c| < r + e_x + e_c.                                                (1)
//
// What float32 adds, with u = 2^-24 and n the squared norm of a decoded row:
//   - q_x.q_c is exact in int32, as encode.cpp limits the codes: |q|^2 < 2^31;
//   - its product with 2 s_x s_c errs by at most 3 u (n_x + n_c), as 2 |s_x q_x| |s_c q_c| <= n_x +
//     n_c, and the two sums by at most 3 u (n_x + n_c). Norms are stored lowered by 2^-20 = 16 u of
//     themselves, so that the left side of (1), squared, is never computed too large;
//   - r + e_x is stored as `reach`, raised by 2^-20 of itself: a canonical squared distance errs by
//     (dim / 8 + 10) 2^-53 of itself, and squaring reach + e_c by 3 u;
//   - underflow loses less than 2^-120 of a square, and reach is at least 2^-50.
// tests/test_filter.py holds all of this against adversarial rows.
#pragma once

#include <cmath>

#include "cpu/product.h"
#include "cpu/rows.h"

namespace fastsel::FASTSEL_LEVEL {

// The reach of nothing, for lanes without a point: no comparison with it is true.
constexpr float kNobody = NAN;

inline float round_up(double value) {
  const float nearest = static_cast<float>(value);
  return static_cast<double>(nearest) < value ? __builtin_nextafterf(nearest, INFINITY) : nearest;
}

// The reach of a point of error `error` for what may lie within `radius`, at least.
inline float reach(double radius, float error) {
  return round_up((radius + static_cast<double>(error)) * (1.0 + 0x1p-20) + 0x1p-50);
}

// The radius, times scale, within which a pair may still lower a key; below 0 where none may, as
// nothing is nearer than a duplicate.
inline double radius_of(double key, double scale) {
  return key > 0.0 ? __builtin_sqrt(key) * scale : -1.0;
}

// The reach of a point of error `error` whose squared distance may still fall under `key`.
inline float reach(double key, float error, double scale) {
  const double radius = radius_of(key, scale);
  return radius < 0.0 ? kNobody : reach(radius, error);
}

// At least the distance, times scale, of a pair with this filtered squared distance; `sq_norms`
// and `errors` are the sums of both.
inline double promised_radius(float filtered, float sq_norms, float errors) {
  // The filtered distance may be too small by 32 u of the norms.
  const double sq_dist = static_cast<double>(filtered) + 0x1p-18 * static_cast<double>(sq_norms);
  const double radius = __builtin_sqrt(sq_dist > 0.0 ? sq_dist : 0.0) + errors;
  return radius * (1.0 + 0x1p-18) + 0x1p-48;
}

// Squared distances of decoded rows, never too large: one vector of points against a centre.
inline Vec filtered(Ints product, Vec scales, Vec sq_norms, float centre_scale,
                    float centre_sq_norm) {
  return (sq_norms + broadcast(centre_sq_norm)) -
         __builtin_convertvector(product, Vec) * scales * broadcast(2.0f * centre_scale);
}

// The same for a single pair.
inline float filtered(int32_t product, float scale, float sq_norm, float centre_scale,
                      float centre_sq_norm) {
  return (sq_norm + centre_sq_norm) - static_cast<float>(product) * scale * (2.0f * centre_scale);
}

inline Vec squared(Vec x) { return x * x; }

// Packs the codes of rows index[0 .. count) as points, [steps, width], zeros beyond count.
inline void pack_points(const Codes& codes, const int64_t* index, int64_t count, int64_t width,
                        int32_t* out) {
  const int64_t steps = codes.depth / kStep;
  for (int64_t i = 0; i < width; ++i) {
    const int8_t* row = codes.values + (i < count ? index[i] * codes.depth : 0);
    for (int64_t k = 0; k < steps; ++k)
      out[k * width + i] = i < count ? point_word(row + k * kStep) : 0;
  }
}

// Brings a row of codes to the cache: centres lie anywhere in the pool, where no hardware
// prefetcher looks.
inline void prefetch(const Codes& codes, int64_t row) {
  const int8_t* code = codes.values + row * codes.depth;
  for (int64_t k = 0; k < codes.depth; k += 64) __builtin_prefetch(code + k);
}

// A block of centres as a tile takes them, whole tiles long: slots beyond the centres are
// infinitely far from every point.
class CentreBlock {
 public:
  CentreBlock(int64_t capacity, int64_t depth)
      : steps_(depth / kStep),
        capacity_(whole_tiles(capacity)),
        words_(capacity_ * steps_),
        sums_(capacity_),
        floats_(3 * capacity_) {}

  static int64_t whole_tiles(int64_t count) {
    return (count + kTileRows - 1) / kTileRows * kTileRows;
  }

  // Rows index[0 .. count), wherever they lie.
  void load(const Codes& codes, const int64_t* index, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      if (i + kAhead < count) prefetch(codes, index[i + kAhead]);
      place(i, codes, index[i]);
    }
    pad(count);
  }

  // Rows begin .. begin + count - 1.
  void load(const Codes& codes, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) place(i, codes, begin + i);
    pad(count);
  }

  Tile against(const int32_t* points, int64_t first) const {
    return product(points, words_.get() + first * steps_, sums_.get() + first, steps_);
  }

  float* scales() const { return floats_.get(); }
  float* sq_norms() const { return floats_.get() + capacity_; }
  float* errors() const { return floats_.get() + 2 * capacity_; }

  // Of the tile of centres from `first` on.
  float largest_error(int64_t first) const {
    float largest = 0.0f;
    for (int64_t r = 0; r < kTileRows; ++r) {
      largest = errors()[first + r] > largest ? errors()[first + r] : largest;
    }
    return largest;
  }

 private:
  static constexpr int64_t kAhead = 8;

  void place(int64_t i, const Codes& codes, int64_t row) {
    int32_t* words = words_.get() + i * steps_;
    const int8_t* code = codes.values + row * codes.depth;
    for (int64_t k = 0; k < steps_; ++k) words[k] = centre_word(code + k * kStep);
    sums_.get()[i] = first_sum(code, codes.depth);
    scales()[i] = codes.scales[row];
    sq_norms()[i] = codes.sq_norms[row];
    errors()[i] = codes.errors[row];
  }

  void pad(int64_t count) {
    for (int64_t i = count; i < whole_tiles(count); ++i) {
      std::memset(words_.get() + i * steps_, 0, static_cast<size_t>(steps_) * sizeof(int32_t));
      sums_.get()[i] = 0;
      scales()[i] = errors()[i] = 0.0f;
      sq_norms()[i] = INFINITY;
    }
  }

  const int64_t steps_;
  const int64_t capacity_;
  Buffer<int32_t> words_;
  Buffer<int32_t> sums_;
  Buffer<float> floats_;
};

// Canonical squared distance of two rows of the same matrix.
template <class R>
inline double pair_sq_dist(const R& rows, int64_t i, int64_t j, int64_t dim) {
  return FASTSEL_LEVEL::sq_dist(rows[i], rows[j], dim);
}

}  // namespace fastsel::FASTSEL_LEVEL
