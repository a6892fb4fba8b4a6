// The int8 codes of rows, or of their sketches, that the filter works on, and how far they are off.
//
// A sketch is a map to fewer dimensions that never lengthens a distance. With a matrix P of
// spectral norm at most 1, x -> (P x, sqrt(|x|^2 - |P x|^2)) is one: the last component is |W x|
// for the symmetric W with |P x|^2 + |W x|^2 = |x|^2 for all x, so for the images of x and y the
// last components differ by at most |W (x - y)|, and the squares add up to at most |x - y|^2. Where
// P holds the leading principal directions, little is lost.
#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Adding and subtracting it rounds a small number to the nearest integer, at every level.
constexpr double kRounder = 0x1.8p52;

// Rows projected together, and terms added up before their sum joins the total: short sums err
// little, and their part of the basis stays in the cache.
constexpr int64_t kProjected = 4;
constexpr int64_t kTerms = 64;
constexpr int64_t kUnitVecs = kSketchUnit / kVec;

inline Lanes absolute(Lanes x) { return x < 0.0 ? -x : x; }

// Adds the products of terms [begin, end) of kProjected rows, float32 [kProjected, dim], with
// kSketchUnit columns of the basis to `out`; both have rows of `depth`.
inline void project(const float* rows, int64_t dim, const float* basis, int64_t depth,
                    int64_t begin, int64_t end, float* out) {
  Vec sums[kProjected][kUnitVecs] = {};
  for (int64_t k = begin; k < end; ++k) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kUnitVecs; ++v) {
      const Vec column = load(basis + k * depth + v * kVec);
#pragma GCC unroll 4
      for (int64_t r = 0; r < kProjected; ++r) {
        sums[r][v] += broadcast(rows[r * dim + k]) * column;
      }
    }
  }
  for (int64_t r = 0; r < kProjected; ++r) {
    for (int64_t v = 0; v < kUnitVecs; ++v) {
      float* total = out + r * depth + v * kVec;
      store(total, load(total) + sums[r][v]);
    }
  }
}

inline void project(const float* rows, int64_t dim, const float* basis, int64_t depth, float* out) {
  std::memset(out, 0, static_cast<size_t>(kProjected * depth) * sizeof(float));
  for (int64_t k = 0; k < dim; k += kTerms) {
    const int64_t end = dim - k < kTerms ? dim : k + kTerms;
    for (int64_t unit = 0; unit < depth; unit += kSketchUnit) {
      project(rows, dim, basis + unit, depth, k, end, out + unit);
    }
  }
}

// At least the distance of a computed projection from the true one, for images of norm 1: rounding
// to float32 and a chain of n additions make each product err by (n + 2) u of itself, u = 2^-24,
// and a column's absolute products add up to at most 1.
inline double projection_error(int64_t dim, int64_t depth) {
  const double chain = static_cast<double>(kTerms + dim / kTerms + 4);
  return __builtin_sqrt(static_cast<double>(depth)) * chain * 0x1p-24;
}

inline double norm_of(const double* x, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return __builtin_sqrt(sum);
}

// Where the codes of a row go.
struct Code {
  int8_t* values;
  float* scale;
  float* sq_norm;
  float* error;
};

// Codes `image`, whole lanes with zeros behind; it may be off already by `off`.
inline void quantise(const Lanes* image, int64_t depth, int64_t limit, double off, Code out) {
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
    std::memcpy(out.values + l * kLanes, &bytes, static_cast<size_t>(rest < kLanes ? 4 : kLanes));
  }
  const double sq_norm = sum_lanes(sq_code) * static_cast<double>(unit) * unit;
  *out.scale = unit;
  *out.sq_norm = static_cast<float>(sq_norm * (1.0 - 0x1p-20));
  // The last term: squares may underflow.
  *out.error = round_up(__builtin_sqrt(sum_lanes(sq_error)) * (1.0 + 0x1p-20) + off + 0x1p-50);
}

}  // namespace

void encode(const Matrix& points, const double* shift, double scale, int64_t limit,
            const float* basis, int64_t depth, int8_t* values, float* scales, float* sq_norms,
            float* errors, int threads) {
  const int64_t dim = points.dim;
  const int64_t lanes = (dim + kLanes - 1) / kLanes;
  const int64_t sketch_lanes = basis != nullptr ? depth / kLanes : 0;
  const double slack = projection_error(dim, depth);
  with_rows(points, [&](const auto& rows) {
#pragma omp parallel num_threads(threads)
    {
      const Buffer<Lanes> image(lanes);
      const Buffer<Lanes> wide_shift(lanes);
      const Buffer<float> images(basis != nullptr ? kProjected * dim : 0);
      const Buffer<float> products(kProjected * sketch_lanes * kLanes);
      const Buffer<Lanes> sketch(sketch_lanes);
      double norms[kProjected];
      std::memset(wide_shift.get(), 0, static_cast<size_t>(lanes) * sizeof(Lanes));
      std::memcpy(wide_shift.get(), shift, static_cast<size_t>(dim) * sizeof(double));

      // The image of row i, into `image`; returns its norm.
      const auto shifted = [&](int64_t i) {
        const auto row = rows[i];
        Lanes sq_image = {};
        for (int64_t l = 0; l < lanes; ++l) {
          const int64_t k = l * kLanes;
          const Lanes x = k + kLanes <= dim ? row.lanes(k) : row.tail(k, dim);
          image.get()[l] = (x - wide_shift.get()[l]) * scale;
          sq_image += image.get()[l] * image.get()[l];
        }
        return __builtin_sqrt(sum_lanes(sq_image));
      };
      const auto code = [&](int64_t i) {
        return Code{values + i * depth, scales + i, sq_norms + i, errors + i};
      };
      // What the shift's subtraction may round off an image of norm 1.
      constexpr double kShiftError = 0x1p-40;

#pragma omp for schedule(static)
      for (int64_t first = 0; first < points.n; first += kProjected) {
        const int64_t count = points.n - first < kProjected ? points.n - first : kProjected;
        for (int64_t r = 0; r < count; ++r) {
          norms[r] = shifted(first + r);
          if (basis == nullptr) {
            quantise(image.get(), depth, limit, norms[r] * kShiftError, code(first + r));
            continue;
          }
          const auto* components = reinterpret_cast<const double*>(image.get());
          float* narrow = images.get() + r * dim;
          for (int64_t k = 0; k < dim; ++k) narrow[k] = static_cast<float>(components[k]);
        }
        if (basis == nullptr) continue;
        project(images.get(), dim, basis, depth, products.get());
        for (int64_t r = 0; r < count; ++r) {
          auto* components = reinterpret_cast<double*>(sketch.get());
          for (int64_t k = 0; k < depth; ++k) components[k] = products.get()[r * depth + k];
          const double projected = norm_of(components, depth);
          const double sq_rest = norms[r] * norms[r] - projected * projected;
          const double rest = sq_rest > 0.0 ? __builtin_sqrt(sq_rest) : 0.0;
          components[depth - 1] = rest;
          // The square of `rest` errs by that of the projection: 2 slack and a little.
          const double off = norms[r] * slack;
          const double sq_off = 3.0 * norms[r] * off;
          const double rest_off =
              sq_off < rest * __builtin_sqrt(sq_off) ? sq_off / rest : __builtin_sqrt(sq_off);
          quantise(sketch.get(), depth, limit, off + rest_off + norms[r] * kShiftError,
                   code(first + r));
        }
      }
    }
  });
}

}  // namespace fastsel::FASTSEL_LEVEL
