// Gains in entropy on a GPU; fastsel/greedy_entropy.py tells what they are. All are whole numbers,
// so that sums by atomic additions do not depend on the order of threads.
#pragma once

#include "cuda/canonical.h"

namespace fastsel::cuda {

constexpr int64_t kNever = INT64_MIN;     // selected, or too near
constexpr int64_t kLast = INT64_MIN + 1;  // a duplicate of a member

__device__ inline int64_t atomic_add(int64_t* target, int64_t value) {
  return static_cast<int64_t>(atomicAdd(reinterpret_cast<unsigned long long*>(target),
                                        static_cast<unsigned long long>(value)));
}

// By how much a candidate at `log` gains as the logarithm of a ball's radius falls.
__device__ inline int64_t rise_of(int64_t log, int64_t before, int64_t now) {
  return (log < now ? log - now : 0) - (log < before ? log - before : 0);
}

__device__ inline void append(const Balls& balls, int64_t row, int64_t member, int64_t log) {
  const int64_t i = atomic_add(balls.count, 1);
  if (i >= balls.capacity) return;
  balls.rows[i] = static_cast<int32_t>(row);
  balls.members[i] = static_cast<int32_t>(member);
  balls.logs[i] = log;
}

}  // namespace fastsel::cuda
