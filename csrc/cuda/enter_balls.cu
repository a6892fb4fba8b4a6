// Candidates that the filter could not exclude from balls, entered where they lie inside.
#include "cuda/entropy.h"
#include "cuda/pairs.h"

namespace fastsel::cuda {

namespace {

template <class R>
__global__ void __launch_bounds__(kPairThreads)
    enter_balls_kernel(const R points, const Members members, const int64_t* rows,
                       const Pairs pairs, const int64_t* seen, int64_t* gains, const Balls balls) {
  for_each_pair<false>(
      pairs, points.dim, [&](int64_t m) { return points[members.rows[members.first + m]]; },
      [&](int64_t r) { return points[rows[r]]; },
      [&](int64_t, int64_t m, int64_t r, double value) {
        const int64_t member = members.first + m;
        const int64_t row = rows[r];
        if (member < seen[row] || !(value > 0.0)) return;
        const int64_t log = log_sq_dist(value);
        const int64_t radius = members.log_eps[member];
        if (log >= radius) return;
        append(balls, row, member, log);
        if (gains[row] > kLast) atomic_add(gains + row, log - radius);
      });
}

}  // namespace

void enter_balls(const Matrix& points, const Members& members, const int64_t* rows,
                 const Pairs& pairs, const int64_t* seen, int64_t* gains, const Balls& balls,
                 Stream stream) {
  with_rows(points, [&](const auto& typed) {
    using R = std::decay_t<decltype(typed)>;
    launch(enter_balls_kernel<R>, dim3(pair_blocks(pairs)), kPairThreads, stream, typed, members,
           rows, pairs, seen, gains, balls);
  });
}

}  // namespace fastsel::cuda
