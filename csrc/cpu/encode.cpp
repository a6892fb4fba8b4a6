// The int8 codes of rows and of their sketches that the filter works on, and how far they are off.
//
// A sketch is a map to fewer dimensions that never lengthens a distance. With a matrix P of
// spectral norm at most 1, x -> (P x, sqrt(|x|^2 - |P x|^2)) is one: the last component is |W x|
// for the symmetric W with |P x|^2 + |W x|^2 = |x|^2 for all x, so for the images of x and y the
// last components differ by at most |W (x - y)|, and the squares add up to at most |x - y|^2. Where
// P holds the leading principal directions, little is lost.
#include "cpu/filter.h"
#include "cpu/project.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Adding and subtracting it rounds a small number to the nearest integer, at every level.
constexpr double kRounder = 0x1.8p52;

inline Lanes absolute(Lanes x) { return x < 0.0 ? -x : x; }

inline double norm_of(const Lanes* x, int64_t lanes) {
  Lanes sums = {};
  for (int64_t l = 0; l < lanes; ++l) sums += x[l] * x[l];
  return __builtin_sqrt(sum_lanes(sums));
}

// Codes `image`, whole lanes with zeros behind, as row i; it may be off already by `off`.
inline void quantise(const Lanes* image, int64_t limit, double off, const CodesOut& out,
                     int64_t i) {
  const int64_t depth = out.depth;
  const int64_t lanes = (depth + kLanes - 1) / kLanes;
  Lanes largest = {};
  for (int64_t l = 0; l < lanes; ++l) {
    const Lanes size = absolute(image[l]);
    largest = size > largest ? size : largest;
  }
  double top = 0.0;
  for (int64_t l = 0; l < kLanes; ++l) top = largest[l] > top ? largest[l] : top;
  // Rows too small for a float32 scale are coded as zeros.
  const float unit = top > 0x1p-100 ? round_up(top / static_cast<double>(limit)) : 0.0f;
  const double inverse = unit > 0.0f ? 1.0 / static_cast<double>(unit) : 0.0;
  Lanes sq_code = {};
  Lanes sq_error = {};
  typedef int32_t Words __attribute__((vector_size(kLanes * sizeof(int32_t))));
  typedef int8_t Bytes __attribute__((vector_size(kLanes)));
  for (int64_t l = 0; l < lanes; ++l) {
    const Lanes code = (image[l] * inverse + kRounder) - kRounder;
    const Lanes error = image[l] - code * static_cast<double>(unit);
    sq_code += code * code;
    sq_error += error * error;
    const Bytes bytes = __builtin_convertvector(__builtin_convertvector(code, Words), Bytes);
    const int64_t rest = depth - l * kLanes;
    std::memcpy(out.values + i * depth + l * kLanes, &bytes,
                static_cast<size_t>(rest < kLanes ? 4 : kLanes));
  }
  const double sq_norm = sum_lanes(sq_code) * static_cast<double>(unit) * unit;
  out.scales[i] = unit;
  out.sq_norms[i] = static_cast<float>(sq_norm * (1.0 - 0x1p-20));
  // The last term: squares may underflow.
  out.errors[i] = round_up(__builtin_sqrt(sum_lanes(sq_error)) * (1.0 + 0x1p-20) + off + 0x1p-50);
}

}  // namespace

void encode(const Matrix& points, const double* shift, double scale, int64_t limit,
            const CodesOut& whole, const float* basis, const CodesOut& sketches, int threads) {
  const int64_t dim = points.dim;
  const int64_t lanes = (dim + kLanes - 1) / kLanes;
  const int64_t depth = basis != nullptr ? sketches.depth : 0;
  // What rounding may take an image of norm 1 off: in the shift's subtraction, and in a projection.
  constexpr double kShiftError = 0x1p-40;
  const double slack = projection_error(dim, depth);
  with_rows(points, [&](const auto& rows) {
#pragma omp parallel num_threads(threads)
    {
      const Buffer<Lanes> image(lanes);
      const Buffer<Lanes> wide_shift(lanes);
      const Buffer<float> images(basis != nullptr ? kProjected * dim : 0);
      const Buffer<float> products(kProjected * depth);
      const Buffer<Lanes> sketch(depth / kLanes);
      double norms[kProjected];
      std::memset(wide_shift.get(), 0, static_cast<size_t>(lanes) * sizeof(Lanes));
      std::memcpy(wide_shift.get(), shift, static_cast<size_t>(dim) * sizeof(double));
#pragma omp for schedule(static)
      for (int64_t first = 0; first < points.n; first += kProjected) {
        const int64_t count = points.n - first < kProjected ? points.n - first : kProjected;
        for (int64_t r = 0; r < count; ++r) {
          const auto row = rows[first + r];
          Lanes sq_image = {};
          for (int64_t l = 0; l < lanes; ++l) {
            const int64_t k = l * kLanes;
            const Lanes x = k + kLanes <= dim ? row.lanes(k) : row.tail(k, dim);
            image.get()[l] = (x - wide_shift.get()[l]) * scale;
            sq_image += image.get()[l] * image.get()[l];
          }
          norms[r] = __builtin_sqrt(sum_lanes(sq_image));
          quantise(image.get(), limit, norms[r] * kShiftError, whole, first + r);
          if (basis == nullptr) continue;
          const auto* components = reinterpret_cast<const double*>(image.get());
          float* narrow = images.get() + r * dim;
          for (int64_t k = 0; k < dim; ++k) narrow[k] = static_cast<float>(components[k]);
        }
        if (basis == nullptr) continue;
        project_rows(images.get(), dim, basis, depth, products.get());
        for (int64_t r = 0; r < count; ++r) {
          auto* components = reinterpret_cast<double*>(sketch.get());
          for (int64_t k = 0; k < depth; ++k) components[k] = products.get()[r * depth + k];
          const double projected = norm_of(sketch.get(), depth / kLanes);
          const double sq_rest = norms[r] * norms[r] - projected * projected;
          const double rest = sq_rest > 0.0 ? __builtin_sqrt(sq_rest) : 0.0;
          components[depth - 1] = rest;
          // The square of `rest` errs by that of the projection: 2 slack and a little.
          const double off = norms[r] * slack;
          const double sq_off = 3.0 * norms[r] * off;
          const double root = __builtin_sqrt(sq_off);
          const double rest_off = sq_off < rest * root ? sq_off / rest : root;
          quantise(sketch.get(), limit, off + rest_off + norms[r] * kShiftError, sketches,
                   first + r);
        }
      }
    }
  });
}

}  // namespace fastsel::FASTSEL_LEVEL
