// Greedy entropy picks among candidates whose gains are upper bounds.
//
// The candidate that leads meets the members that it has not seen, one by one: few, if it was up to
// date when the picks began. It is picked if it then still leads; a gain only falls by what is
// seen. All others wait for their turn, so that a pick is compared with few of them.
//
// A pick shrinks the balls that it lies in, and what other candidates lose to those balls changes,
// whether they are listed or not. Those that come before the rival then join the list.
#include "cpu/entropy.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Members that a candidate sees before it is asked whether it still beats the rival.
constexpr int64_t kSeenAtOnce = 64;
constexpr int64_t kCodesAhead = 4;

constexpr int64_t kScanned = 64;  // gains whose largest is found without a branch
constexpr int32_t kUnlisted = -1;

template <class R>
class Picker {
 public:
  Picker(const R& rows, const Coded& points, EntropyState* state, GainRival rival, int64_t room)
      : rows_(rows),
        points_(points),
        state_(*state),
        rival_(rival),
        room_(room),
        listed_(room),
        gains_(room),
        slots_(points.points.n) {
    for (int64_t i = 0; i < points.points.n; ++i) slots_.get()[i] = kUnlisted;
  }

  Work work = {0, 0, 0};

  void list(int64_t row) {
    listed_.get()[n_listed_] = row;
    gains_.get()[n_listed_] = state_.gains[row];
    slots_.get()[row] = static_cast<int32_t>(n_listed_++);
  }

  int64_t pick(int64_t max_picks, double* sq_radii) {
    int64_t count = 0;
    while (count < max_picks) {
      const int64_t slot = best_slot();
      const int64_t row = listed_.get()[slot];
      if (!rival_.beaten_by(state_.gains[row], row)) break;
      if (state_.seen[row] < state_.n_members) {
        catch_up(row);
      } else {
        sq_radii[count++] = state_.sq_dist[row];
        select(row);
      }
      gains_.get()[slot] = state_.gains[row];
    }
    return count;
  }

 private:
  const R rows_;
  const Coded& points_;
  EntropyState& state_;
  GainRival rival_;
  const int64_t room_;
  Buffer<int64_t> listed_;
  Buffer<int64_t> gains_;  // of the rows listed
  Buffer<int32_t> slots_;  // of all rows, in the list
  int64_t n_listed_ = 0;

  // The slot of largest gain, of those the one of the first row.
  int64_t best_slot() const {
    const int64_t* gains = gains_.get();
    int64_t best = 0;
    for (int64_t begin = 0; begin < n_listed_; begin += kScanned) {
      const int64_t end = min(begin + kScanned, n_listed_);
      int64_t top = gains[begin];
      for (int64_t i = begin + 1; i < end; ++i) top = gains[i] > top ? gains[i] : top;
      if (top < gains[best]) continue;
      for (int64_t i = begin; i < end; ++i) {
        const GainRival leader = {gains[best], listed_.get()[best]};
        if (leader.beaten_by(gains[i], listed_.get()[i])) best = i;
      }
    }
    return best;
  }

  // Shows a candidate the members that it has not seen, while it beats the rival.
  void catch_up(int64_t row) {
    const bool sketched = points_.sketch.values != nullptr;
    const Codes& codes = sketched ? points_.sketch : points_.codes;
    const float* balls = sketched ? state_.sketch_reaches : state_.reaches;
    float own = reach_of(codes, row);
    int64_t& seen = state_.seen[row];
    while (seen < state_.n_members && rival_.beaten_by(state_.gains[row], row)) {
      const int64_t end = min(seen + kSeenAtOnce, state_.n_members);
      work.filtered += end - seen;
      for (; seen < end; ++seen) {
        if (seen + kCodesAhead < end) prefetch(codes, state_.members[seen + kCodesAhead]);
        if (!passes(codes, own, balls, row, seen) || has_met(state_, row, seen)) continue;
        if (sketched) {
          const float whole = reach_of(points_.codes, row);
          if (!passes(points_.codes, whole, state_.reaches, row, seen)) continue;
        }
        if (meet(row, seen)) own = reach_of(codes, row);
      }
    }
  }

  float reach_of(const Codes& codes, int64_t row) const {
    return reach(state_.sq_dist[row], codes.errors[row], codes.scale);
  }

  // Whether a pair passes the filter of some codes, with the reaches of both to them.
  bool passes(const Codes& codes, float own, const float* balls, int64_t row,
              int64_t member) const {
    const int64_t centre = state_.members[member];
    const int32_t product =
        dot(codes.values + row * codes.depth, codes.values + centre * codes.depth, codes.depth);
    const float sq_dist = filtered(product, codes.scales[row], codes.sq_norms[row],
                                   codes.scales[centre], codes.sq_norms[centre]);
    const float bound = either(own + codes.errors[centre], codes.errors[row] + balls[member]);
    return sq_dist < bound * bound;
  }

  // Says whether the candidate's distance fell.
  bool meet(int64_t row, int64_t member) {
    const double value = pair_sq_dist(rows_, row, state_.members[member], points_.points.dim);
    ++work.canonical;
    const bool fell = lower(state_, row, value);
    if (!is_inside(state_, row, member, value)) return fell;
    const Inside entry = {log_sq_dist(value), row};
    lose(state_, member, entry);
    state_.enough_memory &= list_ball(state_, row, {value, member});
    state_.enough_memory &= list_inside(state_, member, entry);
    return fell;
  }

  void select(int64_t row) {
    const int64_t member = state_.n_members++;
    state_.gains[row] = kNever;
    state_.members[member] = row;
    state_.seen[row] = state_.n_members;
    set_eps(points_, state_, member, state_.sq_dist[row]);
    const List<Ball>& balls = state_.balls[row];
    for (int64_t i = 0; i < balls.count; ++i) {
      const Ball& ball = balls.items[i];
      if (ball.sq_dist < state_.sq_eps[ball.member]) shrink(ball.member, ball.sq_dist);
    }
    clear(&state_.balls[row]);
  }

  // Shrinks a ball and updates those inside.
  void shrink(int64_t member, double sq_eps) {
    const int64_t before = state_.log_eps[member];
    set_eps(points_, state_, member, sq_eps);
    const int64_t now = state_.log_eps[member];
    List<Inside>& inside = state_.inside[member];
    int64_t kept = 0;
    for (int64_t i = 0; i < inside.count; ++i) {
      const Inside entry = inside.items[i];
      int64_t& gain = state_.gains[entry.row];
      if (gain <= kLast) continue;
      gain += before - (entry.log < now ? now : entry.log);
      if (entry.log < now) inside.items[kept++] = entry;
      const int64_t slot = slots_.get()[entry.row];
      if (slot != kUnlisted) {
        gains_.get()[slot] = gain;
      } else if (!rival_.beaten_by(gain, entry.row)) {
        continue;
      } else if (n_listed_ < room_) {
        list(entry.row);
      } else {
        rival_ = {gain, entry.row};
      }
    }
    inside.count = kept;
  }
};

}  // namespace

int64_t entropy_pick(const Coded& points, EntropyState* state, const int64_t* rows, int64_t n_rows,
                     GainRival rival, int64_t max_picks, double* sq_radii, Work* work) {
  int64_t count = 0;
  with_rows(points.points, [&](const auto& typed) {
    Picker<std::decay_t<decltype(typed)>> picker(typed, points, state, rival, 2 * n_rows);
    for (int64_t i = 0; i < n_rows; ++i) picker.list(rows[i]);
    count = picker.pick(max_picks, sq_radii);
    *work = picker.work;
  });
  return count;
}

}  // namespace fastsel::FASTSEL_LEVEL
