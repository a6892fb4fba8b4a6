// Brings candidates of a greedy entropy selection up to date with the members they have not seen.
//
// As refresh.cpp, but a pair matters for two reasons: the member may be the candidate's nearest, or
// the candidate may lie in the member's ball. A pair passes the filter unless both are excluded.
#include <type_traits>

#include "cpu/entropy.h"
#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

struct Found {
  double sq_dist;
  int64_t row;
  int64_t member;
};

// Entries that one thread found.
struct FoundList {
  Found* items = nullptr;
  int64_t count = 0;
  int64_t capacity = 0;

  ~FoundList() { delete[] items; }

  void push(const Found& found) {
    if (count == capacity) {
      capacity = capacity == 0 ? 4096 : 2 * capacity;
      Found* grown = new Found[static_cast<size_t>(capacity)];
      for (int64_t i = 0; i < count; ++i) grown[i] = items[i];
      delete[] items;
      items = grown;
    }
    items[count++] = found;
  }
};

struct Candidates : Panel {
  alignas(64) float errors[kTileCols];
  int64_t rows[kTileCols];

  void remove(int64_t lane) {
    clear(lane);
    errors[lane] = kNobody;
    rows[lane] = -1;
  }
};

// The larger of both bounds of a pair; that of a lane without a candidate is NaN. `ball` is
// -INFINITY where nothing is inside.
inline Vec pair_bounds(const Candidates& panel, int64_t begin, float error, float ball) {
  const Vec own = load(panel.reaches + begin) + broadcast(error);
  const Vec of_ball = load(panel.errors + begin) + broadcast(ball);
  return squared(own > of_ball ? own : of_ball);
}

template <class R>
class Group {
 public:
  Group(const R& rows, int64_t dim, const Codes& codes, EntropyState* state, int64_t panels)
      : rows_(rows),
        dim_(dim),
        codes_(codes),
        state_(*state),
        panel_words_(codes.depth / kStep * kTileCols),
        block_size_(block_size(codes)),
        packed_(panels * panel_words_),
        panels_(panels),
        live_(panels * kTileCols),
        balls_(CentreBlock::whole_tiles(block_size_)),
        block_(block_size_, codes.depth) {}

  Work work = {0, 0};
  FoundList found;

  void refresh(const int64_t* rows, int64_t count, GainRival rival) {
    for (int64_t i = 0; i < count; ++i) live_.get()[i] = rows[i];
    n_live_ = count;
    pack();
    for (int64_t begin = state_.seen[rows[0]]; begin < state_.n_members && n_live_ > 0;) {
      const int64_t size = min(block_size_, state_.n_members - begin);
      meet(begin, size);
      begin += size;
      drop(rival, begin);
    }
  }

 private:
  const R rows_;
  const int64_t dim_;
  const Codes& codes_;
  const EntropyState& state_;
  const int64_t panel_words_;
  const int64_t block_size_;
  Buffer<int32_t> packed_;
  Buffer<Candidates> panels_;
  Buffer<int64_t> live_;
  Buffer<float> balls_;
  CentreBlock block_;
  int64_t n_live_ = 0;
  int64_t n_panels_ = 0;

  float reach_of(int64_t row) const {
    return reach(state_.sq_dist[row], codes_.errors[row], codes_.scale);
  }

  void pack() {
    n_panels_ = (n_live_ + kTileCols - 1) / kTileCols;
    for (int64_t p = 0; p < n_panels_; ++p) {
      const int64_t begin = p * kTileCols;
      const int64_t width = min(kTileCols, n_live_ - begin);
      pack_points(codes_, live_.get() + begin, width, kTileCols, packed_.get() + p * panel_words_);
      Candidates& panel = panels_.get()[p];
      for (int64_t i = 0; i < kTileCols; ++i) {
        panel.remove(i);
        if (i >= width) continue;
        const int64_t row = live_.get()[begin + i];
        panel.place(i, codes_, row, reach_of(row));
        panel.rows[i] = row;
        panel.errors[i] = codes_.errors[row];
      }
    }
  }

  void meet(int64_t begin, int64_t size) {
    const int64_t* members = state_.members + begin;
    block_.load(codes_, members, size);
    for (int64_t c = 0; c < CentreBlock::whole_tiles(size); ++c) {
      const double sq_eps = c < size ? state_.sq_eps[begin + c] : 0.0;
      balls_.get()[c] = sq_eps > 0.0 && sq_eps < INFINITY
                            ? reach(sq_eps, codes_.errors[members[c]], codes_.scale)
                            : -INFINITY;
    }
    work.filtered += n_live_ * size;
    for (int64_t p = 0; p < n_panels_; ++p) {
      Candidates& panel = panels_.get()[p];
      for (int64_t c = 0; c < size; c += kTileRows) {
        const Tile tile = block_.against(packed_.get() + p * panel_words_, c);
        for (int64_t r = 0; r < kTileRows; ++r) {
          for (int64_t v = 0; v < kTileVecs; ++v) sift(tile, panel, begin, c, r, v * kVec);
        }
      }
    }
  }

  void sift(const Tile& tile, Candidates& panel, int64_t begin, int64_t c, int64_t r,
            int64_t lane) {
    const int64_t centre = c + r;
    const Vec sq_dists =
        filtered(tile.sums[r][lane / kVec], load(panel.scales + lane), load(panel.sq_norms + lane),
                 block_.scales()[centre], block_.sq_norms()[centre]);
    const Vec bounds = pair_bounds(panel, lane, block_.errors()[centre], balls_.get()[centre]);
    const Ints under = sq_dists < bounds;
    if (__builtin_expect(!any(under), 1)) return;
    for (int64_t i = 0; i < kVec; ++i) {
      if (under[i]) meet_pair(panel, lane + i, begin + centre);
    }
  }

  void meet_pair(Candidates& panel, int64_t lane, int64_t member) {
    const int64_t row = panel.rows[lane];
    if (member < state_.seen[row]) return;  // another of the group had not seen it
    const double value = pair_sq_dist(rows_, row, state_.members[member], dim_);
    ++work.canonical;
    if (value < state_.sq_dist[row]) {
      state_.sq_dist[row] = value;
      panel.reaches[lane] = reach_of(row);
    }
    if (!is_inside(value, state_.sq_eps[member])) return;
    found.push({value, row, member});
    state_.losses[row] += loss(value, state_.sq_eps[member]);
  }

  // Keeps what beats the rival, and packs it anew where that frees a panel in four.
  void drop(GainRival rival, int64_t seen_now) {
    const int64_t before = n_panels_;
    n_live_ = 0;
    for (int64_t slot = 0; slot < before * kTileCols; ++slot) {
      Candidates& panel = panels_.get()[slot / kTileCols];
      const int64_t row = panel.rows[slot % kTileCols];
      if (row < 0) continue;
      if (state_.seen[row] < seen_now) state_.seen[row] = seen_now;
      update_gain(state_, row);
      if (state_.gains[row] != kNever && rival.beaten_by(state_.gains[row], row)) {
        live_.get()[n_live_++] = row;
      } else {
        panel.remove(slot % kTileCols);
      }
    }
    if (4 * n_live_ <= 3 * before * kTileCols) pack();
  }
};

// Cuts rows, ascending by what they have seen, into groups of at most `limit`, where the first has
// not much more to see than the last. Writes n + 1 starts and returns their number n.
int64_t cut_groups(const int64_t* rows, int64_t n_rows, const int64_t* seen, int64_t n_members,
                   int64_t limit, int64_t* starts) {
  int64_t n_groups = 0;
  int64_t start = 0;
  for (int64_t i = 0; i < n_rows; ++i) {
    const int64_t first = seen[rows[start]];
    const bool uneven =
        (i - start) % kTileCols == 0 && seen[rows[i]] - first > (n_members - first) / 8;
    if (i > start && (i - start == limit || uneven)) {
      starts[n_groups++] = start;
      start = i;
    }
  }
  if (n_rows > 0) starts[n_groups++] = start;
  starts[n_groups] = n_rows;
  return n_groups;
}

}  // namespace

Work entropy_refresh(const Matrix& points, const Codes& codes, EntropyState* state,
                     const int64_t* rows, int64_t n_rows, GainRival rival, int threads) {
  const int64_t panels = group_panels(codes, n_rows, threads);
  const Buffer<int64_t> starts(n_rows + 2);
  const int64_t n_groups =
      cut_groups(rows, n_rows, state->seen, state->n_members, panels * kTileCols, starts.get());
  int64_t filtered = 0;
  int64_t canonical = 0;
  bool enough_memory = true;
  with_rows(points, [&](const auto& typed) {
#pragma omp parallel num_threads(threads) reduction(+ : filtered, canonical)
    {
      Group<std::decay_t<decltype(typed)>> group(typed, points.dim, codes, state, panels);
#pragma omp for schedule(dynamic)
      for (int64_t g = 0; g < n_groups; ++g) {
        const int64_t begin = starts.get()[g];
        group.refresh(rows + begin, starts.get()[g + 1] - begin, rival);
      }
      filtered += group.work.filtered;
      canonical += group.work.canonical;
#pragma omp critical(fastsel_entropy)
      {
        enough_memory = enough_memory && make_room(state, points.n, group.found.count);
        if (enough_memory) {
          for (int64_t i = 0; i < group.found.count; ++i) {
            const Found& f = group.found.items[i];
            append(&state->balls, f.sq_dist, f.row, f.member);
          }
        }
      }
    }
  });
  if (!enough_memory) canonical = -1;
  return {filtered, canonical};
}

}  // namespace fastsel::FASTSEL_LEVEL
