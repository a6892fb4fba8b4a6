// Greedy picks by entropy among the active rows, all in one launch of one block.
//
// A pick shrinks the balls that it lies in. Those of older members are runs of entries, and a warp
// raises the gains of all candidates in one of them, active or not; those of members that this
// round picked are rows of the matrix. Then each thread accounts for the pick in its own active
// rows. The best of the rows outside takes part when the next pick is looked for, and ends the
// round.
#include "cuda/block.h"
#include "cuda/entropy.h"

namespace fastsel::cuda {

namespace {

// Gains order like these; 0 is that of kNever.
__device__ uint64_t order_of(int64_t gain) { return static_cast<uint64_t>(gain) ^ 1ull << 63; }

__device__ bool before(const Candidate& a, const Candidate& b) {
  return a.order > b.order || (a.order == b.order && a.position < b.position);
}

struct EntropyShared {
  int64_t gains[kMaxActive];
  int32_t shrunk[kMaxActive];  // picks of this round whose balls shrink
  unsigned n_shrunk[2];        // takes turns, as `turns` do
  double sq_radius;            // of the pick
  int64_t log_radius;
  int64_t entered;
  Turns<Candidate> turns;
};

// The balls of older members that the active row `at` lies in: gains of candidates there rise. The
// best of those outside the round goes to `outside`.
__device__ void shrink(EntropyShared& shared, const EntropyRound& round, int64_t at,
                       Candidate& outside) {
  const int64_t end = round.of_row.first[at + 1];
  for (int64_t e = round.of_row.first[at] + warp_id(); e < end; e += kBlockWarps) {
    const int64_t member = round.of_row.others[e];
    const int64_t now = round.of_row.logs[e];
    const int64_t radius = round.log_eps[member];
    if (now >= radius) continue;
    const int64_t ball_end = round.of_member.first[member + 1];
    for (int64_t i = round.of_member.first[member] + lane_id(); i < ball_end; i += kWarp) {
      const int64_t rise = rise_of(round.of_member.logs[i], radius, now);
      if (rise == 0) continue;
      const int64_t row = round.of_member.others[i];
      const int32_t place = round.place[row];
      if (place >= 0) {
        if (place != at && shared.gains[place] > kLast) atomic_add(shared.gains + place, rise);
      } else if (round.gains[row] > kLast) {
        const int64_t gain = atomic_add(round.gains + row, rise) + rise;
        const Candidate risen = {order_of(gain), static_cast<uint32_t>(row)};
        if (before(risen, outside)) outside = risen;
      }
    }
  }
}

__global__ void __launch_bounds__(kBlockThreads, 1)
    entropy_pick_kernel(const EntropyRound round, const EntropyPicks picks) {
  FASTSEL_SHARED(EntropyShared, shared);
  const int n = static_cast<int>(round.n);
  const Candidate rival = {order_of(*round.rival), static_cast<uint32_t>(*round.rival_row)};
  uint32_t rows[kKeys];
  double sq_dist[kKeys];
  int64_t logs[kKeys];
  for (int i = 0; i < kKeys; ++i) {
    const int64_t row = position(i) < n ? round.rows[position(i)] : 0;
    rows[i] = static_cast<uint32_t>(row);
    sq_dist[i] = round.sq_dist[row];
    logs[i] = log_sq_dist(sq_dist[i]);
    shared.gains[position(i)] = position(i) < n ? round.gains[row] : kNever;
  }
  if (threadIdx.x == 0) {
    shared.n_shrunk[0] = shared.n_shrunk[1] = 0;
    shared.entered = 0;
  }
  Candidate outside = {0, kNone};
  int64_t count = 0;
  int turn = 0;
  while (count < picks.capacity) {
    turn ^= 1;
    Candidate best = outside;
    for (int i = 0; i < kKeys; ++i) {
      const Candidate own = {order_of(shared.gains[position(i)]), rows[i]};
      if (before(own, best)) best = own;
    }
    best = first_in_warp(best);
    if (lane_id() == 0) shared.turns.entries[turn][warp_id()] = best;
    __syncthreads();
    const bool listed = lane_id() < kBlockWarps;
    best = first_in_warp(listed ? shared.turns.entries[turn][lane_id()] : Candidate{0, kNone});

    // What these decide is the same for the whole block.
    if (best.order == 0 || !before(best, rival)) break;
    const int32_t at = round.place[best.position];
    if (at < 0) break;
    const double* near = round.matrix + static_cast<int64_t>(at) * n;
    shrink(shared, round, at, outside);
    for (int t = static_cast<int>(threadIdx.x); t < count; t += kBlockThreads) {
      const double value = near[picks.places[t]];
      if (0.0 < value && value < picks.sq_eps[t]) {
        shared.shrunk[atomicAdd(shared.n_shrunk + turn, 1u)] = t;
      }
    }
    if (threadIdx.x == 0) shared.n_shrunk[turn ^ 1] = 0;
    for (int i = 0; i < kKeys; ++i) {
      if (position(i) != at) continue;
      shared.sq_radius = sq_dist[i];
      shared.log_radius = logs[i];
    }
    __syncthreads();

    const unsigned n_shrunk = shared.n_shrunk[turn];
    const double sq_radius = shared.sq_radius;
    const int64_t log_radius = shared.log_radius;
    for (int i = 0; i < kKeys; ++i) {
      const int place = position(i);
      int64_t gain = shared.gains[place];
      if (gain == kNever) continue;
      if (place == at) {
        shared.gains[place] = kNever;
        continue;
      }
      for (unsigned s = 0; s < n_shrunk && gain > kLast; ++s) {
        const int64_t t = shared.shrunk[s];
        const double value = round.matrix[picks.places[t] * n + place];
        if (value >= picks.sq_eps[t]) continue;
        gain += rise_of(log_sq_dist(value), round.log_eps[round.n_members + t],
                        log_sq_dist(near[picks.places[t]]));
      }
      const double value = near[place];
      const int64_t log = value < sq_dist[i] || value < sq_radius ? log_sq_dist(value) : 0;
      if (0.0 < value && value < sq_radius && gain > kLast) gain += log - log_radius;
      if (value < sq_dist[i]) {
        gain = value <= round.least ? kNever : value > 0.0 ? gain + (log - logs[i]) : kLast;
        sq_dist[i] = value;
        logs[i] = log;
      }
      shared.gains[place] = gain;
    }
    const int64_t end = round.of_row.first[at + 1];
    for (int64_t e = round.of_row.first[at] + threadIdx.x; e < end; e += kBlockThreads) {
      int64_t& radius = round.log_eps[round.of_row.others[e]];
      if (round.of_row.logs[e] < radius) radius = round.of_row.logs[e];
    }
    if (threadIdx.x == 0) {
      picks.members[count] = best.position;
      picks.sq_eps[count] = picks.sq_radii[count] = sq_radius;
      picks.places[count] = at;
      round.log_eps[round.n_members + count] = log_radius;
    }
    ++count;
    if (n_shrunk == 0) continue;
    __syncthreads();  // all have read the radii that change
    for (unsigned s = threadIdx.x; s < n_shrunk; s += kBlockThreads) {
      const int64_t t = shared.shrunk[s];
      const double value = near[picks.places[t]];
      picks.sq_eps[t] = value;
      round.log_eps[round.n_members + t] = log_sq_dist(value);
    }
  }
  __syncthreads();

  int64_t entered = 0;
  for (int i = 0; i < kKeys; ++i) {
    if (position(i) >= n) continue;
    const int64_t gain = shared.gains[position(i)];
    round.gains[rows[i]] = gain;
    round.sq_dist[rows[i]] = sq_dist[i];
    for (int64_t t = 0; t < count && gain > kNever; ++t) {
      const double value = round.matrix[picks.places[t] * n + position(i)];
      entered += 0.0 < value && value < picks.sq_eps[t] ? 1 : 0;
    }
  }
  atomic_add(&shared.entered, entered);
  __syncthreads();
  if (threadIdx.x == 0) {
    picks.counts[0] = count;
    picks.counts[1] = shared.entered;
  }
}

}  // namespace

void entropy_pick(const EntropyRound& round, const EntropyPicks& picks, Stream stream) {
  launch(entropy_pick_kernel, dim3(1), kBlockThreads, stream, round, picks);
}

}  // namespace fastsel::cuda
