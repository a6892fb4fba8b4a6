// Brings candidates up to date with the centres picked since they were last looked at.
//
// Work is split into groups of candidates, each packed once into panels that stay in the L2 cache
// beside a block of packed centres. A thread takes its group through the blocks, in order of
// picking, and drops a candidate as soon as the rival beats it; groups need no synchronisation.
#include <type_traits>

#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

constexpr int64_t kBlockUnit = 24;  // a multiple of every level's kTileRows
constexpr int64_t kMaxBlock = 10 * kBlockUnit;
constexpr int64_t kBlockBytes = 256 << 10;
constexpr int64_t kGroupBytes = 448 << 10;
constexpr int64_t kMaxPanels = 32;

static_assert(kBlockUnit % kTileRows == 0, "blocks hold whole tiles");

// A pair that may lower a key.
struct Survivor {
  int64_t lane;
  int64_t centre;
  float value;
};

constexpr int64_t kSurvivors = 1024;
constexpr int64_t kTilePairs = kTileRows * kTileCols;

// The candidates of a panel; a lane without one has bound -inf, which nothing is under.
struct Panel {
  alignas(64) float sq_norms[kTileCols];
  float margins[kTileCols];
  float bounds[kTileCols];
  int64_t rows[kTileCols];  // -1: none
};

struct Block {
  const float* packed;
  float terms[kMaxBlock];
  float margins[kMaxBlock];
  const int64_t* centres;
  int64_t count;
};

template <class R>
class Group {
 public:
  Group(const R& rows, const Matrix& points, const Frame& frame, double* keys, int64_t panels)
      : rows_(rows),
        dim_(points.dim),
        frame_(frame),
        keys_(keys),
        packed_(panels * kTileCols * points.dim),
        panels_(panels),
        survivors_(kSurvivors + kTilePairs) {}

  Work work = {0, 0};
  int64_t size = 0;

  void load(const int64_t* index, int64_t count) {
    size = count;
    for (int64_t p = 0; p < n_panels(); ++p) {
      const int64_t begin = p * kTileCols;
      const int64_t width = count - begin < kTileCols ? count - begin : kTileCols;
      pack(rows_, frame_, index + begin, width, dim_, kTileCols, panel_data(p));
      Panel& panel = panels_.get()[p];
      for (int64_t i = 0; i < kTileCols; ++i) {
        panel.bounds[i] = -INFINITY;
        panel.rows[i] = -1;
        panel.sq_norms[i] = panel.margins[i] = 0.0f;
        if (i < width) place(panel, i, index[begin + i]);
      }
    }
    slots_ = n_panels() * kTileCols;
  }

  void apply(const Block& block) {
    const int64_t panels = slots_ / kTileCols;
    for (int64_t p = 0; p < panels; ++p) {
      Panel& panel = panels_.get()[p];
      int64_t found = 0;
      for (int64_t c = 0; c < block.count; c += kTileRows) {
        const Tile tile = product(panel_data(p), block.packed + c * dim_, dim_);
        found = sift(tile, panel, block, c, found);
        if (found >= kSurvivors) found = settle(panel, block, found);
      }
      settle(panel, block, found);
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
      panels_.get()[slot / kTileCols].bounds[slot % kTileCols] = -INFINITY;
      --size;
    }
    if (!last) close_gaps();
  }

 private:
  const R rows_;
  const int64_t dim_;
  const Frame frame_;
  double* const keys_;
  Buffer<float> packed_;
  Buffer<Panel> panels_;
  Buffer<Survivor> survivors_;
  int64_t slots_ = 0;

  int64_t n_panels() const { return (size + kTileCols - 1) / kTileCols; }

  float* panel_data(int64_t p) { return packed_.get() + p * kTileCols * dim_; }

  void place(Panel& panel, int64_t lane, int64_t row) {
    panel.rows[lane] = row;
    panel.sq_norms[lane] = frame_.sq_norms[row];
    panel.margins[lane] = frame_.margins[row];
    panel.bounds[lane] = filter_bound(keys_[row], frame_.margins[row], frame_.scale);
  }

  // Notes the pairs of a tile that may lower a key and lowers the bounds to what they promise.
  int64_t sift(const Tile& tile, Panel& panel, const Block& block, int64_t first, int64_t found) {
    Vec sq_norms[kTileVecs];
    Vec bounds[kTileVecs];
    Mask under = {};
    for (int64_t v = 0; v < kTileVecs; ++v) {
      sq_norms[v] = FASTSEL_LEVEL::load(panel.sq_norms + v * kVec);
      bounds[v] = FASTSEL_LEVEL::load(panel.bounds + v * kVec);
    }
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kTileVecs; ++v) {
        under |= filtered(tile.sums[r][v], sq_norms[v], block.terms[first + r]) < bounds[v];
      }
    }
    if (__builtin_expect(!any(under), 1)) return found;
    return note(tile, panel, block, first, found);
  }

  __attribute__((noinline)) int64_t note(const Tile& tile, Panel& panel, const Block& block,
                                         int64_t first, int64_t found) {
    for (int64_t r = 0; r < kTileRows; ++r) {
      for (int64_t v = 0; v < kTileVecs; ++v) {
        float values[kVec];
        store(values, filtered(tile.sums[r][v], FASTSEL_LEVEL::load(panel.sq_norms + v * kVec),
                               block.terms[first + r]));
        for (int64_t i = 0; i < kVec; ++i) {
          const int64_t lane = v * kVec + i;
          if (!(values[i] < panel.bounds[lane])) continue;
          survivors_.get()[found++] = {lane, first + r, values[i]};
          // The canonical distance is at most value + 2 margin_c + margin_x, so that of any pair
          // that may be smaller, less its margin_c, is under this.
          const float promise = values[i] + 2.0f * (block.margins[first + r] + panel.margins[lane]);
          if (promise < panel.bounds[lane]) panel.bounds[lane] = promise;
        }
      }
    }
    return found;
  }

  // Canonical distances of the survivors, latest first: they have the smallest filtered distances
  // of their lane, and rule out most of the earlier ones.
  int64_t settle(Panel& panel, const Block& block, int64_t found) {
    for (int64_t s = found - 1; s >= 0; --s) {
      const Survivor& survivor = survivors_.get()[s];
      const int64_t lane = survivor.lane;
      if (survivor.value > panel.bounds[lane]) continue;
      const int64_t row = panel.rows[lane];
      const double value = pair_sq_dist(rows_, row, block.centres[survivor.centre], dim_);
      ++work.canonical;
      if (value < keys_[row]) keys_[row] = value;
      const float bound = filter_bound(keys_[row], panel.margins[lane], frame_.scale);
      if (bound < panel.bounds[lane]) panel.bounds[lane] = bound;
    }
    return 0;
  }

  // Moves candidates from the last panels into the gaps of the first ones, panel by panel.
  void close_gaps() {
    int64_t gap = 0;
    while (size <= slots_ - kTileCols) {
      const int64_t last = slots_ / kTileCols - 1;
      const Panel& from = panels_.get()[last];
      for (int64_t lane = 0; lane < kTileCols; ++lane) {
        if (from.rows[lane] < 0) continue;
        while (panels_.get()[gap / kTileCols].rows[gap % kTileCols] >= 0) ++gap;
        place(panels_.get()[gap / kTileCols], gap % kTileCols, from.rows[lane]);
        const float* source = panel_data(last) + lane;
        float* target = panel_data(gap / kTileCols) + gap % kTileCols;
        for (int64_t k = 0; k < dim_; ++k) target[k * kTileCols] = source[k * kTileCols];
      }
      slots_ -= kTileCols;
    }
  }
};

int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

template <class R>
void pack_block(const R& rows, const Frame& frame, const int64_t* centres, int64_t count,
                int64_t dim, float* out) {
  for (int64_t c = 0; c < count; c += kTileRows) {
    pack(rows, frame, centres + c, min(kTileRows, count - c), dim, kTileRows, out + c * dim);
  }
}

}  // namespace

int64_t centre_block(int64_t dim) {
  const int64_t fitting = kBlockBytes / static_cast<int64_t>(sizeof(float)) / dim;
  return max(kBlockUnit, min(kMaxBlock, fitting / kBlockUnit * kBlockUnit));
}

void pack_centres(const Matrix& points, const Frame& frame, const int64_t* centres,
                  int64_t first_block, int64_t last_block, float* tiles, int threads) {
  const int64_t block = centre_block(points.dim);
  with_rows(points, [&](const auto& rows) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = first_block; b < last_block; ++b) {
      pack_block(rows, frame, centres + b * block, block, points.dim,
                 tiles + (b - first_block) * block * points.dim);
    }
  });
}

Work refresh(const Matrix& points, const Frame& frame, const int64_t* rows, int64_t n_rows,
             double* keys, int64_t* seen, const int64_t* centres, int64_t n_centres,
             const float* tiles, int64_t n_tiles, Rival rival, int threads) {
  const int64_t dim = points.dim;
  const int64_t block_size = centre_block(dim);
  const int64_t panel_bytes = kTileCols * dim * static_cast<int64_t>(sizeof(float));
  const int64_t even = (n_rows + 4 * threads * kTileCols - 1) / (4 * threads * kTileCols);
  const int64_t panels = max(1, min(min(kMaxPanels, even), kGroupBytes / panel_bytes));
  const int64_t group_size = panels * kTileCols;
  const int64_t n_groups = (n_rows + group_size - 1) / group_size;
  int64_t filtered = 0;
  int64_t canonical = 0;
  with_rows(points, [&](const auto& typed) {
#pragma omp parallel num_threads(threads) reduction(+ : filtered, canonical)
    {
      Group<std::decay_t<decltype(typed)>> group(typed, points, frame, keys, panels);
      const Buffer<float> scratch(block_size * dim);
      Block block;
#pragma omp for schedule(dynamic)
      for (int64_t g = 0; g < n_groups; ++g) {
        const int64_t* members = rows + g * group_size;
        const int64_t count = min(group_size, n_rows - g * group_size);
        int64_t oldest = n_centres;
        for (int64_t i = 0; i < count; ++i) oldest = min(oldest, seen[members[i]]);
        group.load(members, count);
        for (int64_t b = oldest / block_size; group.size > 0 && b * block_size < n_centres; ++b) {
          const int64_t begin = b * block_size;
          const int64_t end = min(begin + block_size, n_centres);
          block.centres = centres + begin;
          block.count = end - begin;
          block.packed = tiles + begin * dim;
          if (b >= n_tiles) {
            pack_block(typed, frame, block.centres, block.count, dim, scratch.get());
            block.packed = scratch.get();
          }
          for (int64_t c = 0; c < block_size; ++c) {
            const bool real = c < block.count;
            const int64_t row = real ? block.centres[c] : 0;
            block.margins[c] = real ? frame.margins[row] : 0.0f;
            block.terms[c] = real ? frame.sq_norms[row] - frame.margins[row] : INFINITY;
          }
          group.apply(block);
          group.drop(rival, seen, end, end == n_centres);
        }
      }
      filtered += group.work.filtered;
      canonical += group.work.canonical;
    }
  });
  return {filtered, canonical};
}

}  // namespace fastsel::FASTSEL_LEVEL
