// Brings candidates of a greedy entropy selection up to date with the members they have not seen.
//
// A pair matters for two reasons: the member may be the candidate's nearest, or the candidate may
// lie in the member's ball. It passes a filter unless both are excluded.
#include "cpu/entropy.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

struct Found {
  Ball ball;
  Inside entry;
};

constexpr int64_t kFoundAhead = 8;

struct Entropy {
  static constexpr bool kOwnReach = false;
  static constexpr bool kRepeats = false;

  EntropyState* state;
  const float* ball_reaches;  // to the packed codes
  GainRival rival;
  const double* sq_dist = state->sq_dist;
  List<Found> found = {};
  int64_t n_settled = 0;  // those found whose logarithms are there
  bool enough_memory = true;

  bool stays(int64_t row) const { return rival.beaten_by(state->gains[row], row); }

  bool has_met(int64_t row, int64_t member) const {
    return FASTSEL_LEVEL::has_met(*state, row, member);
  }

  float bound(const Whole& candidate, int64_t member, float error) const {
    return pair_bound(candidate, error, state->reaches[member]);
  }

  int64_t list(const Tile& tile, const Candidates& panel, const Block& block, int64_t first,
               Pair* pairs) const {
    float balls[kTileRows];
    for (int64_t r = 0; r < kTileRows; ++r) {
      const bool padding = first + r >= block.count;
      balls[r] = padding ? -INFINITY : ball_reaches[block.centre(first + r)];
    }
    const float* errors = block.packed.errors() + first;
    return list_under(tile, panel, block.packed, first, pairs, [&](int64_t r, int64_t v) {
      return pair_bounds(panel, v, errors[r], balls[r]);
    });
  }

  bool meet(int64_t row, int64_t member, double value) {
    const bool fell = lower(*state, row, value);
    if (is_inside(*state, row, member, value)) {
      const Ball ball = {value, member};
      enough_memory &= list_ball(*state, row, ball);
      enough_memory &= push(&found, {ball, {0, row}}, [](const Found&) { return true; });
    }
    return fell;
  }

  // Logarithms take less time in lanes.
  void settled() {
    for (; n_settled < found.count; n_settled += kLanes) {
      const int64_t n = min(kLanes, found.count - n_settled);
      Found* next = found.items + n_settled;
      Lanes values = 1.0 - Lanes{};
      for (int64_t i = 0; i < n; ++i) values[i] = next[i].ball.sq_dist;
      const Longs logs = log_sq_dists(values);
      for (int64_t i = 0; i < n; ++i) {
        next[i].entry.log = logs[i];
        lose(*state, next[i].ball.member, next[i].entry);
      }
    }
    n_settled = found.count;
  }

  // Lists of members have no lock; no other thread is at work.
  void finish() {
    for (int64_t i = 0; i < found.count; ++i) {
      if (i + kFoundAhead < found.count) {
        const List<Inside>& later = state->inside[found.items[i + kFoundAhead].ball.member];
        __builtin_prefetch(later.items + later.count, 1);
      }
      enough_memory &= list_inside(*state, found.items[i].ball.member, found.items[i].entry);
    }
    clear(&found);
    state->enough_memory &= enough_memory;
  }
};

}  // namespace

void entropy_start(const Coded& points, EntropyState* state, int64_t count) {
  for (int64_t i = 0; i < count; ++i, ++state->n_members) {
    set_eps(points, *state, state->n_members, state->sq_eps[state->n_members]);
  }
}

Work entropy_refresh(const Coded& points, EntropyState* state, const int64_t* rows, int64_t n_rows,
                     const Centres& members, GainRival rival, int threads) {
  for (int64_t i = 0; i < members.n_central; ++i) {
    state->last_central[members.central[i]] = members.n;
  }
  state->met = members.met;
  const float* balls = points.sketch.values != nullptr ? state->sketch_reaches : state->reaches;
  const Entropy objective{state, balls, rival};
  return bring_up_to_date(points, rows, n_rows, state->seen, members, objective, threads);
}

}  // namespace fastsel::FASTSEL_LEVEL
