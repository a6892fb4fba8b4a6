// The int8 codes of rows that the filter works on, and how far they are off.
#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Adding and subtracting it rounds a small number to the nearest integer, at every level.
constexpr double kRounder = 0x1.8p52;

inline Lanes absolute(Lanes x) { return x < 0.0 ? -x : x; }

}  // namespace

void encode(const Matrix& points, const double* shift, double scale, int64_t limit, int64_t depth,
            int8_t* values, float* scales, float* sq_norms, float* errors, int threads) {
  const int64_t dim = points.dim;
  const int64_t lanes = (dim + kLanes - 1) / kLanes;
  with_rows(points, [&](const auto& rows) {
#pragma omp parallel num_threads(threads)
    {
      const Buffer<Lanes> image(lanes);
      const Buffer<Lanes> wide_shift(lanes);
      std::memset(wide_shift.get(), 0, static_cast<size_t>(lanes) * sizeof(Lanes));
      std::memcpy(wide_shift.get(), shift, static_cast<size_t>(dim) * sizeof(double));
#pragma omp for schedule(static)
      for (int64_t i = 0; i < points.n; ++i) {
        const auto row = rows[i];
        Lanes largest = {};
        for (int64_t l = 0; l < lanes; ++l) {
          const int64_t k = l * kLanes;
          const Lanes x = k + kLanes <= dim ? row.lanes(k) : row.tail(k, dim);
          image.get()[l] = (x - wide_shift.get()[l]) * scale;
          const Lanes size = absolute(image.get()[l]);
          largest = size > largest ? size : largest;
        }
        double top = 0.0;
        for (int64_t l = 0; l < kLanes; ++l) top = largest[l] > top ? largest[l] : top;
        // Rows too small for a float32 scale are coded as zeros.
        const float unit = top > 0x1p-100 ? round_up(top / static_cast<double>(limit)) : 0.0f;
        const double inverse = unit > 0.0f ? 1.0 / static_cast<double>(unit) : 0.0;
        Lanes sq_code = {};
        Lanes sq_error = {};
        Lanes sq_image = {};
        int8_t* out = values + i * depth;
        for (int64_t l = 0; l < lanes; ++l) {
          const Lanes x = image.get()[l];
          const Lanes code = (x * inverse + kRounder) - kRounder;
          const Lanes error = x - code * static_cast<double>(unit);
          sq_code += code * code;
          sq_error += error * error;
          sq_image += x * x;
          const int64_t width = depth - l * kLanes < kLanes ? depth - l * kLanes : kLanes;
          for (int64_t j = 0; j < width; ++j) {
            out[l * kLanes + j] = static_cast<int8_t>(static_cast<int32_t>(code[j]));
          }
        }
        const double sq_norm = sum_lanes(sq_code) * static_cast<double>(unit) * unit;
        scales[i] = unit;
        sq_norms[i] = static_cast<float>(sq_norm * (1.0 - 0x1p-20));
        // The last two terms: the subtraction of the shift rounds, and squares may underflow.
        errors[i] = round_up(__builtin_sqrt(sum_lanes(sq_error)) * (1.0 + 0x1p-20) +
                             __builtin_sqrt(sum_lanes(sq_image)) * 0x1p-40 + 0x1p-50);
      }
    }
  });
}

}  // namespace fastsel::FASTSEL_LEVEL
