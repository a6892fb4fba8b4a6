// Brings candidates up to date with the centres picked since they were last looked at.
//
// Work is split into groups of candidates, each packed once into panels that stay in the L2 cache
// beside a block of packed centres. A thread takes its group through the blocks, in order of
// picking, and drops a candidate as soon as the rival beats it; groups need no synchronisation.
#include <type_traits>

#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// A pair that may lower a key.
struct Survivor {
  int64_t lane;
  int64_t centre;
  float sq_dist;
};

constexpr int64_t kSurvivors = 1024;
constexpr int64_t kTilePairs = kTileRows * kTileCols;

// A panel of candidates.
struct Candidates : Panel {
  int64_t rows[kTileCols];  // -1: no candidate
};

struct Block {
  CentreBlock packed;
  const int64_t* centres;
  int64_t count;
};

template <class R>
class Group {
 public:
  Group(const R& rows, int64_t dim, const Codes& codes, double* keys, int64_t panels)
      : rows_(rows),
        dim_(dim),
        codes_(codes),
        keys_(keys),
        steps_(codes.depth / kStep),
        packed_(panels * kTileCols * steps_),
        panels_(panels),
        survivors_(kSurvivors + kTilePairs) {}

  Work work = {0, 0};
  int64_t size = 0;

  void load(const int64_t* index, int64_t count) {
    size = count;
    for (int64_t p = 0; p < n_panels(); ++p) {
      const int64_t begin = p * kTileCols;
      const int64_t width = min(kTileCols, count - begin);
      pack_points(codes_, index + begin, width, kTileCols, panel_data(p));
      Candidates& panel = panels_.get()[p];
      for (int64_t i = 0; i < kTileCols; ++i) {
        panel.clear(i);
        panel.rows[i] = -1;
        if (i < width) place(panel, i, index[begin + i]);
      }
    }
    slots_ = n_panels() * kTileCols;
  }

  void apply(const Block& block) {
    const int64_t panels = slots_ / kTileCols;
    for (int64_t p = 0; p < panels; ++p) {
      Candidates& panel = panels_.get()[p];
      for (int64_t c = 0; c < block.count; c += kTileRows) {
        const Tile tile = block.packed.against(panel_data(p), c);
        sift(tile, panel, block.packed, c, [&](int64_t lane, int64_t centre, float sq_dist) {
          note(panel, block, {lane, centre, sq_dist});
        });
        if (n_survivors_ >= kSurvivors) settle(panel, block);
      }
      settle(panel, block);
    }
    work.filtered += size * block.count;
  }

  // Drops what the rival beats; seen becomes what dropped candidates have seen.
  void drop(const Rival& rival, int64_t* seen, int64_t seen_now, bool last) {
    for (int64_t slot = 0; slot < slots_; ++slot) {
      int64_t& row = panels_.get()[slot / kTileCols].rows[slot % kTileCols];
      if (row < 0 || (!last && rival.beaten_by(keys_[row], row))) continue;
      if (seen[row] < seen_now) seen[row] = seen_now;
      row = -1;
      panels_.get()[slot / kTileCols].reaches[slot % kTileCols] = kNobody;
      --size;
    }
    if (!last) close_gaps();
  }

 private:
  const R rows_;
  const int64_t dim_;
  const Codes& codes_;
  double* const keys_;
  const int64_t steps_;
  Buffer<int32_t> packed_;
  Buffer<Candidates> panels_;
  Buffer<Survivor> survivors_;
  int64_t n_survivors_ = 0;
  int64_t slots_ = 0;

  int64_t n_panels() const { return (size + kTileCols - 1) / kTileCols; }

  int32_t* panel_data(int64_t p) { return packed_.get() + p * kTileCols * steps_; }

  float reach_of(int64_t row) const { return reach(keys_[row], codes_.errors[row], codes_.scale); }

  void place(Candidates& panel, int64_t lane, int64_t row) {
    panel.rows[lane] = row;
    panel.place(lane, codes_, row, reach_of(row));
  }

  // Notes a pair, and how near it promises to be: that of a lane's next pairs is then asked more.
  void note(Candidates& panel, const Block& block, const Survivor& pair) {
    survivors_.get()[n_survivors_++] = pair;
    const float promise = promised_reach(
        pair.sq_dist, panel.sq_norms[pair.lane] + block.packed.sq_norms()[pair.centre],
        codes_.errors[panel.rows[pair.lane]], block.packed.errors()[pair.centre]);
    if (promise < panel.reaches[pair.lane]) panel.reaches[pair.lane] = promise;
  }

  // Canonical distances of the survivors, latest first: they have the smallest filtered distances
  // of their lane, and rule out most of the earlier ones.
  void settle(Candidates& panel, const Block& block) {
    for (int64_t s = n_survivors_ - 1; s >= 0; --s) {
      const Survivor& survivor = survivors_.get()[s];
      const int64_t row = panel.rows[survivor.lane];
      float& reach = panel.reaches[survivor.lane];
      const float bound = reach + block.packed.errors()[survivor.centre];
      if (!(survivor.sq_dist < bound * bound)) continue;
      const double value = pair_sq_dist(rows_, row, block.centres[survivor.centre], dim_);
      ++work.canonical;
      if (value < keys_[row]) keys_[row] = value;
      const float exact = reach_of(row);
      if (!(exact >= reach)) reach = exact;
    }
    n_survivors_ = 0;
  }

  // Moves candidates from the last panels into the gaps of the first ones, panel by panel.
  void close_gaps() {
    int64_t gap = 0;
    while (size <= slots_ - kTileCols) {
      const int64_t last = slots_ / kTileCols - 1;
      const Candidates& from = panels_.get()[last];
      for (int64_t lane = 0; lane < kTileCols; ++lane) {
        if (from.rows[lane] < 0) continue;
        while (panels_.get()[gap / kTileCols].rows[gap % kTileCols] >= 0) ++gap;
        place(panels_.get()[gap / kTileCols], gap % kTileCols, from.rows[lane]);
        const int32_t* source = panel_data(last) + lane;
        int32_t* target = panel_data(gap / kTileCols) + gap % kTileCols;
        for (int64_t k = 0; k < steps_; ++k) target[k * kTileCols] = source[k * kTileCols];
      }
      slots_ -= kTileCols;
    }
  }
};

// Cuts rows, ascending by what they have seen, into groups of at most `limit` rows, each taken
// through the centres from what its first row has seen on: what the others see for a second time
// stays small. Writes n_groups + 1 starts and returns n_groups.
int64_t cut_groups(const int64_t* rows, int64_t n_rows, const int64_t* seen, int64_t n_centres,
                   int64_t limit, int64_t* starts) {
  int64_t n_groups = 0;
  int64_t start = 0;
  int64_t wasted = 0;
  for (int64_t i = 0; i < n_rows; ++i) {
    const int64_t size = i - start;
    const int64_t first = seen[rows[start]];
    wasted += seen[rows[i]] - first;
    const bool uneven = size % kTileCols == 0 && wasted > size * (n_centres - first) / 16;
    if (size == limit || (size > 0 && uneven)) {
      starts[n_groups++] = start;
      start = i;
      wasted = 0;
    }
  }
  if (n_rows > 0) starts[n_groups++] = start;
  starts[n_groups] = n_rows;
  return n_groups;
}

}  // namespace

Work refresh(const Matrix& points, const Codes& codes, const int64_t* rows, int64_t n_rows,
             double* keys, int64_t* seen, const int64_t* centres, int64_t n_centres, Rival rival,
             int threads) {
  const int64_t block_rows = block_size(codes);
  const int64_t panels = group_panels(codes, n_rows, threads);
  const int64_t group_size = panels * kTileCols;
  const Buffer<int64_t> starts(n_rows / kTileCols + 2);
  const int64_t n_groups = cut_groups(rows, n_rows, seen, n_centres, group_size, starts.get());
  int64_t filtered = 0;
  int64_t canonical = 0;
  with_rows(points, [&](const auto& typed) {
#pragma omp parallel num_threads(threads) reduction(+ : filtered, canonical)
    {
      Group<std::decay_t<decltype(typed)>> group(typed, points.dim, codes, keys, panels);
      Block block = {CentreBlock(block_rows, codes.depth), nullptr, 0};
#pragma omp for schedule(dynamic)
      for (int64_t g = 0; g < n_groups; ++g) {
        const int64_t* members = rows + starts.get()[g];
        int64_t begin = seen[members[0]];
        group.load(members, starts.get()[g + 1] - starts.get()[g]);
        while (group.size > 0 && begin < n_centres) {
          block.centres = centres + begin;
          block.count = min(block_rows, n_centres - begin);
          block.packed.load(codes, block.centres, block.count);
          begin += block.count;
          group.apply(block);
          group.drop(rival, seen, begin, begin == n_centres);
        }
      }
      filtered += group.work.filtered;
      canonical += group.work.canonical;
    }
  });
  return {filtered, canonical};
}

}  // namespace fastsel::FASTSEL_LEVEL
