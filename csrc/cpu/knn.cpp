// Exact k nearest neighbours: canonical distances of a tile of queries to a tile of points, the k
// best of each query in a heap that lives in the output.
#include "cpu/rows.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

constexpr int64_t kQueryTile = 16;
constexpr int64_t kPointTileElements = 1 << 15;  // a tile of points stays in the L2 cache

// The k best (sq_dist, index) of one query, worst on top.
struct Heap {
  double* sq_dist;
  int64_t* index;
  int64_t k;
  int64_t size;

  // Points come in ascending order of index, so an equal distance never replaces an older one.
  bool wants(double value) const { return size < k || value < sq_dist[0]; }

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

}  // namespace

void knn(const Matrix& queries, const Matrix& points, int64_t first_query, int64_t count, int64_t k,
         bool exclude_self, double* sq_dist, int64_t* index, int threads) {
  const int64_t dim = points.dim;
  const int64_t point_tile = kPointTileElements / dim + 1;
  const int64_t query_tiles = (count + kQueryTile - 1) / kQueryTile;
  with_rows(points, [&](const auto& rows) {
#pragma omp parallel num_threads(threads)
    {
      const Buffer<double> wide(kQueryTile * dim);
#pragma omp for schedule(dynamic)
      for (int64_t tile = 0; tile < query_tiles; ++tile) {
        const int64_t begin = tile * kQueryTile;
        const int64_t end = begin + kQueryTile < count ? begin + kQueryTile : count;
        Heap heaps[kQueryTile];
        with_rows(queries, [&](const auto& query_rows) {
          for (int64_t q = begin; q < end; ++q) {
            widen_row(query_rows[first_query + q], dim, wide.get() + (q - begin) * dim);
            heaps[q - begin] = {sq_dist + q * k, index + q * k, k, 0};
          }
        });
        for (int64_t p0 = 0; p0 < points.n; p0 += point_tile) {
          const int64_t p1 = p0 + point_tile < points.n ? p0 + point_tile : points.n;
          for (int64_t q = begin; q < end; ++q) {
            const Row<double, false> query{wide.get() + (q - begin) * dim, 1.0};
            Heap& heap = heaps[q - begin];
            const int64_t skip = exclude_self ? first_query + q : -1;
            for (int64_t p = p0; p < p1; ++p) {
              if (p == skip) continue;
              const double value = FASTSEL_LEVEL::sq_dist(query, rows[p], dim);
              if (heap.wants(value)) heap.push(value, p);
            }
          }
        }
        for (int64_t q = begin; q < end; ++q) heaps[q - begin].sort();
      }
    }
  });
}

}  // namespace fastsel::FASTSEL_LEVEL
