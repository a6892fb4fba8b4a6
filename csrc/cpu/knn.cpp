// Exact k nearest neighbours. The k best of each query are a heap that lives in the output.
//
// Where a set is searched for the neighbours of its own rows, a pair is looked at once, for both:
// groups of rows meet in rounds (rounds.h), and a meeting (meeting.h) looks at all their pairs.
#include <type_traits>

#include "cpu/meeting.h"
#include "cpu/rounds.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

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

void sort_neighbours(double* sq_dist, int64_t* index, int64_t n, int64_t k, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < n; ++i) Heap{sq_dist + i * k, index + i * k, k}.sort();
}

}  // namespace fastsel::FASTSEL_LEVEL
