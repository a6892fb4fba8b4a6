// Greedy entropy picks among candidates that have seen every member.
//
// Each pick is filtered against all candidates, and the canonical distance computed of those that
// may matter. Not in one product beforehand, as in pick.cpp: a round picks only a few of its
// candidates. A pick shrinks the balls that it lies in, which are its own entries, and what other
// candidates lose to those balls changes.
#include "cpu/entropy.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// What the filter knows of a candidate, beside its code.
struct Candidate {
  float scale;
  float sq_norm;
  float error;
  float reach;
};

int64_t best_position(const int64_t* gains, const int64_t* rows, int64_t n_rows) {
  int64_t best = 0;
  for (int64_t i = 1; i < n_rows; ++i) {
    if (gains[rows[i]] > gains[rows[best]]) best = i;
  }
  return best;
}

// Shrinks a ball and updates those inside. The rival becomes the best of the `outside` ones if that
// beats it.
void shrink(EntropyState* state, int64_t member, double sq_eps, const char* listed,
            GainRival* rival) {
  Balls& balls = state->balls;
  const double before = state->sq_eps[member];
  const int64_t change = log_sq_dist(before) - log_sq_dist(sq_eps);
  state->sq_eps[member] = sq_eps;
  int64_t* link = &balls.first_of_member[member];
  while (*link >= 0) {
    Inside& entry = balls.entries[*link];
    const int64_t row = entry.row;
    const bool selected = state->gains[row] == kNever;
    const bool stays = !selected && entry.sq_dist < sq_eps;
    if (!selected) {
      state->losses[row] += stays ? change : -loss(entry.sq_dist, before);
      update_gain(*state, row);
      if (!listed[row] && rival->beaten_by(state->gains[row], row)) {
        *rival = {state->gains[row], row};
      }
    }
    if (stays) {
      link = &entry.next_of_member;
    } else {
      *link = entry.next_of_member;
    }
  }
}

}  // namespace

int64_t entropy_pick(const Matrix& points, const Codes& codes, EntropyState* state,
                     const int64_t* rows, int64_t n_rows, GainRival rival, int64_t max_picks,
                     double* sq_radii, Work* work) {
  const int64_t depth = codes.depth;
  const Buffer<int8_t> values(n_rows * depth);  // together, as the rows lie anywhere
  const Buffer<Candidate> candidates(n_rows);
  const Buffer<char> listed(points.n);
  std::memset(listed.get(), 0, static_cast<size_t>(points.n));
  for (int64_t i = 0; i < n_rows; ++i) {
    const int64_t row = rows[i];
    listed.get()[row] = 1;
    std::memcpy(values.get() + i * depth, codes.values + row * depth, static_cast<size_t>(depth));
    candidates.get()[i] = {codes.scales[row], codes.sq_norms[row], codes.errors[row],
                           reach(state->sq_dist[row], codes.errors[row], codes.scale)};
  }
  *work = {0, 0};
  int64_t count = 0;
  with_rows(points, [&](const auto& typed) {
    while (count < max_picks) {
      const int64_t best = best_position(state->gains, rows, n_rows);
      const int64_t pick = rows[best];
      if (state->gains[pick] == kNever || !rival.beaten_by(state->gains[pick], pick)) break;
      if (!make_room(state, points.n, n_rows)) {
        count = -1;
        break;
      }
      const double sq_radius = state->sq_dist[pick];
      const int64_t member = state->n_members;
      state->gains[pick] = kNever;
      for (int64_t e = state->balls.first_of_row[pick]; e >= 0;) {
        const Inside& entry = state->balls.entries[e];
        if (entry.sq_dist < state->sq_eps[entry.member]) {
          shrink(state, entry.member, entry.sq_dist, listed.get(), &rival);
        }
        e = entry.next_of_row;
      }
      state->members[member] = pick;
      state->sq_eps[member] = sq_radius;
      state->balls.first_of_member[member] = -1;
      ++state->n_members;
      sq_radii[count++] = sq_radius;
      const int8_t* picked = values.get() + best * depth;
      const Candidate of_pick = candidates.get()[best];
      const bool has_ball = sq_radius > 0.0 && sq_radius < INFINITY;
      const float ball = has_ball ? reach(sq_radius, of_pick.error, codes.scale) : -INFINITY;
      for (int64_t i = 0; i < n_rows; ++i) {
        Candidate& candidate = candidates.get()[i];
        const float sq_dist =
            filtered(dot(values.get() + i * depth, picked, depth), candidate.scale,
                     candidate.sq_norm, of_pick.scale, of_pick.sq_norm);
        // Nothing is nearer than a duplicate, whose reach is not a number.
        const float own = candidate.reach + of_pick.error;
        const float of_ball = candidate.error + ball;
        const float bound = own > of_ball ? own : of_ball;
        if (!(sq_dist < bound * bound) || state->gains[rows[i]] == kNever) continue;
        const double value = pair_sq_dist(typed, rows[i], pick, points.dim);
        ++work->canonical;
        if (value < state->sq_dist[rows[i]]) {
          state->sq_dist[rows[i]] = value;
          candidate.reach = reach(value, candidate.error, codes.scale);
        }
        if (is_inside(value, sq_radius)) {
          append(&state->balls, value, rows[i], member);
          state->losses[rows[i]] += loss(value, sq_radius);
        }
        update_gain(*state, rows[i]);
      }
      work->filtered += n_rows;
    }
  });
  if (count > 0) {
    for (int64_t i = 0; i < n_rows; ++i) state->seen[rows[i]] = state->n_members;
  }
  return count;
}

}  // namespace fastsel::FASTSEL_LEVEL
