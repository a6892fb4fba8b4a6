// Greedy picks among the active rows, all in one launch of one block.
#include "cuda/block.h"

namespace fastsel::cuda {

namespace {

// Numbers that are not negative order like their bits; 0 is left for the others.
__device__ uint64_t order_of(double key) {
  return key < 0.0 ? 0 : static_cast<uint64_t>(__double_as_longlong(key)) + 1;
}

struct PickShared {
  Turns<Candidate> turns;
};

__global__ void __launch_bounds__(kBlockThreads)
    pick_kernel(const Active active, const double* rival_key, const int64_t* rival_row,
                double least, const Picks picks) {
  FASTSEL_SHARED(PickShared, shared);
  const double to_beat = *rival_key;
  const int64_t to_beat_row = *rival_row;
  Keys keys;
  keys.load(active);
  int64_t count = *picks.count;
  int turn = 0;
  while (count < picks.capacity) {
    turn ^= 1;
    Candidate best = {0, kNone};
    for (int i = 0; i < kKeys; ++i) {
      const uint64_t order = order_of(keys.values[i]);
      if (order > best.order) best = {order, static_cast<uint32_t>(position(i))};
    }
    best = first_in_warp(best);
    if (lane_id() == 0) shared.turns.entries[turn][warp_id()] = best;
    __syncthreads();
    const bool listed = lane_id() < kBlockWarps;
    best = first_in_warp(listed ? shared.turns.entries[turn][lane_id()] : Candidate{0, kNone});

    // From here on everything is the same for the whole block.
    if (best.order == 0) break;
    const double key = __longlong_as_double(static_cast<long long>(best.order - 1));
    const int64_t row = active.rows[best.position];
    if (!(key > to_beat || (key == to_beat && row < to_beat_row)) || !(key > least)) break;
    if (threadIdx.x == 0) {
      picks.rows[count] = row;
      picks.sq_radii[count] = key;
    }
    ++count;
    keys.lower(active, best.position);
  }
  keys.store(active);
  __syncthreads();  // all have read the old count
  if (threadIdx.x == 0) *picks.count = count;
}

}  // namespace

void pick(const Active& active, const double* rival_key, const int64_t* rival_row, double least,
          const Picks& picks, Stream stream) {
  launch(pick_kernel, dim3(1), kBlockThreads, stream, active, rival_key, rival_row, least, picks);
}

}  // namespace fastsel::cuda
