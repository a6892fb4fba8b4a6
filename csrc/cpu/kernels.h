// What the kernel files offer, for each instruction set, to the bindings.
#pragma once

#include <cstdint>

#include "matrix.h"

namespace fastsel {

// The best candidate that is not being looked at, as (squared distance, row): one that is looked at
// is worth going on with only while it comes before this in the order of picks.
struct Rival {
  double key;
  int64_t row;

  bool beaten_by(double other_key, int64_t other_row) const {
    return other_key > key || (other_key == key && other_row < row);
  }
};

// What a call did, so that its speed can be explained.
struct Work {
  int64_t filtered;    // pairs that the filter, or the sketch, looked at
  int64_t canonical;   // pairs whose canonical distance was computed
  int64_t passed = 0;  // pairs that passed the sketch
};

// A list in memory from malloc.
template <class T>
struct List {
  T* items;
  int64_t count;
  int64_t capacity;
};

// A ball that a candidate lies in: the member is nearer to it than to its nearest other member.
struct Ball {
  double sq_dist;
  int64_t member;
};

// The same as the member keeps it, with the logarithm of the squared distance.
struct Inside {
  int64_t log;
  int64_t row;
};

// A greedy entropy selection; fastsel/greedy_entropy.py tells what these mean. Entries of lists
// are dead where the ball has shrunk and leaves them outside, or where the candidate was picked;
// they go when room is needed.
struct EntropyState {
  int64_t* gains;     // [n]
  double* sq_dist;    // [n]
  int64_t* seen;      // [n]
  List<Ball>* balls;  // [n]
  int64_t* members;   // rows of points, as all that follow [members]
  double* sq_eps;
  int64_t* log_eps;       // their logarithms
  float* reaches;         // of the balls, to the codes
  float* sketch_reaches;  // and to those of the sketches, if there are any
  List<Inside>* inside;
  int64_t* last_central;  // members at the last refresh where it was a central one; 0: at none
  const int64_t* met;     // [n] as in Centres
  int64_t n_members;
  double min_distance;
  bool enough_memory;  // what lacks an entry is of no use
};

// The best candidate that is not being looked at, as Rival, by gain.
struct GainRival {
  int64_t gain;
  int64_t row;

  bool beaten_by(int64_t other_gain, int64_t other_row) const {
    return other_gain > gain || (other_gain == gain && other_row < row);
  }
};

// Lowers sq_dist[i], for every row i of points, to its squared distance to row `centre` of centres.
using MinUpdate = void(const Matrix& points, const Matrix& centres, int64_t centre, double* sq_dist,
                       int threads);

// Where codes go: arrays as in Codes.
struct CodesOut {
  int8_t* values;
  float* scales;
  float* sq_norms;
  float* errors;
  int64_t depth;
};

// Codes of points: integers of at most `limit` in magnitude, limit^2 depth < 2^31. `shift` is
// float64 [dim], `scale` a power of two that takes norms of shifted points to at most 1.
//
// With a basis, float32 [dim, sketches.depth] of spectral norm at most 1 whose last column is zero,
// also codes of their sketches: the products with its columns and, last, the norm of what these
// leave. The depth is then a multiple of kSketchUnit.
constexpr int64_t kSketchUnit = 32;
using Encode = void(const Matrix& points, const double* shift, double scale, int64_t limit,
                    const CodesOut& whole, const float* basis, const CodesOut& sketches,
                    int threads);

// out [n, depth] = rows [n, dim] basis [dim, depth], in float32; depth a multiple of kSketchUnit.
using Project = void(const float* rows, int64_t n, int64_t dim, const float* basis, int64_t depth,
                     float* out, int threads);

// Turns random directions [dim, depth] into orthonormal ones that a sample [n, dim] varies along
// the most, by so many steps of power iteration. Depth is a multiple of kSketchUnit.
using Principal = void(const float* sample, int64_t n, int64_t dim, int64_t depth, int steps,
                       float* directions, int threads);

// Rows of points with their codes, and those of their sketches where there are any.
struct Coded {
  Matrix points;
  Codes codes;
  Codes sketch;  // values: null without
};

// Rows of a set that is searched, or is searched in: `first` is the place of row 0 in that set. Of
// those whose neighbours are looked for, heaps of the k best so far, worst first.
struct Searched {
  Coded coded;
  const int64_t* order;  // [n] the row that codes i are of; null: i
  int64_t first;
  double* sq_dist;  // [n, k]; null: nobody asks
  int64_t* index;   // [n, k]
};

// Brings into the heaps of queries what is near among the points, and, where these have heaps too,
// the reverse: the part of the search that rounds first_round .. first_round + n_rounds - 1 make,
// of knn_rounds in all. With exclude_self, a query and a point of one place do not meet. Queries
// and points are of one dtype and metric, their codes of one shift and scale; those that are
// searched for each other have the same places only where they are the same.
//
// By inner product, the largest come first, with minus that for sq_dist, and the shift is 0.
using Knn = Work(const Searched& queries, const Searched& points, int64_t k, bool by_inner_product,
                 bool exclude_self, int64_t first_round, int64_t n_rounds, int threads);
using KnnRounds = int64_t(const Searched& queries, const Searched& points, int threads);

// Bounds the heaps, all of (inf, INT64_MAX), of rows that will be searched for their neighbours
// among themselves, by distance: with places still to be taken, at a distance that is under no
// k-th.
using Foresee = void(const Searched& rows, int64_t k, bool exclude_self, int threads);

// Sorts heaps [n, k] into ascending order of (sq_dist, index).
using SortNeighbours = void(double* sq_dist, int64_t* index, int64_t n, int64_t k, int threads);

// Rows that were picked, in order, and copies of their codes: row i is that of `codes` at i. A few
// are `central`: they lie in the midst of the points, and many points are near them. Any may be
// named so, or none; refresh is the faster, the better they are chosen.
struct Centres {
  const int64_t* rows;  // [n]
  int64_t n;
  Codes codes;
  Codes sketch;
  const int64_t* central;  // [n_central], positions in [0, n), those to be met first in front
  int64_t n_central;
  int64_t* met;  // [points]: how many centres there were when each last met the central ones
};

// Applies to each of the listed rows of points, in order, the centres it has not seen: seen[row] is
// how many of the centres keys[row] accounts for; the rows ascend by it. A row is dropped, partly
// refreshed, as soon as it no longer beats the rival. It may have met central ones out of order
// then, which only lowers its key.
using Refresh = Work(const Coded& points, const int64_t* rows, int64_t n_rows, double* keys,
                     int64_t* seen, const Centres& centres, Rival rival, int threads);

// Greedy picks among the listed rows, ascending, whose keys are up to date: the row of largest key,
// as long as it beats the rival and sqrt(key) > min_distance, at most max_picks times. The others'
// keys account for every pick; a picked row's key becomes -1. Returns the number of picks.
using Pick = int64_t(const Matrix& points, const Codes& codes, const int64_t* rows, int64_t n_rows,
                     double* keys, Rival rival, double min_distance, int64_t max_picks,
                     int64_t* picks, double* sq_radii, Work* work, int threads);

// Sweeps over the listed rows, whose keys are up to date, one for each of some falling limits: a
// sweep takes the rows in the order given and accepts each whose key is above its limit; at most
// max_picks in all. sweeps[i] is the number of the sweep that accepted picks[i]. An accepted row's
// key becomes -1; the others' account for it, but those at or under the last limit may stay there.
// Returns the number of picks.
using Accept = int64_t(const Matrix& points, const Codes& codes, const int64_t* rows,
                       int64_t n_rows, double* keys, const double* limits, int64_t n_limits,
                       int64_t max_picks, int64_t* picks, int64_t* sweeps, double* sq_radii,
                       Work* work, int threads);

// Filtered squared distances of all listed rows to each other: centre by centre, float32
// [n_rows, stride] with stride = matrix_stride(n_rows) >= n_rows.
using FilterMatrix = void(const Codes& codes, const int64_t* rows, int64_t n_rows, int64_t stride,
                          float* out, int threads);
using MatrixStride = int64_t(int64_t n_rows);

// Makes members of the next `count` of them, whose sq_eps are there, before any candidate has seen
// them.
using EntropyStart = void(const Coded& points, EntropyState* state, int64_t count);

// As Refresh, with the members for centres: brings the distance of each
// of the listed rows, its balls and its gain up to date.
using EntropyRefresh = Work(const Coded& points, EntropyState* state, const int64_t* rows,
                            int64_t n_rows, const Centres& members, GainRival rival, int threads);

// Picks among the listed rows: the row of largest gain, once it has seen every member, as long as
// it beats the rival, at most max_picks times. Rows that are not listed may gain from a ball that
// shrinks: where they beat the rival they are listed too, or the rival becomes the best of them.
// Returns the number of picks, which are new members, with their squared distance to those before
// them.
using EntropyPick = int64_t(const Coded& points, EntropyState* state, const int64_t* rows,
                            int64_t n_rows, GainRival rival, int64_t max_picks, double* sq_radii,
                            Work* work);

#define FASTSEL_DECLARE(level)    \
  namespace level {               \
  MinUpdate min_update;           \
  Knn knn;                        \
  KnnRounds knn_rounds;           \
  Foresee foresee;                \
  SortNeighbours sort_neighbours; \
  Encode encode;                  \
  Project project;                \
  Principal principal;            \
  Refresh refresh;                \
  Pick pick;                      \
  Accept accept;                  \
  FilterMatrix filter_matrix;     \
  MatrixStride matrix_stride;     \
  EntropyStart entropy_start;     \
  EntropyRefresh entropy_refresh; \
  EntropyPick entropy_pick;       \
  }
FASTSEL_DECLARE(baseline)
FASTSEL_DECLARE(avx2)
FASTSEL_DECLARE(avx512)
#undef FASTSEL_DECLARE

// The kernels of one instruction set.
struct Kernels {
  const char* level;
  MinUpdate* min_update;
  Knn* knn;
  KnnRounds* knn_rounds;
  Foresee* foresee;
  SortNeighbours* sort_neighbours;
  Encode* encode;
  Project* project;
  Principal* principal;
  Refresh* refresh;
  Pick* pick;
  Accept* accept;
  FilterMatrix* filter_matrix;
  MatrixStride* matrix_stride;
  EntropyStart* entropy_start;
  EntropyRefresh* entropy_refresh;
  EntropyPick* entropy_pick;
};

// Those that this machine can run, best first; `count` says how many.
const Kernels* usable_kernels(int* count);

}  // namespace fastsel
