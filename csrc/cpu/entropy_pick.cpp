// Greedy entropy picks among candidates that have seen every member.
//
// Each pick is filtered against all candidates, and the canonical distance computed of those that
// may matter. Not in one product beforehand, as in pick.cpp: a round picks only a few of its
// candidates. A pick shrinks the balls that it lies in, which are its own entries, and what other
// candidates lose to those balls changes.
#include "cpu/entropy.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Candidates in panels, and what the filter knows of them, for one centre at a time.
class Candidates {
 public:
  Candidates(const Codes& codes, const int64_t* rows, int64_t n_rows)
      : codes_(codes),
        steps_(codes.depth / kStep),
        stride_((n_rows + kTileCols - 1) / kTileCols * kTileCols),
        packed_(stride_ * steps_),
        words_(steps_),
        scales_(stride_),
        sq_norms_(stride_),
        sq_dists_(stride_) {
    for (int64_t begin = 0; begin < stride_; begin += kTileCols) {
      const int64_t width = n_rows - begin < kTileCols ? n_rows - begin : kTileCols;
      pack_points(codes, rows + begin, width, kTileCols, packed_.get() + begin * steps_);
    }
    for (int64_t i = 0; i < stride_; ++i) {
      scales_.get()[i] = i < n_rows ? codes.scales[rows[i]] : 0.0f;
      sq_norms_.get()[i] = i < n_rows ? codes.sq_norms[rows[i]] : INFINITY;
    }
  }

  int64_t stride() const { return stride_; }

  // Filtered squared distances of all candidates to a row, float32 [stride].
  const float* sq_dists(int64_t row) {
    const int8_t* code = codes_.values + row * codes_.depth;
    for (int64_t k = 0; k < steps_; ++k) words_.get()[k] = centre_word(code + k * kStep);
    const int32_t sum = first_sum(code, codes_.depth);
    for (int64_t begin = 0; begin < stride_; begin += kTileCols) {
      const TileRow products =
          row_product(packed_.get() + begin * steps_, words_.get(), sum, steps_);
      for (int64_t v = 0; v < kTileVecs; ++v) {
        const int64_t i = begin + v * kVec;
        store(sq_dists_.get() + i,
              filtered(products.sums[v], load(scales_.get() + i), load(sq_norms_.get() + i),
                       codes_.scales[row], codes_.sq_norms[row]));
      }
    }
    return sq_dists_.get();
  }

 private:
  const Codes& codes_;
  const int64_t steps_;
  const int64_t stride_;
  Buffer<int32_t> packed_;
  Buffer<int32_t> words_;
  Buffer<float> scales_;
  Buffer<float> sq_norms_;
  Buffer<float> sq_dists_;
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
  Candidates candidates(codes, rows, n_rows);
  const int64_t stride = candidates.stride();
  const Buffer<float> reaches(stride);
  const Buffer<float> errors(stride);
  const Buffer<char> listed(points.n);
  std::memset(listed.get(), 0, static_cast<size_t>(points.n));
  for (int64_t i = 0; i < stride; ++i) {
    reaches.get()[i] = errors.get()[i] = kNobody;
    if (i >= n_rows) continue;
    listed.get()[rows[i]] = 1;
    errors.get()[i] = codes.errors[rows[i]];
    reaches.get()[i] = reach(state->sq_dist[rows[i]], codes.errors[rows[i]], codes.scale);
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
      reaches.get()[best] = errors.get()[best] = kNobody;
      const float* sq_dists = candidates.sq_dists(pick);
      const float error = codes.errors[pick];
      const bool has_ball = sq_radius > 0.0 && sq_radius < INFINITY;
      const float ball = has_ball ? reach(sq_radius, error, codes.scale) : -INFINITY;
      for (int64_t i = 0; i < stride; i += kVec) {
        const Vec own = load(reaches.get() + i) + broadcast(error);
        const Vec of_ball = load(errors.get() + i) + broadcast(ball);
        const Ints under = load(sq_dists + i) < squared(own > of_ball ? own : of_ball);
        if (!any(under)) continue;
        for (int64_t j = i; j < i + kVec; ++j) {
          if (!under[j - i] || state->gains[rows[j]] == kNever) continue;
          const double value = pair_sq_dist(typed, rows[j], pick, points.dim);
          ++work->canonical;
          if (value < state->sq_dist[rows[j]]) {
            state->sq_dist[rows[j]] = value;
            reaches.get()[j] = reach(value, codes.errors[rows[j]], codes.scale);
          }
          if (is_inside(value, sq_radius)) {
            append(&state->balls, value, rows[j], member);
            state->losses[rows[j]] += loss(value, sq_radius);
          }
          update_gain(*state, rows[j]);
        }
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
