// The canonical squared distance (csrc/canonical.h, fastsel/canonical.py) as a GPU computes it:
// eight neighbouring threads to a pair, one for each of the eight sums. They read consecutive
// components, and three exchanges add the sums up in the canonical order:
// ((0+4)+(2+6)) + ((1+5)+(3+7)), which all eight then hold, as x + y and y + x are the same.
//
// The __d..._rn functions are never contracted to fused multiply-adds.
#pragma once

#include <type_traits>

#include "cuda/device.h"
#include "matrix.h"

namespace fastsel::cuda {

constexpr int kLanes = 8;
constexpr int kPairsPerWarp = kWarp / kLanes;

__device__ inline double widen(double value) { return value; }
__device__ inline double widen(float value) { return static_cast<double>(value); }
__device__ inline double widen(Half value) {
  return static_cast<double>(half_to_float(value.bits));
}
__device__ inline double widen(Bfloat16 value) {
  return static_cast<double>(__uint_as_float(static_cast<uint32_t>(value.bits) << 16));
}

// A row as the metric sees it: divided by its norm for the cosine metric, as it is otherwise.
template <class T, bool Normalised>
struct Row {
  const T* data;
  double norm;

  __device__ double operator[](int64_t j) const {
    const double value = widen(data[j]);
    return Normalised ? __ddiv_rn(value, norm) : value;
  }
};

template <class T, bool Normalised>
struct Rows {
  static constexpr bool kNormalised = Normalised;

  const T* data;
  const double* norms;
  int64_t dim;

  explicit Rows(const Matrix& m)
      : data(static_cast<const T*>(m.data)), norms(m.norms), dim(m.dim) {}

  __device__ Row<T, Normalised> operator[](int64_t i) const {
    return {data + i * dim, Normalised ? norms[i] : 1.0};
  }
};

__device__ inline double add_square(double sum, double x, double y) {
  const double difference = __dsub_rn(x, y);
  return __dadd_rn(sum, __dmul_rn(difference, difference));
}

// The canonical sum of eight neighbouring threads' sums; the whole warp calls it.
__device__ inline double sum_lanes(double sum) {
  sum = __dadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 4));
  sum = __dadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 2));
  return __dadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 1));
}

// The squared distance of the pair of rows that this thread and its seven neighbours hold; the
// whole warp calls it. What lies beyond the last component would add +0.0 to sums that are never
// -0.0: it is left out.
template <class X, class Y>
__device__ inline double sq_dist(const X& x, const Y& y, int64_t dim) {
  double sum = 0.0;
#pragma unroll 4
  for (int64_t j = lane_id() % kLanes; j < dim; j += kLanes) sum = add_square(sum, x[j], y[j]);
  return sum_lanes(sum);
}

// The key of the pair in a search, the least of which are nearest: the squared distance, or minus
// the inner product, whose terms are added up in the same order.
template <bool Inner, class X, class Y>
__device__ inline double key(const X& x, const Y& y, int64_t dim) {
  if constexpr (!Inner) return sq_dist(x, y, dim);
  double sum = 0.0;
#pragma unroll 4
  for (int64_t j = lane_id() % kLanes; j < dim; j += kLanes) {
    sum = __dadd_rn(sum, __dmul_rn(x[j], y[j]));
  }
  return -sum_lanes(sum);
}

constexpr int64_t kLogUnits = int64_t{1} << 40;
constexpr int64_t kLogOfZero = -2048 * kLogUnits;

// The logarithm of log_sq_dists in fastsel/canonical.py, which tells the reasons, of a finite
// squared distance, in units of 2^-40.
__device__ inline int64_t log_sq_dist(double value) {
  if (!(value > 0.0)) return kLogOfZero;
  int64_t exponent = 0;
  if (value < 0x1p-1022) {  // subnormal
    value = __dmul_rn(value, 0x1p60);
    exponent = -60;
  }
  auto bits = static_cast<uint64_t>(__double_as_longlong(value));
  exponent += static_cast<int64_t>(bits >> 52) - 1022;
  bits = (bits & 0x000ffffffffffc00u) | 0x3fe0000000000000u;  // 43 bits of [1/2, 1)
  double fraction = __longlong_as_double(static_cast<long long>(bits));
  if (fraction < 0.7071067811865476) {
    fraction = __dmul_rn(fraction, 2.0);
    --exponent;
  }
  const double s = __ddiv_rn(__dsub_rn(fraction, 1.0), __dadd_rn(fraction, 1.0));
  const double square = __dmul_rn(s, s);
  double series = 2.8853900817779268 / 21.0;
#pragma unroll
  for (int power = 19; power > 0; power -= 2) {
    series = __dadd_rn(__dmul_rn(series, square), 2.8853900817779268 / power);
  }
  constexpr double kRounder = 0x1.8p52;  // added and subtracted, rounds to the nearest integer
  const double scaled = __dmul_rn(__dmul_rn(series, s), 0x1p40);
  const double units = __dsub_rn(__dadd_rn(scaled, kRounder), kRounder);
  return static_cast<int64_t>(units) + exponent * kLogUnits;
}

// Calls f with the Rows of a matrix.
template <class F>
void with_rows(const Matrix& m, const F& f) {
  const bool normalised = m.norms != nullptr;
#define FASTSEL_CASE(dtype, T) \
  case Dtype::dtype:           \
    return normalised ? f(Rows<T, true>(m)) : f(Rows<T, false>(m));
  switch (m.dtype) {
    FASTSEL_CASE(kFloat16, Half)
    FASTSEL_CASE(kBfloat16, Bfloat16)
    FASTSEL_CASE(kFloat32, float)
    FASTSEL_CASE(kFloat64, double)
  }
#undef FASTSEL_CASE
}

// Calls f with the Rows of a matrix and whether their key is the inner product, as a type. Rows are
// not normalised for that.
template <class F>
void with_keys(const Matrix& m, bool by_inner_product, const F& f) {
  with_rows(m, [&](const auto& rows) {
    if constexpr (!std::decay_t<decltype(rows)>::kNormalised) {
      if (by_inner_product) return f(rows, std::true_type());
    }
    f(rows, std::false_type());
  });
}

}  // namespace fastsel::cuda
