// Rows of features, and of their codes, as every kernel gets them.
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

// How rows look to the filter; csrc/cpu/filter.h tells what these mean.
struct Codes {
  const int8_t* values;   // [n, depth]; depth is a multiple of 4, of 64 on a GPU
  const float* scales;    // [n]
  const float* sq_norms;  // [n]
  const float* errors;    // [n]
  int64_t depth;
  double scale;  // a power of two
};

// Two-byte storage, by its bits.
struct Half {
  uint16_t bits;
};

struct Bfloat16 {
  uint16_t bits;
};

}  // namespace fastsel
