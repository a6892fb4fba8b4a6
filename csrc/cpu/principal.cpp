// The leading principal directions of a sample, for sketches.
//
// Block power iteration, with the products of sketches. NumPy's would do, but its BLAS keeps
// threads of its own spinning for a while after every call, on the processors that a selection
// needs next.
#include "cpu/project.h"
#include "cpu/rows.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Makes the columns of a matrix [dim, depth] orthonormal, one after the other; what is left of a
// column that depends on those before it becomes zero. Twice is enough (Giraud et al. 2005).
void orthonormalise(float* matrix, int64_t dim, int64_t depth) {
  const Buffer<double> columns(depth * dim);
  const auto column = [&](int64_t j) { return columns.get() + j * dim; };
  const auto inner = [&](const double* x, const double* y) {
    Lanes sums = {};
    int64_t k = 0;
    for (; k + kLanes <= dim; k += kLanes) sums += load_lanes(x + k) * load_lanes(y + k);
    double sum = sum_lanes(sums);
    for (; k < dim; ++k) sum += x[k] * y[k];
    return sum;
  };
  for (int64_t j = 0; j < depth; ++j) {
    double* x = column(j);
    for (int64_t k = 0; k < dim; ++k) x[k] = matrix[k * depth + j];
    const double before = __builtin_sqrt(inner(x, x));
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t i = 0; i < j; ++i) {
        const double* y = column(i);
        const double part = inner(x, y);
        for (int64_t k = 0; k < dim; ++k) x[k] -= part * y[k];
      }
    }
    const double after = __builtin_sqrt(inner(x, x));
    const double factor = after > before * 0x1p-20 ? 1.0 / after : 0.0;
    for (int64_t k = 0; k < dim; ++k) {
      x[k] *= factor;
      matrix[k * depth + j] = static_cast<float>(x[k]);
    }
  }
}

}  // namespace

void project(const float* rows, int64_t n, int64_t dim, const float* basis, int64_t depth,
             float* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < n; first += kProjected) {
    if (first + kProjected <= n) {
      project_rows(rows + first * dim, dim, basis, depth, out + first * depth);
      continue;
    }
    const int64_t count = n - first;
    const Buffer<float> padded(kProjected * dim);
    const Buffer<float> products(kProjected * depth);
    std::memset(padded.get(), 0, static_cast<size_t>(kProjected * dim) * sizeof(float));
    std::memcpy(padded.get(), rows + first * dim, static_cast<size_t>(count * dim) * sizeof(float));
    project_rows(padded.get(), dim, basis, depth, products.get());
    std::memcpy(out + first * depth, products.get(),
                static_cast<size_t>(count * depth) * sizeof(float));
  }
}

void principal(const float* sample, int64_t n, int64_t dim, int64_t depth, int steps,
               float* directions, int threads) {
  const Buffer<float> transposed(dim * n);
  const Buffer<float> images(n * depth);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < dim; ++k) transposed.get()[k * n + i] = sample[i * dim + k];
  }
  for (int step = 0; step < steps; ++step) {
    project(sample, n, dim, directions, depth, images.get(), threads);
    project(transposed.get(), dim, n, images.get(), depth, directions, threads);
    orthonormalise(directions, dim, depth);
  }
}

}  // namespace fastsel::FASTSEL_LEVEL
