// Groups of queries meet ranges of points: every pair passes the filter, whose reach is the k-th
// best distance of each so far, or gets its canonical distance.
//
// With a sketch, the tiles hold its codes, a fraction as deep. The few pairs that pass it meet the
// filter of the whole codes one by one.
#pragma once

#include "cpu/heap.h"
#include "cpu/metric.h"
#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

// The first in the set of some rows, by the places of their codes.
inline int64_t first_of(const Searched& part, int64_t begin, int64_t count) {
  int64_t first = INT64_MAX;
  for (int64_t i = begin; i < begin + count; ++i) first = min(first, part.first + row_of(part, i));
  return first;
}

// What the filter of the whole codes knows of a row.
struct Whole {
  float scale;
  float sq_norm;
  float error;
  float weight;
  float reach;
};

// A panel of queries. What it inherits is of the packed codes: the sketch's, if there is one.
struct Queries : Panel {
  float errors[kTileCols];
  float weights[kTileCols];
  Whole whole[kTileCols];
};

// The centres of a block as those that look for neighbours among the queries.
struct Askers {
  explicit Askers(int64_t capacity) : reaches(capacity), weights(capacity), whole(capacity) {}

  Buffer<float> reaches;
  Buffer<float> weights;
  Buffer<Whole> whole;
};

struct Survivor {
  int32_t query;  // in its group
  int32_t point;  // in its block
  float value;    // filtered
};

// Enough of them for the rows of later ones to be fetched meanwhile, few enough for the reaches to
// stay up to date.
constexpr int64_t kSurvivors = 256;
constexpr int64_t kPassing = 256;
constexpr int64_t kRowsAhead = 3;

// Lists the pairs of a panel and a tile of centres from `first` on that are within the reach of the
// query, or, with askers, of either, as list_under.
template <class Metric, bool kMutual>
inline int64_t list_within(const Tile& tile, const Queries& panel, const CentreBlock& centres,
                           const Askers& askers, int64_t first, Pair* pairs) {
  const Vec error = broadcast(centres.largest_error(first));
  Vec sums[kTileVecs];
  Vec bounds[kTileVecs];
  Vec errors[kTileVecs];
  for (int64_t v = 0; v < kTileVecs; ++v) {
    sums[v] = Metric::sum(load(panel.reaches + v * kVec), load(panel.weights + v * kVec), error);
    bounds[v] = Metric::bound(sums[v]);
    errors[v] = load(panel.errors + v * kVec);
  }
  return list_under(tile, panel, centres, first, pairs, [&](int64_t r, int64_t v) {
    if constexpr (!kMutual) return bounds[v];
    const Vec other = Metric::sum(broadcast(askers.reaches.get()[first + r]),
                                  broadcast(askers.weights.get()[first + r]), errors[v]);
    return Metric::bound(sums[v] > other ? sums[v] : other);
  });
}

// A meeting of a group of queries with a range of points; `kMutual`: whose neighbours are looked
// for too.
template <class R, class Metric, bool kMutual>
class Meeting {
 public:
  Meeting(const Searched& queries, const Searched& points, int64_t k, bool exclude_self,
          int64_t panels)
      : query_rows_(queries.coded.points),
        point_rows_(points.coded.points),
        queries_(queries),
        points_(points),
        k_(k),
        exclude_self_(exclude_self),
        dim_(points.coded.points.dim),
        sketched_(points.coded.sketch.values != nullptr),
        query_codes_(queries.coded.codes),
        point_codes_(points.coded.codes),
        packed_queries_(sketched_ ? queries.coded.sketch : queries.coded.codes),
        packed_points_(sketched_ ? points.coded.sketch : points.coded.codes),
        steps_(packed_points_.depth / kStep),
        packed_(panels * kTileCols * steps_),
        panels_(panels),
        block_(block_size(packed_points_), packed_points_.depth),
        askers_(block_size(packed_points_)),
        passing_(kPassing + kTilePairs),
        survivors_(kSurvivors + kPassing + kTilePairs) {}

  Work work = {0, 0, 0};

  // Queries from `query` on and points from `point` on. The same rows, in a mutual search, meet as
  // pairs of a lower and a higher row, and themselves.
  void meet(int64_t query, int64_t n_queries, int64_t point, int64_t n_points) {
    first_query_ = query;
    triangle_ = kMutual && queries_.first == points_.first && query == point;
    load_queries(n_queries, first_of(points_, point, n_points));
    if (kMutual) first_place_ = first_of(queries_, query, n_queries);
    const int64_t block = block_size(packed_points_);
    for (int64_t begin = 0; begin < n_points; begin += block) {
      load_points(point + begin, min(block, n_points - begin));
      for (int64_t p = 0; p < n_panels_; ++p) apply(p, begin);
      settle();
    }
  }

 private:
  const R query_rows_;
  const R point_rows_;
  const Searched& queries_;
  const Searched& points_;
  const int64_t k_;
  const bool exclude_self_;
  const int64_t dim_;
  const bool sketched_;
  const Codes& query_codes_;
  const Codes& point_codes_;
  const Codes& packed_queries_;
  const Codes& packed_points_;
  const int64_t steps_;
  Buffer<int32_t> packed_;
  Buffer<Queries> panels_;
  CentreBlock block_;
  Askers askers_;
  Buffer<Pair> passing_;
  Buffer<Survivor> survivors_;
  int64_t first_query_ = 0;
  int64_t first_place_ = 0;  // of the queries, in their set
  int64_t n_panels_ = 0;
  int64_t first_point_ = 0;  // of the block
  int64_t n_points_ = 0;     // of the block
  bool triangle_ = false;
  int64_t n_passing_ = 0;
  int64_t n_survivors_ = 0;

  int32_t* panel_data(int64_t p) { return packed_.get() + p * kTileCols * steps_; }

  Queries& panel_of(int64_t query) { return panels_.get()[query / kTileCols]; }

  // Whether the row of codes i may find something from place `from` of the set on: not where it has
  // k duplicates that come before.
  bool looks(const Searched& part, int64_t i, int64_t from) const {
    const Heap heap = heap_of(part, row_of(part, i), k_);
    return !Metric::kDistance || heap.sq_dist[0] > 0.0 || heap.index[0] >= from;
  }

  double limit(const Searched& part, int64_t i) const {
    return heap_of(part, row_of(part, i), k_).sq_dist[0];
  }

  void load_queries(int64_t count, int64_t from) {
    n_panels_ = (count + kTileCols - 1) / kTileCols;
    for (int64_t p = 0; p < n_panels_; ++p) {
      Queries& panel = panels_.get()[p];
      const int64_t begin = first_query_ + p * kTileCols;
      const int64_t width = min(kTileCols, count - p * kTileCols);
      int64_t rows[kTileCols];
      for (int64_t i = 0; i < kTileCols; ++i) {
        if (i >= width) {
          panel.clear(i);
          panel.sq_norms[i] = INFINITY;
          panel.reaches[i] = Metric::kNothing;
          panel.errors[i] = panel.weights[i] = 0.0f;
          panel.whole[i] = {0.0f, INFINITY, 0.0f, 0.0f, Metric::kNothing};
          continue;
        }
        const int64_t row = rows[i] = begin + i;
        panel.place(i, packed_queries_, row, Metric::kNothing);
        panel.sq_norms[i] = Metric::sq_norm(panel.sq_norms[i]);
        panel.errors[i] = packed_queries_.errors[row];
        panel.weights[i] = Metric::weight(packed_queries_, row);
        panel.whole[i] = whole_of(query_codes_, row);
        if (!looks(queries_, row, from)) continue;
        const double key = limit(queries_, row);
        panel.reaches[i] = Metric::reach(key, packed_queries_, row);
        panel.whole[i].reach = Metric::reach(key, query_codes_, row);
      }
      pack_points(packed_queries_, rows, width, kTileCols, panel_data(p));
    }
  }

  void load_points(int64_t begin, int64_t count) {
    first_point_ = begin;
    n_points_ = count;
    block_.load(packed_points_, begin, count);
    for (int64_t i = 0; i < count; ++i) {
      block_.sq_norms()[i] = Metric::sq_norm(block_.sq_norms()[i]);
    }
    if (!kMutual) return;
    for (int64_t i = 0; i < CentreBlock::whole_tiles(count); ++i) {
      askers_.reaches.get()[i] = Metric::kNothing;
      askers_.weights.get()[i] = 0.0f;
      if (i >= count) continue;
      const int64_t row = begin + i;
      Whole& whole = askers_.whole.get()[i] = whole_of(point_codes_, row);
      askers_.weights.get()[i] = Metric::weight(packed_points_, row);
      if (!looks(points_, row, first_place_)) continue;
      const double key = limit(points_, row);
      askers_.reaches.get()[i] = Metric::reach(key, packed_points_, row);
      whole.reach = Metric::reach(key, point_codes_, row);
    }
  }

  static Whole whole_of(const Codes& codes, int64_t row) {
    return {codes.scales[row], Metric::sq_norm(codes.sq_norms[row]), codes.errors[row],
            Metric::weight(codes, row), Metric::kNothing};
  }

  // A panel and the block, whose points are the meeting's from `begin` on.
  void apply(int64_t p, int64_t begin) {
    const Queries& panel = panels_.get()[p];
    for (int64_t c = 0; c < n_points_; c += kTileRows) {
      if (triangle_ && begin + c + kTileRows <= p * kTileCols) continue;
      const Tile tile = block_.against(panel_data(p), c);
      Pair* pairs = passing_.get() + n_passing_;
      n_passing_ += list_within<Metric, kMutual>(tile, panel, block_, askers_, c, pairs);
      work.filtered += kTilePairs;
      if (n_passing_ >= kPassing) weigh(p);
    }
    weigh(p);
  }

  // Whether a pair passes the filter of the whole codes.
  bool passes(const Whole& query, int64_t point, float value) const {
    const float error = point_codes_.errors[first_point_ + point];
    if (value < Metric::bound(Metric::sum(query.reach, query.weight, error))) return true;
    if (!kMutual) return false;
    const Whole& asker = askers_.whole.get()[point];
    return value < Metric::bound(Metric::sum(asker.reach, asker.weight, query.error));
  }

  // Whether a pair is to be looked at: not a row and itself, in a search without it, and in a
  // triangle none twice.
  bool wanted(int64_t query, int64_t point) const {
    const int64_t a = first_query_ + query;
    const int64_t b = first_point_ + point;
    if (triangle_ && b < a) return false;
    return !exclude_self_ ||
           queries_.first + row_of(queries_, a) != points_.first + row_of(points_, b);
  }

  // Notes those of a panel's pairs that passed the packed codes that pass the whole ones.
  void weigh(int64_t p) {
    const Queries& panel = panels_.get()[p];
    for (int64_t i = 0; i < n_passing_; ++i) {
      const auto [lane, point] = passing_.get()[i];
      const int64_t query = p * kTileCols + lane;
      if (!wanted(query, point)) continue;
      const Whole& whole = panel.whole[lane];
      const int64_t row = first_point_ + point;
      const int32_t product =
          dot(query_codes_.values + (first_query_ + query) * query_codes_.depth,
              point_codes_.values + row * point_codes_.depth, point_codes_.depth);
      const float value = filtered(product, whole.scale, whole.sq_norm, point_codes_.scales[row],
                                   Metric::sq_norm(point_codes_.sq_norms[row]));
      if (passes(whole, point, value)) note(query, point, value);
    }
    work.passed += n_passing_;
    n_passing_ = 0;
    if (n_survivors_ >= kSurvivors) settle();
  }

  // Notes a pair. Of a nearest neighbour, how near it promises to be: the next is then asked more.
  void note(int64_t query, int64_t point, float value) {
    survivors_.get()[n_survivors_++] = {static_cast<int32_t>(query), static_cast<int32_t>(point),
                                        value};
    if (k_ > 1 || !Metric::kDistance) return;
    const Whole& whole = panel_of(query).whole[query % kTileCols];
    const int64_t row = first_point_ + point;
    const double promised =
        promised_key(value, whole.sq_norm + point_codes_.sq_norms[row],
                     whole.error + point_codes_.errors[row], point_codes_.scale);
    approach_query(query, promised);
    if (kMutual) approach_point(point, promised);
  }

  void approach_query(int64_t query, double key) {
    Queries& panel = panel_of(query);
    const int64_t lane = query % kTileCols;
    const float whole = Metric::reach(key, query_codes_, first_query_ + query);
    if (!(whole < panel.whole[lane].reach)) return;
    panel.whole[lane].reach = whole;
    panel.reaches[lane] = Metric::reach(key, packed_queries_, first_query_ + query);
  }

  void approach_point(int64_t point, double key) {
    Whole& asker = askers_.whole.get()[point];
    const float whole = Metric::reach(key, point_codes_, first_point_ + point);
    if (!(whole < asker.reach)) return;
    asker.reach = whole;
    askers_.reaches.get()[point] = Metric::reach(key, packed_points_, first_point_ + point);
  }

  // Canonical distances of the survivors, into the heaps. While one is computed, the rows of the
  // next come from memory. Those of nearest neighbours are taken latest first: they promise most.
  void settle() {
    const Survivor* survivors = survivors_.get();
    const int64_t count = n_survivors_;
    for (int64_t i = count - 1; i >= 0; --i) {
      if (i >= kRowsAhead) {
        const Survivor& later = survivors[i - kRowsAhead];
        if (passes(panel_of(later.query).whole[later.query % kTileCols], later.point,
                   later.value)) {
          query_rows_[row_of(queries_, first_query_ + later.query)].prefetch(dim_);
          point_rows_[row_of(points_, first_point_ + later.point)].prefetch(dim_);
        }
      }
      const auto [query, point, filtered_value] = survivors[i];
      if (!passes(panel_of(query).whole[query % kTileCols], point, filtered_value)) continue;
      const int64_t query_row = row_of(queries_, first_query_ + query);
      const int64_t point_row = row_of(points_, first_point_ + point);
      const double key = Metric::key(query_rows_[query_row], point_rows_[point_row], dim_);
      ++work.canonical;
      Heap heap = heap_of(queries_, query_row, k_);
      if (heap.offer(key, points_.first + point_row)) approach_query(query, heap.sq_dist[0]);
      // A row and itself is one pair, not two.
      if (!kMutual || points_.first + point_row == queries_.first + query_row) continue;
      Heap other = heap_of(points_, point_row, k_);
      if (other.offer(key, queries_.first + query_row)) approach_point(point, other.sq_dist[0]);
    }
    n_survivors_ = 0;
  }
};

}  // namespace fastsel::FASTSEL_LEVEL
