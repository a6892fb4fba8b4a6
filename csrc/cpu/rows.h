// From the type-erased Matrix of the bindings to typed rows.
#pragma once

#include "canonical.h"
#include "cpu/kernels.h"

namespace fastsel::FASTSEL_LEVEL {

template <class T, bool Normalised>
struct Rows {
  const T* data;
  const double* norms;
  int64_t dim;

  explicit Rows(const Matrix& m)
      : data(static_cast<const T*>(m.data)), norms(m.norms), dim(m.dim) {}

  Row<T, Normalised> operator[](int64_t i) const {
    return {data + i * dim, Normalised ? norms[i] : 1.0};
  }
};

// Calls f with the Rows of a matrix.
template <class F>
inline void with_rows(const Matrix& m, const F& f) {
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

// Memory of one thread's own; a twin of std::unique_ptr<T[]> because of the rule in canonical.h.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(new T[static_cast<size_t>(size)]) {}
  ~Buffer() { delete[] data_; }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return data_; }

 private:
  T* data_;
};

// One row widened to float64 (and normalised), so that a loop over partners does so once.
template <class R>
inline void widen_row(const R& row, int64_t dim, double* out) {
  for (int64_t j = 0; j < dim; j += kLanes) {
    const bool whole = j + kLanes <= dim;
    const Lanes lanes = whole ? row.lanes(j) : row.tail(j, dim);
    std::memcpy(out + j, &lanes, static_cast<size_t>(whole ? kLanes : dim - j) * sizeof(double));
  }
}

}  // namespace fastsel::FASTSEL_LEVEL
