// Balls of the members of a greedy entropy selection, and what candidates inside them lose.
//
// All sums are of whole numbers (log_sq_dist), so that neither the order of the entries nor that of
// the updates matters.
#pragma once

#include <cstdlib>

#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

constexpr int64_t kNever = INT64_MIN;     // selected, or too near
constexpr int64_t kLast = INT64_MIN + 1;  // a duplicate of a member

inline void update_gain(const EntropyState& state, int64_t row) {
  const double key = state.sq_dist[row];
  state.gains[row] = !(__builtin_sqrt(key) > state.min_distance) ? kNever
                     : key > 0.0 ? log_sq_dist(key) + state.losses[row]
                                 : kLast;
}

// What a candidate within a ball takes from its member; at most 0, as the logarithm does not fall.
inline int64_t loss(double sq_dist, double sq_eps) {
  return log_sq_dist(sq_dist) - log_sq_dist(sq_eps);
}

// Whether a pair makes an entry. The ball of the only member has no end and takes nothing.
inline bool is_inside(double sq_dist, double sq_eps) {
  return 0.0 < sq_dist && sq_dist < sq_eps && sq_eps < INFINITY;
}

inline void append(Balls* balls, double sq_dist, int64_t row, int64_t member) {
  const int64_t i = balls->count++;
  balls->entries[i] = {sq_dist, row, member, balls->first_of_member[member],
                       balls->first_of_row[row]};
  balls->first_of_member[member] = balls->first_of_row[row] = i;
}

// Makes room for `more` entries: drops the dead ones, then grows. False where memory is short.
inline bool make_room(EntropyState* state, int64_t n, int64_t more) {
  Balls& balls = state->balls;
  if (balls.count + more <= balls.capacity) return true;
  const int64_t old_count = balls.count;
  balls.count = 0;
  for (int64_t m = 0; m < state->n_members; ++m) balls.first_of_member[m] = -1;
  for (int64_t i = 0; i < n; ++i) balls.first_of_row[i] = -1;
  for (int64_t i = 0; i < old_count; ++i) {
    const Inside entry = balls.entries[i];
    if (state->gains[entry.row] == kNever || !(entry.sq_dist < state->sq_eps[entry.member]))
      continue;
    append(&balls, entry.sq_dist, entry.row, entry.member);
  }
  const int64_t needed = balls.count + more;
  if (2 * needed <= balls.capacity) return true;
  void* grown = std::realloc(balls.entries, static_cast<size_t>(2 * needed) * sizeof(Inside));
  if (grown == nullptr) return false;
  balls.entries = static_cast<Inside*>(grown);
  balls.capacity = 2 * needed;
  return true;
}

}  // namespace fastsel::FASTSEL_LEVEL
