// Rounds in which each group of rows meets one other, so that no heap has two writers.
#pragma once

#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

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

}  // namespace fastsel::FASTSEL_LEVEL
