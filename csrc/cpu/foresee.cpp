// First bounds for the rows of a set that is searched for its own neighbours. A row's bound is that
// of its k nearest among the rows next to it in the order of codes: the k-th smallest of the least
// distances to the centres of a tile, which are distances to k different rows. Tiles of whole codes
// are a quick way to them.
#include "cpu/heap.h"
#include "cpu/metric.h"
#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Rows next to one in the order of codes that its first bound is from, at least and at most.
constexpr int64_t kFewestForeseen = 480;
constexpr int64_t kMostForeseen = 2048;

// The index of what is not there yet: it comes after every other at the same distance.
constexpr int64_t kNoIndex = INT64_MAX;

class Foresight {
 public:
  Foresight(const Searched& rows, int64_t k, bool exclude_self, int64_t window)
      : rows_(rows),
        codes_(rows.coded.codes),
        k_(k),
        exclude_self_(exclude_self),
        window_(window),
        block_(window, codes_.depth),
        packed_(kTileCols * codes_.depth / kStep) {}

  // Rows next to one that its bound is from, of n; 0 where they are too few for one.
  static int64_t window(int64_t n, int64_t k) {
    const int64_t size = min(n, max(kFewestForeseen, 2 * kTileRows * k));
    return size <= kMostForeseen && size / kTileRows > k ? size : 0;
  }

  // Rows by the places of their codes, at most a window of n.
  void foresee(int64_t begin, int64_t count, int64_t n) {
    const int64_t first = min(begin, n - window_);
    block_.load(codes_, first, window_);
    for (int64_t i = 0; i < count; i += kTileCols) {
      panel(begin + i, min(kTileCols, count - i), first);
    }
  }

 private:
  const Searched& rows_;
  const Codes& codes_;
  const int64_t k_;
  const bool exclude_self_;
  const int64_t window_;
  CentreBlock block_;
  Buffer<int32_t> packed_;

  void panel(int64_t first, int64_t width, int64_t window_first) {
    Panel panel;
    int64_t places[kTileCols];
    for (int64_t i = 0; i < kTileCols; ++i) {
      panel.clear(i);
      places[i] = first + min(i, width - 1);
      panel.place(i, codes_, places[i], kNobody);
    }
    pack_points(codes_, places, width, kTileCols, packed_.get());
    float largest_error = 0.0f;
    float largest_sq_norm = 0.0f;
    for (int64_t c = 0; c + kTileRows <= window_; c += kTileRows) {
      alignas(64) float least[kTileCols];
      least_of_tile(block_.against(packed_.get(), c), panel, c, least);
      for (int64_t r = c; r < c + kTileRows; ++r) {
        largest_error = max(largest_error, block_.errors()[r]);
        largest_sq_norm = max(largest_sq_norm, block_.sq_norms()[r]);
      }
      for (int64_t i = 0; i < width; ++i) {
        const int64_t own = places[i] - window_first;
        if (exclude_self_ && c <= own && own < c + kTileRows) continue;
        heap(places[i]).offer(least[i], kNoIndex);
      }
    }
    for (int64_t i = 0; i < width; ++i) {
      Heap found = heap(places[i]);
      const double bound =
          promised_key(static_cast<float>(found.sq_dist[0]), panel.sq_norms[i] + largest_sq_norm,
                       codes_.errors[places[i]] + largest_error, codes_.scale);
      for (int64_t j = 0; j < k_; ++j) found.sq_dist[j] = bound;
    }
  }

  Heap heap(int64_t place) const { return heap_of(rows_, row_of(rows_, place), k_); }

  // The least filtered squared distance of each lane to the centres of a tile.
  void least_of_tile(const Tile& tile, const Panel& panel, int64_t first, float* least) const {
    for (int64_t v = 0; v < kTileVecs; ++v) {
      Vec nearest = broadcast(INFINITY);
      for (int64_t r = 0; r < kTileRows; ++r) {
        const Vec sq_dists = filtered(tile.sums[r][v], load(panel.scales + v * kVec),
                                      load(panel.sq_norms + v * kVec), block_.scales()[first + r],
                                      block_.sq_norms()[first + r]);
        nearest = sq_dists < nearest ? sq_dists : nearest;
      }
      store(least + v * kVec, nearest);
    }
  }
};

}  // namespace

void foresee(const Searched& rows, int64_t k, bool exclude_self, int threads) {
  const int64_t n = rows.coded.points.n;
  const int64_t window = Foresight::window(n, k);
  if (window == 0) return;
#pragma omp parallel num_threads(threads)
  {
    Foresight foresight(rows, k, exclude_self, window);
#pragma omp for schedule(dynamic)
    for (int64_t begin = 0; begin < n; begin += window) {
      foresight.foresee(begin, min(window, n - begin), n);
    }
  }
}

}  // namespace fastsel::FASTSEL_LEVEL
