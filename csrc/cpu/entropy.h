// Balls of the members of a greedy entropy selection, and what candidates inside them lose.
//
// All sums are of whole numbers (log_sq_dist), so that neither the order of the entries nor that of
// the updates matters: a gain is brought up to date by what changes, and nothing is added up anew.
#pragma once

#include <cstdlib>

#include "cpu/group.h"

namespace fastsel::FASTSEL_LEVEL {

constexpr int64_t kNever = INT64_MIN;     // selected, or too near
constexpr int64_t kLast = INT64_MIN + 1;  // a duplicate of a member

// Adds to a list. Where it is full, those leave that `lives` denies, then it grows. False where
// memory is short.
template <class T, class F>
inline bool push(List<T>* list, const T& item, const F& lives) {
  if (list->count == list->capacity) {
    int64_t kept = 0;
    for (int64_t i = 0; i < list->count; ++i) {
      if (lives(list->items[i])) list->items[kept++] = list->items[i];
    }
    list->count = kept;
    if (2 * kept >= list->capacity) {
      const int64_t capacity = list->capacity == 0 ? 8 : 2 * list->capacity;
      void* grown = std::realloc(list->items, static_cast<size_t>(capacity) * sizeof(T));
      if (grown == nullptr) return false;
      list->items = static_cast<T*>(grown);
      list->capacity = capacity;
    }
  }
  list->items[list->count++] = item;
  return true;
}

template <class T>
inline void clear(List<T>* list) {
  std::free(list->items);
  *list = {nullptr, 0, 0};
}

// Lowers the distance of a candidate to the members, if a member is nearer, and says so. Its gain
// falls with it, for good where it becomes kNever or kLast.
inline bool lower(const EntropyState& state, int64_t row, double sq_dist) {
  int64_t& gain = state.gains[row];
  const double before = state.sq_dist[row];
  if (gain <= kLast || !(sq_dist < before)) return false;
  if (!(__builtin_sqrt(sq_dist) > state.min_distance)) {
    gain = kNever;
  } else if (!(sq_dist > 0.0)) {
    gain = kLast;
  } else {
    const Longs logs = log_sq_dists(Lanes{sq_dist, before, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0});
    gain += logs[0] - logs[1];
  }
  state.sq_dist[row] = sq_dist;
  return true;
}

// Whether a candidate, which may be picked still, lies in the ball of a member. That of an only
// member has no end and takes nothing.
inline bool is_inside(const EntropyState& state, int64_t row, int64_t member, double sq_dist) {
  const double sq_eps = state.sq_eps[member];
  return state.gains[row] > kLast && 0.0 < sq_dist && sq_dist < sq_eps && sq_eps < INFINITY;
}

inline bool lies_in(const List<Ball>& balls, int64_t member) {
  for (int64_t i = 0; i < balls.count; ++i) {
    if (balls.items[i].member == member) return true;
  }
  return false;
}

// Adds to the gain what a candidate inside takes from the member: at most 0, as the logarithm does
// not fall.
inline void lose(const EntropyState& state, int64_t member, const Inside& entry) {
  if (state.gains[entry.row] > kLast) {
    state.gains[entry.row] += entry.log - state.log_eps[member];
  }
}

// Whether a candidate has met a member: in order, or as one of the central ones. A member is
// central from its pick to the day when others are more so. If the candidate last met the central
// ones between the two, it has met the member; if later, perhaps, and the list tells: what lies in
// a ball now did so then.
inline bool has_met(const EntropyState& state, int64_t row, int64_t member) {
  if (member < state.seen[row]) return true;
  if (member >= state.met[row] || state.last_central[member] == 0) return false;
  return state.met[row] <= state.last_central[member] || lies_in(state.balls[row], member);
}

// Lists, for a candidate, a ball that it lies in. False where memory is short.
inline bool list_ball(const EntropyState& state, int64_t row, const Ball& ball) {
  const auto lives = [&](const Ball& other) { return other.sq_dist < state.sq_eps[other.member]; };
  return push(&state.balls[row], ball, lives);
}

// Lists, for a member, a candidate inside its ball. Where the logarithms are the same, there is
// nothing to lose, now or later.
inline bool list_inside(const EntropyState& state, int64_t member, const Inside& entry) {
  const auto lives = [&](const Inside& other) {
    return state.gains[other.row] > kLast && other.log < state.log_eps[member];
  };
  return push(&state.inside[member], entry, lives);
}

// The bound of a pair, for the filter as filter.h has it. Let r be the distance of a candidate x to
// the members and eps that of a member y to its nearest other, both times scale. The pair matters
// if it is nearer than r, then y becomes the nearest of x, or nearer than eps, then x lies in the
// ball of y: that is, nearer than max(r, eps). So it can be passed over unless
//
//   |s_x q_x - s_y q_y| < max(r + e_x + e_y, eps + e_y + e_x),
//
// of which `reach` holds r + e_x, or eps + e_y, rounded up. r only falls, and eps too, so that old
// reaches stay on the safe side. NaN, under which nothing is, where there is no candidate.
inline float either(float own, float of_ball) { return own > of_ball ? own : of_ball; }
inline Vec either(Vec own, Vec of_ball) { return own > of_ball ? own : of_ball; }

inline float pair_bound(const Whole& candidate, float error, float ball) {
  return either(candidate.reach + error, candidate.error + ball);
}

// The square of the same for a vector of a panel.
inline Vec pair_bounds(const Candidates& panel, int64_t v, float error, float ball) {
  return squared(either(load(panel.reaches + v * kVec) + broadcast(error),
                        load(panel.errors + v * kVec) + broadcast(ball)));
}

// Sets the radius of a ball.
inline void set_eps(const Coded& points, const EntropyState& state, int64_t member, double sq_eps) {
  const bool holds = 0.0 < sq_eps && sq_eps < INFINITY;
  const int64_t row = state.members[member];
  state.sq_eps[member] = sq_eps;
  state.log_eps[member] = holds ? log_sq_dist(sq_eps) : 0;
  const auto reach_of = [&](const Codes& codes) {
    return holds ? reach(sq_eps, codes.errors[row], codes.scale) : -INFINITY;
  };
  state.reaches[member] = reach_of(points.codes);
  if (points.sketch.values != nullptr) state.sketch_reaches[member] = reach_of(points.sketch);
}

}  // namespace fastsel::FASTSEL_LEVEL
