// The one definition of distance that every backend answers to; its NumPy twin, with the reasons,
// is fastsel/canonical.py, that of the GPU csrc/cuda/canonical.h.
//
// Both rows are taken to float64 exactly; the square of component j goes to lane j mod 8; lanes add
// up in order of j and then as ((0+4)+(2+6)) + ((1+5)+(3+7)). Compile with -ffp-contract=off.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "matrix.h"

// Every kernel file is compiled once for each instruction set. All code that such files share lives
// in a namespace of that level's own: were it common, the linker would keep one copy of each inline
// function, perhaps the one that the processor at hand can not run. For the same reason kernel
// files call no function templates of the standard library.
#ifndef FASTSEL_LEVEL
#error "kernel files are compiled with -DFASTSEL_LEVEL=<name of the instruction set>"
#endif

namespace fastsel::FASTSEL_LEVEL {

inline double widen(double value) { return value; }

inline double widen(float value) { return static_cast<double>(value); }

inline double widen(Bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return static_cast<double>(result);
}

inline double widen(Half value) {
  const int64_t exponent = (value.bits >> 10) & 0x1f;
  const int64_t fraction = value.bits & 0x3ff;
  const double sign = (value.bits & 0x8000) ? -1.0 : 1.0;
  if (exponent == 0) {
    return sign * static_cast<double>(fraction) * 0x1p-24;  // zero and subnormal numbers
  }
  const uint64_t bits = static_cast<uint64_t>(exponent - 15 + 1023) << 52 |
                        static_cast<uint64_t>(fraction) << 42;  // inf and NaN never come in
  double magnitude;
  std::memcpy(&magnitude, &bits, sizeof magnitude);
  return sign * magnitude;
}

constexpr int64_t kLanes = 8;

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));

// Components j .. j + 7 of a row.
template <class T>
inline Lanes load_lanes(const T* row) {
  Lanes lanes;
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = widen(row[i]);
  return lanes;
}

inline Lanes load_lanes(const double* row) {
  Lanes lanes;
  std::memcpy(&lanes, row, sizeof lanes);
  return lanes;
}

inline Lanes load_lanes(const float* row) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_cvtps_pd(_mm256_loadu_ps(row));  // GCC 12 makes four instructions of it
#endif
  typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
  Floats floats;
  std::memcpy(&floats, row, sizeof floats);
  return __builtin_convertvector(floats, Lanes);
}

// Components j .. dim - 1, fewer than 8, and zeros: they add +0.0 to sums that are never -0.0.
template <class T>
inline Lanes load_tail(const T* row, int64_t count) {
  Lanes lanes = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = widen(row[i]);
  return lanes;
}

inline double sum_lanes(Lanes s) {
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

// A row as the metric sees it: divided by its norm for the cosine metric, as it is otherwise.
template <class T, bool Normalised>
struct Row {
  const T* data;
  double norm;

  Lanes lanes(int64_t j) const {
    const Lanes values = load_lanes(data + j);
    return Normalised ? values / norm : values;
  }

  Lanes tail(int64_t j, int64_t dim) const {
    const Lanes values = load_tail(data + j, dim - j);
    return Normalised ? values / norm : values;
  }

  // Brings it to the cache: no hardware prefetcher looks where rows lie in any order.
  void prefetch(int64_t dim) const {
    const auto* begin = reinterpret_cast<const char*>(data);
    const int64_t size = dim * static_cast<int64_t>(sizeof(T));
    for (int64_t k = 0; k < size; k += 64) __builtin_prefetch(begin + k);
  }
};

template <class X, class Y>
inline double sq_dist(const X& x, const Y& y, int64_t dim) {
  Lanes sum = {};
  int64_t j = 0;
  for (; j + kLanes <= dim; j += kLanes) {
    const Lanes diff = x.lanes(j) - y.lanes(j);
    sum += diff * diff;
  }
  if (j < dim) {
    const Lanes diff = x.tail(j, dim) - y.tail(j, dim);
    sum += diff * diff;
  }
  return sum_lanes(sum);
}

// The inner product of two rows, in the order of sq_dist.
template <class X, class Y>
inline double inner_product(const X& x, const Y& y, int64_t dim) {
  Lanes sum = {};
  int64_t j = 0;
  for (; j + kLanes <= dim; j += kLanes) sum += x.lanes(j) * y.lanes(j);
  if (j < dim) sum += x.tail(j, dim) * y.tail(j, dim);
  return sum_lanes(sum);
}

typedef int64_t Longs __attribute__((vector_size(kLanes * sizeof(int64_t))));

// The logarithms of log_sq_dists in fastsel/canonical.py, which tells the reasons, of squared
// distances above 0, in units of 2^-40.
inline Longs log_sq_dists(Lanes values) {
  const Longs subnormal = values < 0x1p-1022;
  const Longs bits = (Longs)(subnormal ? values * 0x1p60 : values);
  Longs exponents = (bits >> 52) - 1022 - (subnormal & 60);
  Lanes fractions = (Lanes)((bits & 0x000ffffffffffc00) | 0x3fe0000000000000);  // of [1/2, 1)
  const Longs low = fractions < 0.7071067811865476;
  fractions = low ? fractions * 2.0 : fractions;
  exponents += low;  // -1 where true
  const Lanes s = (fractions - 1.0) / (fractions + 1.0);
  const Lanes square = s * s;
  Lanes series = 2.8853900817779268 / 21.0 - Lanes{};
  for (int64_t power = 19; power > 0; power -= 2) {
    series = series * square + 2.8853900817779268 / static_cast<double>(power);
  }
  constexpr double kRounder = 0x1.8p52;  // added and subtracted, rounds to the nearest integer
  const Lanes units = (series * s * 0x1p40 + kRounder) - kRounder;
  return __builtin_convertvector(units, Longs) + exponents * (int64_t{1} << 40);
}

inline int64_t log_sq_dist(double value) { return log_sq_dists(value - Lanes{})[0]; }

}  // namespace fastsel::FASTSEL_LEVEL
