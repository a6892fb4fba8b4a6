// Points in panels, a lane each, and the pairs of theirs that pass the filter.
#pragma once

#include "cpu/filter.h"

namespace fastsel::FASTSEL_LEVEL {

// What a group of panels and a block of centres take of the L2 cache, and the sizes at which more
// of either pays no longer.
constexpr int64_t kGroupBytes = 448 << 10;
constexpr int64_t kBlockBytes = 64 << 10;
constexpr int64_t kMaxPanels = 32;
constexpr int64_t kBlockUnit = 24;  // a multiple of every level's kTileRows
constexpr int64_t kMaxBlock = 20 * kBlockUnit;

static_assert(kBlockUnit % kTileRows == 0, "blocks hold whole tiles");

inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
inline float max(float a, float b) { return a > b ? a : b; }

// Centres in a block.
inline int64_t block_size(const Codes& codes) {
  const int64_t row_bytes = codes.depth / kStep * static_cast<int64_t>(sizeof(int32_t));
  return max(kBlockUnit, min(kMaxBlock, kBlockBytes / row_bytes / kBlockUnit * kBlockUnit));
}

// Panels in a group, small enough for all threads to have several.
inline int64_t group_panels(const Codes& codes, int64_t n_points, int threads) {
  const int64_t panel_bytes =
      kTileCols * codes.depth / kStep * static_cast<int64_t>(sizeof(int32_t));
  const int64_t even = (n_points + 4 * threads * kTileCols - 1) / (4 * threads * kTileCols);
  return max(1, min(min(kMaxPanels, even), kGroupBytes / panel_bytes));
}

struct Panel {
  alignas(64) float scales[kTileCols];
  float sq_norms[kTileCols];
  float reaches[kTileCols];

  void place(int64_t lane, const Codes& codes, int64_t row, float reach) {
    scales[lane] = codes.scales[row];
    sq_norms[lane] = codes.sq_norms[row];
    reaches[lane] = reach;
  }

  void clear(int64_t lane) {
    scales[lane] = sq_norms[lane] = 0.0f;
    reaches[lane] = kNobody;
  }
};

template <class F>
__attribute__((noinline)) void visit(const Tile& tile, const Panel& panel,
                                     const CentreBlock& centres, int64_t first, const F& f) {
  for (int64_t c = first; c < first + kTileRows; ++c) {
    const float error = centres.errors()[c];
    for (int64_t v = 0; v < kTileVecs; ++v) {
      const int64_t begin = v * kVec;
      const Vec sq_dists =
          filtered(tile.sums[c - first][v], load(panel.scales + begin),
                   load(panel.sq_norms + begin), centres.scales()[c], centres.sq_norms()[c]);
      if (!any(sq_dists < squared(load(panel.reaches + begin) + broadcast(error)))) continue;
      for (int64_t i = 0; i < kVec; ++i) {
        const float bound = panel.reaches[begin + i] + error;
        if (sq_dists[i] < bound * bound) f(begin + i, c, sq_dists[i]);
      }
    }
  }
}

// Calls f(lane, centre, filtered squared distance) for the pairs of a panel and the centres from
// `first` on, a tile of them, that pass the filter: in order of the centres for each lane. f may
// lower the panel's reaches.
template <class F>
inline void sift(const Tile& tile, const Panel& panel, const CentreBlock& centres, int64_t first,
                 const F& f) {
  const float error = centres.largest_error(first);
  Vec scales[kTileVecs];
  Vec sq_norms[kTileVecs];
  Vec bounds[kTileVecs];
  Ints under = {};
  for (int64_t v = 0; v < kTileVecs; ++v) {
    scales[v] = load(panel.scales + v * kVec);
    sq_norms[v] = load(panel.sq_norms + v * kVec);
    bounds[v] = squared(load(panel.reaches + v * kVec) + broadcast(error));
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kTileVecs; ++v) {
      under |= filtered(tile.sums[r][v], scales[v], sq_norms[v], centres.scales()[first + r],
                        centres.sq_norms()[first + r]) < bounds[v];
    }
  }
  if (__builtin_expect(any(under), 0)) visit(tile, panel, centres, first, f);
}

// A pair of a panel's lane and a centre of a block.
struct Pair {
  int32_t lane;
  int32_t centre;
};

constexpr int64_t kTilePairs = kTileRows * kTileCols;

// Lists the pairs of a panel and a tile of centres from `first` on whose filtered squared distance
// is under bound(row of the tile, vector of the panel), in order of the centres, into pairs
// [kTilePairs]; returns their number. For filters that many pairs pass.
template <class F>
inline int64_t list_under(const Tile& tile, const Panel& panel, const CentreBlock& centres,
                          int64_t first, Pair* pairs, const F& bound) {
  int64_t count = 0;
#pragma GCC unroll 8
  for (int64_t r = 0; r < kTileRows; ++r) {
    const int64_t centre = first + r;
    uint64_t passing = 0;
#pragma GCC unroll 4
    for (int64_t v = 0; v < kTileVecs; ++v) {
      const Vec sq_dists =
          filtered(tile.sums[r][v], load(panel.scales + v * kVec), load(panel.sq_norms + v * kVec),
                   centres.scales()[centre], centres.sq_norms()[centre]);
      passing |= bits(sq_dists < bound(r, v)) << (v * kVec);
    }
    for (; passing != 0; passing &= passing - 1) {
      pairs[count++] = {__builtin_ctzll(passing), static_cast<int32_t>(centre)};
    }
  }
  return count;
}

// Lists those within the reach of a lane of the panel.
inline int64_t list_passing(const Tile& tile, const Panel& panel, const CentreBlock& centres,
                            int64_t first, Pair* pairs) {
  const float error = centres.largest_error(first);
  Vec bounds[kTileVecs];
  for (int64_t v = 0; v < kTileVecs; ++v) {
    bounds[v] = squared(load(panel.reaches + v * kVec) + broadcast(error));
  }
  return list_under(tile, panel, centres, first, pairs,
                    [&](int64_t, int64_t v) { return bounds[v]; });
}

}  // namespace fastsel::FASTSEL_LEVEL
