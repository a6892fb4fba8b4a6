// Exact k nearest neighbours: every point passes every query's filter, whose reach is its k-th best
// distance so far, or gets its canonical distance. The k best of each query are in a heap that
// lives in the output.
#include <type_traits>

#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// The k best (sq_dist, index) of one query, worst on top.
struct Heap {
  double* sq_dist;
  int64_t* index;
  int64_t k;
  int64_t size;

  // What a distance must be under to come in. Points come in ascending order of index, so an equal
  // one never replaces an older one.
  double limit() const { return size < k ? INFINITY : sq_dist[0]; }

  bool worse(int64_t a, int64_t b) const {
    return sq_dist[a] > sq_dist[b] || (sq_dist[a] == sq_dist[b] && index[a] > index[b]);
  }

  void swap(int64_t a, int64_t b) {
    const double d = sq_dist[a];
    const int64_t i = index[a];
    sq_dist[a] = sq_dist[b];
    index[a] = index[b];
    sq_dist[b] = d;
    index[b] = i;
  }

  void sift_down(int64_t parent, int64_t end) {
    for (;;) {
      int64_t child = 2 * parent + 1;
      if (child >= end) return;
      if (child + 1 < end && worse(child + 1, child)) ++child;
      if (!worse(child, parent)) return;
      swap(parent, child);
      parent = child;
    }
  }

  void push(double value, int64_t i) {
    if (size == k) {
      sq_dist[0] = value;
      index[0] = i;
      sift_down(0, k);
      return;
    }
    int64_t child = size++;
    sq_dist[child] = value;
    index[child] = i;
    while (child > 0 && worse(child, (child - 1) / 2)) {
      swap(child, (child - 1) / 2);
      child = (child - 1) / 2;
    }
  }

  void sort() {
    for (int64_t end = size - 1; end > 0; --end) {
      swap(0, end);
      sift_down(0, end);
    }
  }
};

// The queries that a thread takes through all points at a time.
template <class Q, class P>
class QueryGroup {
 public:
  QueryGroup(const Q& queries, const Codes& query_codes, const P& points, const Codes& codes,
             int64_t n_points, int64_t dim, int64_t panels)
      : queries_(queries),
        query_codes_(query_codes),
        points_(points),
        codes_(codes),
        n_points_(n_points),
        dim_(dim),
        panel_words_(codes.depth / kStep * kTileCols),
        packed_(panels * panel_words_),
        panels_(panels),
        heaps_(panels * kTileCols),
        block_(block_size(codes), codes.depth),
        block_index_(block_size(codes)) {}

  // Neighbours of queries first .. first + count - 1 into rows of [count, k].
  void search(int64_t first, int64_t count, int64_t k, bool exclude_self, double* sq_dist,
              int64_t* index) {
    const int64_t n_panels = (count + kTileCols - 1) / kTileCols;
    for (int64_t p = 0; p < n_panels; ++p) {
      int64_t rows[kTileCols];
      const int64_t begin = p * kTileCols;
      const int64_t width = min(kTileCols, count - begin);
      for (int64_t i = 0; i < kTileCols; ++i) {
        panels_.get()[p].clear(i);
        if (i >= width) continue;
        rows[i] = first + begin + i;
        panels_.get()[p].place(i, query_codes_, rows[i], INFINITY);
        heaps_.get()[begin + i] = {sq_dist + (begin + i) * k, index + (begin + i) * k, k, 0};
      }
      pack_points(query_codes_, rows, width, kTileCols, packed_.get() + p * panel_words_);
    }
    const int64_t block = block_size(codes_);
    for (int64_t begin = 0; begin < n_points_; begin += block) {
      const int64_t size = min(block, n_points_ - begin);
      for (int64_t i = 0; i < size; ++i) block_index_.get()[i] = begin + i;
      block_.load(codes_, block_index_.get(), size);
      for (int64_t p = 0; p < n_panels; ++p) meet(p, begin, size, first, exclude_self);
    }
    for (int64_t q = 0; q < count; ++q) heaps_.get()[q].sort();
  }

 private:
  const Q queries_;
  const Codes& query_codes_;
  const P points_;
  const Codes& codes_;
  const int64_t n_points_;
  const int64_t dim_;
  const int64_t panel_words_;
  Buffer<int32_t> packed_;
  Buffer<Panel> panels_;
  Buffer<Heap> heaps_;
  CentreBlock block_;
  Buffer<int64_t> block_index_;

  // A panel of queries and the block of points from `begin` on.
  void meet(int64_t p, int64_t begin, int64_t size, int64_t first, bool exclude_self) {
    Panel& panel = panels_.get()[p];
    for (int64_t c = 0; c < size; c += kTileRows) {
      const Tile tile = block_.against(packed_.get() + p * panel_words_, c);
      sift(tile, panel, block_, c, [&](int64_t lane, int64_t centre, float) {
        const int64_t query = first + p * kTileCols + lane;
        const int64_t point = begin + centre;
        if (exclude_self && point == query) return;
        Heap& heap = heaps_.get()[p * kTileCols + lane];
        const double value = FASTSEL_LEVEL::sq_dist(queries_[query], points_[point], dim_);
        if (!(value < heap.limit())) return;
        heap.push(value, point);
        panel.reaches[lane] = reach(heap.limit(), query_codes_.errors[query], codes_.scale);
      });
    }
  }
};

template <class Q, class P>
void search(const Q& queries, const Codes& query_codes, const P& points, const Codes& codes,
            int64_t n_points, int64_t first_query, int64_t count, int64_t k, bool exclude_self,
            double* sq_dist, int64_t* index, int threads) {
  const int64_t panels = group_panels(codes, count, threads);
  const int64_t group_size = panels * kTileCols;
  const int64_t n_groups = (count + group_size - 1) / group_size;
#pragma omp parallel num_threads(threads)
  {
    QueryGroup<Q, P> group(queries, query_codes, points, codes, n_points, points.dim, panels);
#pragma omp for schedule(dynamic)
    for (int64_t g = 0; g < n_groups; ++g) {
      const int64_t begin = g * group_size;
      group.search(first_query + begin, min(group_size, count - begin), k, exclude_self,
                   sq_dist + begin * k, index + begin * k);
    }
  }
}

}  // namespace

void knn(const Matrix& queries, const Codes& query_codes, const Matrix& points, const Codes& codes,
         int64_t first_query, int64_t count, int64_t k, bool exclude_self, double* sq_dist,
         int64_t* index, int threads) {
  with_rows(points, [&](const auto& rows) {
    search(std::decay_t<decltype(rows)>(queries), query_codes, rows, codes, points.n, first_query,
           count, k, exclude_self, sq_dist, index, threads);
  });
}

}  // namespace fastsel::FASTSEL_LEVEL
