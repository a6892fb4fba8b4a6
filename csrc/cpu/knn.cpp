// Exact k nearest neighbours: every pair of a query and a point passes the filter, whose reach is
// the k-th best distance of each so far, or gets its canonical distance. The k best of each query
// are a heap that lives in the output.
//
// Where a set is searched for the neighbours of its own rows, a pair is looked at once, for both:
// groups of rows meet in rounds in which each meets one other, so that no heap has two writers.
//
// With a sketch, the tiles hold its codes, a fraction as deep. The few pairs that pass it meet the
// filter of the whole codes one by one.
#include <type_traits>

#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// Whether (sq_dist, index) pair a comes after pair b in the order of neighbours.
inline bool after(double a, int64_t a_index, double b, int64_t b_index) {
  return a > b || (a == b && a_index > b_index);
}

// The k best (sq_dist, index) of one query, worst on top.
struct Heap {
  double* sq_dist;
  int64_t* index;
  int64_t k;

  void swap(int64_t a, int64_t b) {
    const double d = sq_dist[a];
    const int64_t i = index[a];
    sq_dist[a] = sq_dist[b];
    index[a] = index[b];
    sq_dist[b] = d;
    index[b] = i;
  }

  void sift_down(int64_t end) {
    for (int64_t parent = 0;;) {
      int64_t child = 2 * parent + 1;
      if (child >= end) return;
      if (child + 1 < end && follows(child + 1, child)) ++child;
      if (!follows(child, parent)) return;
      swap(parent, child);
      parent = child;
    }
  }

  bool follows(int64_t a, int64_t b) const {
    return after(sq_dist[a], index[a], sq_dist[b], index[b]);
  }

  // Takes a pair in, for the worst, if it is better; says whether.
  bool offer(double value, int64_t i) {
    if (!after(sq_dist[0], index[0], value, i)) return false;
    sq_dist[0] = value;
    index[0] = i;
    sift_down(k);
    return true;
  }

  void sort() {
    for (int64_t end = k - 1; end > 0; --end) {
      swap(0, end);
      sift_down(end);
    }
  }
};

inline Heap heap_of(const Searched& part, int64_t row, int64_t k) {
  return {part.sq_dist + row * k, part.index + row * k, k};
}

// The row that codes i are of.
inline int64_t row_of(const Searched& part, int64_t i) {
  return part.order != nullptr ? part.order[i] : i;
}

// The first in the set of some rows, by the places of their codes.
inline int64_t first_of(const Searched& part, int64_t begin, int64_t count) {
  int64_t first = INT64_MAX;
  for (int64_t i = begin; i < begin + count; ++i) first = min(first, part.first + row_of(part, i));
  return first;
}

// A search by distance. A pair's key is its squared distance; the filter is that of filter.h.
struct ByDistance {
  static constexpr bool kDistance = true;
  // The reach of a row that looks for nothing, as it has all that it may find. Errors are at most
  // about 1, so that it stays below 0 with that of another row.
  static constexpr float kNothing = -2.0f;

  template <class R>
  static double key(const R& x, const R& y, int64_t dim) {
    return FASTSEL_LEVEL::sq_dist(x, y, dim);
  }

  static float sq_norm(float value) { return value; }

  static float reach(double key, const Codes& codes, int64_t i) {
    return FASTSEL_LEVEL::reach(__builtin_sqrt(key) * codes.scale, codes.errors[i]);
  }

  static float weight(const Codes&, int64_t) { return 0.0f; }

  // Whatever its type, what a filtered value must be under, by a row's reach and weight and the
  // error of the other: first a sum, of which the largest counts, then the bound itself.
  template <class V>
  static V sum(V reach, V, V error) {
    return reach + error;
  }

  static float bound(float sum) { return sum * __builtin_fabsf(sum); }

  static Vec bound(Vec sum) { return sum * (Vec)((Ints)sum & 0x7fffffff); }
};

// A search by inner product, the largest first. A pair's key is minus that; images are not shifted.
// With x^ = s_x q_x, N_x its norm, and errors e, x'.c' = x^.c^ + (x' - x^).c' + x^.(c' - c^) is at
// most
//
//   s_x q_x . s_c q_c + e_x + e_c N_x,
//
// as no image is longer than 1. A filtered value is -2 s_x q_x . s_c q_c, with an error of at most
// 6 u N_x; the sum of reach and weight times error errs by at most 4 u of its terms, which are
// under 3 (N_x + e_x). Both are covered by what the reach adds, 2^-18 (N_x + e_x).
struct ByInnerProduct {
  static constexpr bool kDistance = false;
  static constexpr float kNothing = -INFINITY;

  template <class R>
  static double key(const R& x, const R& y, int64_t dim) {
    return -FASTSEL_LEVEL::inner_product(x, y, dim);
  }

  static float sq_norm(float) { return 0.0f; }

  // At least the norms of an image and of its code.
  static double norm(const Codes& codes, int64_t i) {
    const double sq_norm = static_cast<double>(codes.sq_norms[i]) * (1.0 + 0x1p-18);
    return __builtin_sqrt(sq_norm) + static_cast<double>(codes.errors[i]);
  }

  static float reach(double key, const Codes& codes, int64_t i) {
    const double error = static_cast<double>(codes.errors[i]) * (1.0 + 0x1p-18);
    return round_up(2.0 * (key * codes.scale * codes.scale + error) + 0x1p-18 * norm(codes, i));
  }

  static float weight(const Codes& codes, int64_t i) {
    return round_up(2.0 * norm(codes, i) * (1.0 + 0x1p-18));
  }

  template <class V>
  static V sum(V reach, V weight, V error) {
    return reach + weight * error;
  }

  template <class V>
  static V bound(V sum) {
    return sum;
  }
};

// At least the canonical squared distance of a pair with this filtered one.
inline double promised_key(float value, float sq_norms, float errors, double scale) {
  const double radius = promised_radius(value, sq_norms, errors) / scale;
  return radius * radius * (1.0 + 0x1p-30);
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

// Rows next to one in the order of codes that its first bound is from, at least and at most.
constexpr int64_t kFewestForeseen = 480;
constexpr int64_t kMostForeseen = 2048;

// The index of what is not there yet: it comes after every other at the same distance.
constexpr int64_t kNoIndex = INT64_MAX;

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

// First bounds for the rows of a set that is searched for its own neighbours. A row's bound is that
// of its k nearest among the rows next to it in the order of codes: the k-th smallest of the least
// distances to the centres of a tile, which are distances to k different rows. Tiles of whole codes
// are a quick way to them.
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

  static float max(float a, float b) { return a > b ? a : b; }
  static int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

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

// How rows fall into groups.
struct Groups {
  int64_t n;
  int64_t size;

  Groups(int64_t n_rows, int64_t group_size)
      : n((n_rows + group_size - 1) / group_size), size(group_size), n_rows_(n_rows) {}

  int64_t begin(int64_t g) const { return g * size; }
  int64_t count(int64_t g) const { return min(size, n_rows_ - g * size); }

 private:
  int64_t n_rows_;
};

// Which groups meet in a round of a mutual search, as pair i of so many; none twice.
class Rounds {
 public:
  // Of a set with itself (`same`), or of two sets.
  Rounds(int64_t n_queries, int64_t n_points, bool same)
      : same_(same), n_queries_(n_queries), n_points_(n_points), even_((n_queries + 1) / 2 * 2) {}

  // In the first round of a set with itself every group meets itself, so that what lies near in the
  // set is found first; then all meet all as in a tournament, with a pause where they are odd.
  int64_t count() const { return same_ ? even_ : max(n_queries_, n_points_); }

  int64_t pairs(int64_t round) const { return same_ && round > 0 ? even_ / 2 : n_queries_; }

  // False: there is no such pair.
  bool pair(int64_t round, int64_t i, int64_t* a, int64_t* b) const {
    if (!same_) {
      *a = i;
      *b = (i + round) % count();
      return *b < n_points_;
    }
    if (round == 0) {
      *a = *b = i;
      return true;
    }
    const int64_t circle = even_ - 1;
    const int64_t x = (round - 1 + i) % circle;
    const int64_t y = i == 0 ? circle : (round - 1 - i + circle) % circle;
    *a = min(x, y);
    *b = max(x, y);
    return *b < n_queries_;
  }

 private:
  const bool same_;
  const int64_t n_queries_;
  const int64_t n_points_;
  const int64_t even_;
};

const Codes& packed(const Coded& coded) {
  return coded.sketch.values != nullptr ? coded.sketch : coded.codes;
}

int64_t panels_of_group(const Searched& queries, int threads) {
  return group_panels(packed(queries.coded), queries.coded.points.n, threads);
}

bool same(const Searched& queries, const Searched& points) {
  return queries.first == points.first && queries.coded.points.data == points.coded.points.data;
}

Groups groups_of(const Searched& part, int64_t panels) {
  return Groups(part.coded.points.n, panels * kTileCols);
}

template <class R, class Metric, bool kMutual>
Work search(const Searched& queries, const Searched& points, int64_t k, bool exclude_self,
            int64_t first_round, int64_t n_rounds, int threads) {
  const int64_t panels = panels_of_group(queries, threads);
  const Groups query_groups = groups_of(queries, panels);
  const Groups point_groups = groups_of(points, panels);
  const Rounds rounds(query_groups.n, point_groups.n, same(queries, points));
  Work work = {0, 0, 0};
#pragma omp parallel num_threads(threads)
  {
    Meeting<R, Metric, kMutual> meeting(queries, points, k, exclude_self, panels);
    if constexpr (kMutual) {
      for (int64_t round = first_round; round < first_round + n_rounds; ++round) {
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < rounds.pairs(round); ++i) {
          int64_t a;
          int64_t b;
          if (!rounds.pair(round, i, &a, &b)) continue;
          meeting.meet(query_groups.begin(a), query_groups.count(a), point_groups.begin(b),
                       point_groups.count(b));
        }
      }
    } else {
#pragma omp for schedule(dynamic)
      for (int64_t a = first_round; a < first_round + n_rounds; ++a) {
        meeting.meet(query_groups.begin(a), query_groups.count(a), 0, points.coded.points.n);
      }
    }
#pragma omp critical
    {
      work.filtered += meeting.work.filtered;
      work.passed += meeting.work.passed;
      work.canonical += meeting.work.canonical;
    }
  }
  return work;
}

}  // namespace

int64_t knn_rounds(const Searched& queries, const Searched& points, int threads) {
  const int64_t panels = panels_of_group(queries, threads);
  const Groups query_groups = groups_of(queries, panels);
  if (points.sq_dist == nullptr) return query_groups.n;
  return Rounds(query_groups.n, groups_of(points, panels).n, same(queries, points)).count();
}

Work knn(const Searched& queries, const Searched& points, int64_t k, bool by_inner_product,
         bool exclude_self, int64_t first_round, int64_t n_rounds, int threads) {
  Work work;
  with_rows(points.coded.points, [&](const auto& rows) {
    using R = std::decay_t<decltype(rows)>;
    const bool mutual = points.sq_dist != nullptr;
    const auto run = [&](const auto& search_as) {
      work = search_as(queries, points, k, exclude_self, first_round, n_rounds, threads);
    };
    if (by_inner_product) {
      mutual ? run(search<R, ByInnerProduct, true>) : run(search<R, ByInnerProduct, false>);
    } else {
      mutual ? run(search<R, ByDistance, true>) : run(search<R, ByDistance, false>);
    }
  });
  return work;
}

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

void sort_neighbours(double* sq_dist, int64_t* index, int64_t n, int64_t k, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < n; ++i) Heap{sq_dist + i * k, index + i * k, k}.sort();
}

}  // namespace fastsel::FASTSEL_LEVEL
