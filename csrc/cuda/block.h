// What `pick` and `accept` share: one block that holds the keys of the active rows in registers,
// and finds, again and again, the first of them by some order.
//
// A pick is a chain of steps that wait for each other, so latency is all that counts: one barrier,
// and the warp's own reductions of 32-bit numbers in place of shuffles.
#pragma once

#include "cuda/device.h"

namespace fastsel::cuda {

constexpr int kBlockThreads = 512;
constexpr int kBlockWarps = kBlockThreads / kWarp;
constexpr int kKeys = static_cast<int>(kMaxActive) / kBlockThreads;
constexpr uint32_t kNone = 0xffffffffu;

// The active row of this thread's i-th key.
__device__ inline int position(int i) { return static_cast<int>(threadIdx.x) + i * kBlockThreads; }

// The keys of the active rows, spread over the block. Beyond the last row, and for rows that are
// picked: -1.
struct Keys {
  double values[kKeys];

  __device__ void load(const Active& active) {
    for (int i = 0; i < kKeys; ++i) {
      values[i] = position(i) < *active.n_active ? active.keys[active.rows[position(i)]] : -1.0;
    }
  }

  __device__ void store(const Active& active) const {
    for (int i = 0; i < kKeys; ++i) {
      if (position(i) < *active.n_active) active.keys[active.rows[position(i)]] = values[i];
    }
  }

  // Accounts for a pick.
  __device__ void lower(const Active& active, int64_t picked) {
    const double* row = active.matrix + picked * active.stride;
    for (int i = 0; i < kKeys; ++i) {
      if (position(i) >= active.stride) continue;
      const double value = row[position(i)];
      if (value < values[i]) values[i] = value;
      if (position(i) == picked) values[i] = -1.0;
    }
  }
};

// A key and its position, in the order in which rows are picked: the larger `order` first, then
// the smaller position.
struct Candidate {
  uint64_t order;
  uint32_t position;
};

__device__ inline Candidate first_in_warp(Candidate mine) {
  const auto high = static_cast<uint32_t>(mine.order >> 32);
  const uint32_t top_high = __reduce_max_sync(kAllLanes, high);
  const uint32_t low = high == top_high ? static_cast<uint32_t>(mine.order) : 0;
  const uint32_t top_low = __reduce_max_sync(kAllLanes, low);
  const uint64_t top = static_cast<uint64_t>(top_high) << 32 | top_low;
  return {top, __reduce_min_sync(kAllLanes, mine.order == top ? mine.position : kNone)};
}

// Reductions over the block take turns with two of these: one barrier then suffices, as nobody
// writes to the one that others may still read.
template <class T>
struct Turns {
  T entries[2][kBlockWarps];
};

}  // namespace fastsel::cuda
