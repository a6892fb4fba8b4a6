// Canonical distances of the pairs of a list whose length only the device knows.
#pragma once

#include <type_traits>

#include "cuda/canonical.h"

namespace fastsel::cuda {

constexpr int kPairThreads = 256;
constexpr int kPairsPerBlock = kPairThreads / kLanes;

// Enough blocks to fill any GPU; each takes every so many-th pair of the list.
constexpr int64_t kPairBlocks = 2048;

inline unsigned pair_blocks(const Pairs& pairs) {
  const unsigned blocks = blocks_for(pairs.capacity, kPairsPerBlock);
  return blocks < kPairBlocks ? blocks : static_cast<unsigned>(kPairBlocks);
}

// How many pairs are in the list.
__device__ inline int64_t listed(const Pairs& pairs) {
  return *pairs.count < pairs.capacity ? *pairs.count : pairs.capacity;
}

// Calls f(place in the list, row, column, key) for each listed pair of row x_of(row) and row
// y_of(column), by one thread.
template <bool Inner, class X, class Y, class F>
__device__ inline void for_each_pair(const Pairs& pairs, int64_t dim, const X& x_of, const Y& y_of,
                                     const F& f) {
  const int64_t n = listed(pairs);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kPairsPerBlock;
  const int64_t warp =
      static_cast<int64_t>(blockIdx.x) * kPairsPerBlock + warp_id() * kPairsPerWarp;
  for (int64_t first = warp; first < n; first += stride) {  // the same for the whole warp
    const int64_t mine = first + lane_id() / kLanes;
    const int64_t there = mine < n ? mine : n - 1;
    const int64_t row = pairs.pairs[2 * there];
    const int64_t column = pairs.pairs[2 * there + 1];
    const double value = key<Inner>(x_of(row), y_of(column), dim);
    if (mine < n && lane_id() % kLanes == 0) f(mine, row, column, value);
  }
}

}  // namespace fastsel::cuda
