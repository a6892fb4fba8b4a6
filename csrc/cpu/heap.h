// The neighbours of a row that are found so far: a heap that lives in the output of a search.
#pragma once

#include "cpu/kernels.h"

namespace fastsel::FASTSEL_LEVEL {

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

}  // namespace fastsel::FASTSEL_LEVEL
