// The first neighbours of each query among its listed points: a warp to a query, four pairs at a
// time, the best so far in registers. No distance is written but those of neighbours.
#include "cuda/pairs.h"

namespace fastsel::cuda {

namespace {

struct Neighbour {
  double key;
  int32_t point;
};

constexpr Neighbour kNobody = {INFINITY, INT32_MAX};

__device__ bool before(const Neighbour& a, const Neighbour& b) {
  return a.key < b.key || (a.key == b.key && a.point < b.point);
}

__device__ Neighbour from_lane(const Neighbour& one, int lane) {
  return {__shfl_sync(kAllLanes, one.key, lane), __shfl_sync(kAllLanes, one.point, lane)};
}

__device__ Neighbour from_lane_before(const Neighbour& one) {
  return {__shfl_up_sync(kAllLanes, one.key, 1), __shfl_up_sync(kAllLanes, one.point, 1)};
}

// The first kMaxTop neighbours so far, in order: a lane has those of its number, and of its number
// and a warp more.
class Best {
 public:
  // Takes one in, if it is among the first k; all lanes have the same one.
  __device__ void offer(const Neighbour& one, int k) {
    const int place = __popc(__ballot_sync(kAllLanes, before(low_, one))) +
                      __popc(__ballot_sync(kAllLanes, before(high_, one)));
    if (place >= k) return;
    const int lane = lane_id();
    // What comes after it moves on by a place.
    const Neighbour last_of_low = from_lane(low_, kWarp - 1);
    const Neighbour below_low = from_lane_before(low_);
    const Neighbour below_high = from_lane_before(high_);
    if (lane + kWarp > place) high_ = lane == 0 ? last_of_low : below_high;
    if (lane + kWarp == place) high_ = one;
    if (lane > place) low_ = below_low;
    if (lane == place) low_ = one;
  }

  __device__ void store(int k, double* keys, int64_t* index) const {
    const int lane = lane_id();
    if (lane < k) store(low_, keys + lane, index + lane);
    if (lane + kWarp < k) store(high_, keys + lane + kWarp, index + lane + kWarp);
  }

 private:
  Neighbour low_ = kNobody;
  Neighbour high_ = kNobody;

  __device__ static void store(const Neighbour& one, double* key, int64_t* index) {
    *key = one.key;
    *index = one.point == kNobody.point ? INT64_MAX : one.point;
  }
};

static_assert(kMaxTop == 2 * kWarp, "two for each lane");

template <class R, bool Inner>
__global__ void __launch_bounds__(kPairThreads)
    top_k_kernel(const R queries, const int64_t* rows, int64_t n, const R points, const Lists lists,
                 bool exclude_self, int k, double* keys, int64_t* index) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kPairThreads / kWarp) + warp_id();
  if (row >= n) return;  // the whole warp
  const auto query = static_cast<int32_t>(rows[row]);
  const int32_t* cols = lists.cols + lists.first[row];
  const auto count = static_cast<int32_t>(lists.first[row + 1] - lists.first[row]);
  Best best;
  for (int32_t begin = 0; begin < count; begin += kPairsPerWarp) {
    const int32_t mine = begin + lane_id() / kLanes;
    const int32_t point = cols[mine < count ? mine : count - 1];
    const double value = key<Inner>(queries[query], points[point], points.dim);
    const bool wanted = mine < count && !(exclude_self && point == query);
    const Neighbour found = wanted ? Neighbour{value, point} : kNobody;
    for (int pair = 0; pair < kPairsPerWarp; ++pair) {
      best.offer(from_lane(found, pair * kLanes), k);
    }
  }
  best.store(k, keys + row * k, index + row * k);
}

}  // namespace

void top_k(const Matrix& queries, const int64_t* rows, int64_t n, const Matrix& points,
           const Lists& lists, bool exclude_self, bool by_inner_product, int k, double* keys,
           int64_t* index, Stream stream) {
  if (n == 0) return;
  const dim3 grid(blocks_for(n, kPairThreads / kWarp));
  with_keys(points, by_inner_product, [&](const auto& typed, auto inner) {
    using R = std::decay_t<decltype(typed)>;
    launch(top_k_kernel<R, decltype(inner)::value>, grid, kPairThreads, stream, R(queries), rows, n,
           typed, lists, exclude_self, k, keys, index);
  });
}

}  // namespace fastsel::cuda
