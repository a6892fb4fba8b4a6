// Threshold acceptance among the active rows, all sweeps in one launch of one block.
#include "cuda/block.h"

namespace fastsel::cuda {

namespace {

struct AcceptShared {
  Turns<uint32_t> turns;
};

__global__ void __launch_bounds__(kBlockThreads)
    accept_kernel(const Active active, const double* limits, int64_t n_limits, const Picks picks,
                  int64_t* sweeps) {
  FASTSEL_SHARED(AcceptShared, shared);
  Keys keys;
  keys.load(active);
  int64_t count = *picks.count;
  int turn = 0;
  for (int64_t sweep = 0; sweep < n_limits; ++sweep) {
    const double limit = limits[sweep];
    for (int64_t next = 0; count < picks.capacity;) {
      turn ^= 1;
      // The first row from `next` on whose key is above the limit.
      uint32_t first = kNone;
      for (int i = kKeys - 1; i >= 0; --i) {
        if (keys.values[i] > limit && keys.values[i] >= 0.0 && position(i) >= next) {
          first = static_cast<uint32_t>(position(i));
        }
      }
      first = __reduce_min_sync(kAllLanes, first);
      if (lane_id() == 0) shared.turns.entries[turn][warp_id()] = first;
      __syncthreads();
      first = lane_id() < kBlockWarps ? shared.turns.entries[turn][lane_id()] : kNone;
      first = __reduce_min_sync(kAllLanes, first);

      // From here on everything is the same for the whole block.
      if (first == kNone) break;
      for (int i = 0; i < kKeys; ++i) {
        if (position(i) != static_cast<int>(first)) continue;
        picks.rows[count] = active.rows[first];
        picks.sq_radii[count] = keys.values[i];
        sweeps[count] = sweep;
      }
      ++count;
      keys.lower(active, first);
      next = static_cast<int64_t>(first) + 1;
    }
  }
  keys.store(active);
  __syncthreads();  // all have read the old count
  if (threadIdx.x == 0) *picks.count = count;
}

}  // namespace

void accept(const Active& active, const double* limits, int64_t n_limits, const Picks& picks,
            int64_t* sweeps, Stream stream) {
  launch(accept_kernel, dim3(1), kBlockThreads, stream, active, limits, n_limits, picks, sweeps);
}

}  // namespace fastsel::cuda
