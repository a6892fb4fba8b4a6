// The operations of the CUDA backend. Every pointer is to memory of the device; nothing is
// allocated and nothing waited for: an operation is put on the stream and returns.
//
// An operation has the same name, and the same meaning, in fastsel/backends/torch_ops.py, in plain
// torch, and in kernels/, in Triton.
#pragma once

#include <cstdint>

#include "matrix.h"

struct CUstream_st;

namespace fastsel::cuda {

using Stream = CUstream_st*;  // what cudaStream_t is

// Codes of listed rows. The depth is a multiple of kCodeUnit, the values are aligned to 16 bytes.
constexpr int64_t kCodeUnit = 64;

struct CodeRows {
  Codes codes;
  const int64_t* rows;  // [n]
  int64_t n;
};

// A list of pairs (row, column) that grows on the device. `count` goes on beyond the capacity.
struct Pairs {
  int32_t* pairs;  // [capacity, 2]
  int64_t capacity;
  int64_t* count;  // [1]
};

// Columns of pairs by their rows: those of row r are cols[first[r]] .. cols[first[r + 1] - 1].
struct Lists {
  const int64_t* first;  // [n + 1]
  const int32_t* cols;   // [first[n]]
};

// What a greedy selection has picked so far; appended to.
struct Picks {
  int64_t* rows;     // [capacity]
  double* sq_radii;  // [capacity]
  int64_t* count;    // [1]
  int64_t capacity;
};

// The active rows of a round: the first n_active of `rows`, ascending, with the canonical squared
// distances among them, and the keys of all points.
struct Active {
  const double* matrix;     // [stride, stride]
  const int64_t* rows;      // [stride]
  double* keys;             // [n]
  const int64_t* n_active;  // [1]
  int64_t stride;           // at most kMaxActive
};
constexpr int64_t kMaxActive = 2048;

// A list of entries, in any order: a candidate that lies in the ball of a member, by its number.
struct Balls {
  int32_t* rows;     // [capacity]
  int32_t* members;  // [capacity]
  int64_t* logs;     // [capacity], of the squared distance
  int64_t* count;    // [1]
  int64_t capacity;
};

// Entries of balls by one of their sides: those of number i are first[i] .. first[i + 1] - 1.
struct Runs {
  const int64_t* first;
  const int32_t* others;  // the other side
  const int64_t* logs;
};

// The members of a selection by entropy, and the logarithms of the squares of their radii.
struct Members {
  const int64_t* rows;
  const int64_t* log_eps;
  int64_t first;  // those from this one on are looked at
};

// The active rows of a round by entropy, which have seen every member.
struct EntropyRound {
  const double* matrix;  // [n, n], canonical squared distances among them
  const int64_t* rows;   // [n], ascending
  int64_t n;             // at most kMaxActive
  const int32_t* place;  // [points], the position of each of the rows, else -1
  Runs of_row;           // by position: the members in whose balls a row lies
  Runs of_member;        // by member: the candidates in its ball
  int64_t n_members;     // before the round
  const int64_t* rival;  // [1], its gain
  const int64_t* rival_row;
  double least;      // a squared distance up to this is too small
  int64_t* gains;    // [points]
  double* sq_dist;   // [points]
  int64_t* log_eps;  // [n_members + capacity]
};

// What a round by entropy picks.
struct EntropyPicks {
  int64_t* members;  // [capacity]
  double* sq_eps;    // [capacity]
  double* sq_radii;  // [capacity]
  int64_t* places;   // [capacity], positions among the active rows
  int64_t* counts;   // [2], of picks, and of the entries that enter_picks makes of them
  int64_t capacity;
};

// Lowers sq_dist[i], for every row i, to its canonical squared distance to `centre`, float64 [dim].
void min_update(const Matrix& points, const double* centre, double* sq_dist, Stream stream);

// out [queries.n, ceil(points.n / group)]: at least the distance, times scale, of each query to the
// nearest of each group of points; the last group may be shorter. A multiple of 128 is fastest.
//
// skipped [queries.n], or null: so many of the first points each query may pass over. It may look
// at some of them nevertheless, and has infinity for a group of which it saw none. `tile` is an
// entry of kTiles in tiles.h.
void group_min(const CodeRows& queries, const CodeRows& points, int64_t group,
               const int64_t* skipped, int tile, float* out, Stream stream);

// Lists, in any order, at least the pairs of a query and a point whose distance, times scale, is
// within the query's reach [queries.n]; below 0 or NaN nothing is. Where the list is full, the rest
// of the query's pairs is missing and overflow [queries.n] becomes 1. skipped and tile: as for
// group_min; pairs with what a query may pass over may be missing.
void survivors(const CodeRows& queries, const CodeRows& points, const float* reach,
               const int64_t* skipped, int tile, const Pairs& pairs, uint8_t* overflow,
               Stream stream);

// Lowers keys[rows[r]], for every listed pair (r, c), to the canonical squared distance of point
// rows[r] and centre centres[c]. Points and centres are of one dtype and metric.
void pair_min(const Matrix& points, const int64_t* rows, const Matrix& centres, const int64_t* cols,
              const Pairs& pairs, double* keys, Stream stream);

// out [capacity]: the canonical squared distance of every listed pair of a query and a point, or
// minus the canonical inner product. That is of rows as they are: norms must be null.
void pair_sq_dists(const Matrix& queries, const Matrix& points, const Pairs& pairs,
                   bool by_inner_product, double* out, Stream stream);

// Adds to next[r] how many pairs of row r are listed. Where there are cols, next[r] is where the
// columns of row r begin in there, and they are written, in any order.
void by_row(const Pairs& pairs, int64_t* next, int32_t* cols, Stream stream);

// keys and index [n, k]: of row r of the lists, which has the point cols[i] for query rows[r], the
// k first by (key, point), keys as of pair_sq_dists; infinity and the largest number where there
// are fewer. With exclude_self, query i skips point i. A row has a point once. k is at most
// kMaxTop.
constexpr int kMaxTop = 64;
void top_k(const Matrix& queries, const int64_t* rows, int64_t n, const Matrix& points,
           const Lists& lists, bool exclude_self, bool by_inner_product, int k, double* keys,
           int64_t* index, Stream stream);

// out [n, n]: the canonical squared distances among listed points.
void sq_dist_matrix(const Matrix& points, const int64_t* rows, int64_t n, double* out,
                    Stream stream);

// Greedy picks among active rows, whose keys are up to date: the row of largest key, the first of
// equals, as long as it beats the rival (key, row) and its key is above `least`. The others' keys
// account for every pick; a picked row's key becomes -1.
void pick(const Active& active, const double* rival_key, const int64_t* rival_row, double least,
          const Picks& picks, Stream stream);

// Sweeps over active rows, whose keys are up to date, one for each of some falling limits: a sweep
// takes the rows in their order and accepts each whose key is above its limit. sweeps[i] is the
// number of the sweep that accepted pick i. Keys as in `pick`.
void accept(const Active& active, const double* limits, int64_t n_limits, const Picks& picks,
            int64_t* sweeps, Stream stream);

// For every listed pair (m, r): enters candidate rows[r] into the ball of member first + m, if it
// lies there, at a distance above 0, and has not seen the member. Its gain falls by what it takes.
void enter_balls(const Matrix& points, const Members& members, const int64_t* rows,
                 const Pairs& pairs, const int64_t* seen, int64_t* gains, const Balls& balls,
                 Stream stream);

// Gains of some rows [n] account for their distances, which were `before` [n].
void renew_gains(const int64_t* rows, const double* before, int64_t n, const double* sq_dist,
                 double least, int64_t* gains, Stream stream);

// Greedy picks by gain among active rows: the row of largest gain, the first of equals, as long as
// it beats the rival and all rows outside, whose gains rise where balls shrink. Gains, distances
// and radii account for every pick.
void entropy_pick(const EntropyRound& round, const EntropyPicks& picks, Stream stream);

// Enters active rows [n] into the balls of n_picks among them, members from `first` on, as
// entropy_pick leaves gains, places and sq_eps.
void enter_picks(const double* matrix, const int64_t* rows, int64_t n, const int64_t* gains,
                 const int64_t* places, const double* sq_eps, int64_t n_picks, int64_t first,
                 const Balls& balls, Stream stream);

}  // namespace fastsel::cuda
