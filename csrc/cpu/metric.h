// What neighbours are looked for by: keys of pairs, and what the filter concludes of them.
#pragma once

#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

// A search by distance. A pair's key is its squared distance; the filter is that of filter.h.
struct ByDistance {
  static constexpr bool kDistance = true;
  // The reach of a row that looks for nothing, as it has all that it may find. Errors are at most
  // about 1, so that it stays below 0 with that of another row.
  static constexpr float kNothing = -2.0f;

  template <class R>
  static double key(const R& x, const R& y, int64_t dim) {
    return FASTSEL_LEVEL::sq_dist(x, y, dim);
  }

  static float sq_norm(float value) { return value; }

  static float reach(double key, const Codes& codes, int64_t i) {
    return FASTSEL_LEVEL::reach(__builtin_sqrt(key) * codes.scale, codes.errors[i]);
  }

  static float weight(const Codes&, int64_t) { return 0.0f; }

  // Whatever its type, what a filtered value must be under, by a row's reach and weight and the
  // error of the other: first a sum, of which the largest counts, then the bound itself.
  template <class V>
  static V sum(V reach, V, V error) {
    return reach + error;
  }

  static float bound(float sum) { return sum * __builtin_fabsf(sum); }

  static Vec bound(Vec sum) { return sum * (Vec)((Ints)sum & 0x7fffffff); }
};

// A search by inner product, the largest first. A pair's key is minus that; images are not shifted.
// With x^ = s_x q_x, N_x its norm, and errors e, x'.c' = x^.c^ + (x' - x^).c' + x^.(c' - c^) is at
// most
//
//   s_x q_x . s_c q_c + e_x + e_c N_x,
//
// as no image is longer than 1. A filtered value is -2 s_x q_x . s_c q_c, with an error of at most
// 6 u N_x; the sum of reach and weight times error errs by at most 4 u of its terms, which are
// under 3 (N_x + e_x). Both are covered by what the reach adds, 2^-18 (N_x + e_x).
struct ByInnerProduct {
  static constexpr bool kDistance = false;
  static constexpr float kNothing = -INFINITY;

  template <class R>
  static double key(const R& x, const R& y, int64_t dim) {
    return -FASTSEL_LEVEL::inner_product(x, y, dim);
  }

  static float sq_norm(float) { return 0.0f; }

  // At least the norms of an image and of its code.
  static double norm(const Codes& codes, int64_t i) {
    const double sq_norm = static_cast<double>(codes.sq_norms[i]) * (1.0 + 0x1p-18);
    return __builtin_sqrt(sq_norm) + static_cast<double>(codes.errors[i]);
  }

  static float reach(double key, const Codes& codes, int64_t i) {
    const double error = static_cast<double>(codes.errors[i]) * (1.0 + 0x1p-18);
    return round_up(2.0 * (key * codes.scale * codes.scale + error) + 0x1p-18 * norm(codes, i));
  }

  static float weight(const Codes& codes, int64_t i) {
    return round_up(2.0 * norm(codes, i) * (1.0 + 0x1p-18));
  }

  template <class V>
  static V sum(V reach, V weight, V error) {
    return reach + weight * error;
  }

  template <class V>
  static V bound(V sum) {
    return sum;
  }
};

// At least the canonical squared distance of a pair with this filtered one.
inline double promised_key(float value, float sq_norms, float errors, double scale) {
  const double radius = promised_radius(value, sq_norms, errors) / scale;
  return radius * radius * (1.0 + 0x1p-30);
}

}  // namespace fastsel::FASTSEL_LEVEL
