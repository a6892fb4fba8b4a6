// The int8 product of listed rows, on tensor cores, with the sums handed to an epilogue: no matrix
// of products is written.
//
// A block holds a tile of queries and takes points against it, a tile of them at a time, 64 bytes
// of their codes a step. Shared memory holds some steps: while one is multiplied, the next ones are
// copied, through the end of a tile too. A warp owns a part of the sums, in registers. tiles.h has
// the sizes.
//
// What is concluded from a product is as in csrc/cpu/filter.h, which has the proof: all that
// follows is the same float32 arithmetic, rounded once an operation or, where the compiler
// contracts, less.
#pragma once

#include <utility>

#include "cuda/device.h"
#include "cuda/tiles.h"

namespace fastsel::cuda {

constexpr int kDepth = 64;  // bytes of a code a step
constexpr int kChunk = 16;  // bytes of a copy
constexpr int kMmaRows = 16;
constexpr int kMmaCols = 8;
constexpr int kMmaDepth = 32;
constexpr int kChunks = kDepth / kChunk;

static_assert(kCodeUnit % kDepth == 0, "whole steps");

// What follows from an entry of the table.
template <int Entry>
struct Cut {
  static constexpr int kRows = kTiles[Entry].rows;
  static constexpr int kCols = kTiles[Entry].cols;
  static constexpr int kWarpRows = kTiles[Entry].warp_rows;
  static constexpr int kWarpCols = kTiles[Entry].warp_cols;
  static constexpr int kStages = kTiles[Entry].stages;
  static constexpr int kBlocks = kTiles[Entry].blocks;
  static constexpr int kRowTiles = kWarpRows / kMmaRows;
  static constexpr int kColTiles = kWarpCols / kMmaCols;
  static constexpr int kWarpsAcross = kCols / kWarpCols;
  static constexpr int kThreads = kRows / kWarpRows * kWarpsAcross * kWarp;

  static_assert(kRows % kWarpRows == 0 && kCols % kWarpCols == 0, "a warp for every part");
  static_assert(kWarpRows % kMmaRows == 0 && kWarpCols % (2 * kMmaCols) == 0, "whole products");
  static_assert(kRows * kChunks % kThreads == 0 && kCols * kChunks % kThreads == 0, "whole copies");
  static_assert(kStages >= 2, "copies while others are multiplied");
};

// What the filter knows of a tile's rows, beside their codes.
template <int Rows>
struct Labels {
  float scales[Rows];
  float sq_norms[Rows];
  float errors[Rows];
};

// The labels of points come with the first step of a tile, at most kStages - 1 steps, so tiles,
// ahead.
template <int Entry>
struct alignas(kChunk) ProductShared {
  using C = Cut<Entry>;
  struct Step {
    int8_t queries[C::kRows * kDepth];
    int8_t points[C::kCols * kDepth];
  };
  Step steps[C::kStages];
  Labels<C::kRows> queries;
  Labels<C::kCols> points[C::kStages];
};

// Where chunk `chunk` of a tile's row lies: so that eight rows' chunks, as load_matrices reads
// them, lie in different banks.
__device__ inline int place(int row, int chunk) {
  return row * kDepth + (chunk ^ (row / 2 % kChunks)) * kChunk;
}

// The squared distance of two decoded rows, never too large.
__device__ inline float filtered(int32_t product, float scale, float sq_norm, float other_scale,
                                 float other_sq_norm) {
  return (sq_norm + other_sq_norm) - static_cast<float>(product) * scale * (2.0f * other_scale);
}

// A float32 that is not below the value.
__device__ inline float round_up(double value) { return __double2float_ru(value); }

// How many points all queries first_query .. end - 1 may pass over, in every thread alike.
__device__ inline int64_t passed_over(const int64_t* first, int64_t first_query, int64_t end) {
  if (first == nullptr) return 0;
  unsigned least = kAllLanes;
  for (int64_t i = first_query + lane_id(); i < end; i += kWarp) {
    const auto own = static_cast<unsigned>(first[i]);
    least = own < least ? own : least;
  }
  return static_cast<int64_t>(__reduce_min_sync(kAllLanes, least));
}

template <int Entry>
class Product {
 public:
  using C = Cut<Entry>;
  using Shared = ProductShared<Entry>;
  using Sums = int32_t[C::kRowTiles][C::kColTiles][4];

  __device__ Product(Shared& shared, const CodeRows& queries, const CodeRows& points,
                     int64_t first_query)
      : shared_(shared), queries_(queries), points_(points), first_query_(first_query) {}

  // Calls epilogue(sums, labels of the points, the tile's first point) for each tile of the points
  // begin .. end - 1. Points beyond the last are infinitely far, queries beyond it look like zeros.
  template <class Epilogue>
  __device__ void run(int64_t begin, int64_t end, const Epilogue& epilogue) {
    const int tile_steps = static_cast<int>(queries_.codes.depth / kDepth);
    Sums sums;
    Feed feed = {begin, end, tile_steps, 0, 0, 0, {}, {}};
    label(shared_.queries, queries_, first_query_, queries_.n, 0.0f);
    feed.queries = source<C::kRows>(queries_, first_query_, queries_.n);
    for (int i = 0; i < C::kStages - 1; ++i) fetch(feed);
    int buffer = 0;
    int labels = 0;
    for (int64_t first = begin; first < end; first += C::kCols) {
      clear(sums);
      for (int k = 0; k < tile_steps; ++k) {
        wait_for_copies<C::kStages - 2>();
        // The step at hand is there for all, and nobody still reads the one before, or the labels
        // of its tile if that is done.
        __syncthreads();
        fetch(feed);
        multiply(shared_.steps[buffer], sums);
        buffer = following(buffer);
      }
      epilogue(sums, shared_.points[labels], first);
      labels = following(labels);
    }
  }

  // The row in the tile of sums[i][..][e], and the column of sums[..][j][e], for this thread.
  __device__ static int row(int i, int e) {
    return warp_id() / C::kWarpsAcross * C::kWarpRows + i * kMmaRows + e / 2 * 8 + lane_id() / 4;
  }
  __device__ static int col(int j, int e) {
    return warp_id() % C::kWarpsAcross * C::kWarpCols + j * kMmaCols + lane_id() % 4 * 2 + e % 2;
  }

 private:
  // Where this thread's share of a tile's codes comes from: a chunk of some rows, null for none.
  template <int Rows>
  struct Source {
    const int8_t* codes[Rows * kChunks / C::kThreads];
  };

  // The step that is copied next.
  struct Feed {
    int64_t first;
    int64_t end;
    int tile_steps;
    int k;
    int buffer;
    int labels;
    Source<C::kRows> queries;
    Source<C::kCols> points;
  };

  Shared& shared_;
  const CodeRows& queries_;
  const CodeRows& points_;
  const int64_t first_query_;

  __device__ static int following(int turn) { return turn + 1 == C::kStages ? 0 : turn + 1; }

  __device__ static void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < C::kColTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
      }
    }
  }

  __device__ static int chunk_row(int i) {
    return (static_cast<int>(threadIdx.x) + i * C::kThreads) / kChunks;
  }
  __device__ static int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }

  // Of rows first .. end - 1, a tile of them at most.
  template <int Rows>
  __device__ static Source<Rows> source(const CodeRows& rows, int64_t first, int64_t end) {
    Source<Rows> result;
#pragma unroll
    for (int i = 0; i < Rows * kChunks / C::kThreads; ++i) {
      const int64_t row = first + chunk_row(i);
      result.codes[i] = nullptr;
      if (row >= end) continue;
      result.codes[i] = rows.codes.values + rows.rows[row] * rows.codes.depth + chunk() * kChunk;
    }
    return result;
  }

  // Starts to copy the next step, if there is one; zeros where there is no row.
  __device__ void fetch(Feed& feed) const {
    if (feed.first < feed.end) {
      if (feed.k == 0) {
        label(shared_.points[feed.labels], points_, feed.first, feed.end, INFINITY);
        feed.labels = following(feed.labels);
        feed.points = source<C::kCols>(points_, feed.first, feed.end);
      }
      auto& step = shared_.steps[feed.buffer];
      copy<C::kRows>(step.queries, feed.queries, queries_.codes.values, feed.k);
      copy<C::kCols>(step.points, feed.points, points_.codes.values, feed.k);
      feed.buffer = following(feed.buffer);
      if (++feed.k == feed.tile_steps) {
        feed.k = 0;
        feed.first += C::kCols;
      }
    }
    end_copies();
  }

  template <int Rows>
  __device__ static void copy(int8_t* target, const Source<Rows>& source, const int8_t* nowhere,
                              int k) {
#pragma unroll
    for (int i = 0; i < Rows * kChunks / C::kThreads; ++i) {
      const bool valid = source.codes[i] != nullptr;
      copy_async(target + place(chunk_row(i), chunk()),
                 valid ? source.codes[i] + k * kDepth : nowhere, valid);
    }
  }

  // Starts to copy what the filter knows of a tile's rows.
  template <int Rows>
  __device__ static void label(Labels<Rows>& labels, const CodeRows& rows, int64_t first,
                               int64_t end, float nobody) {
    for (int i = static_cast<int>(threadIdx.x); i < Rows; i += C::kThreads) {
      if (first + i < end) {
        const int64_t index = rows.rows[first + i];
        copy_async(labels.scales + i, rows.codes.scales + index);
        copy_async(labels.sq_norms + i, rows.codes.sq_norms + index);
        copy_async(labels.errors + i, rows.codes.errors + index);
      } else {
        labels.scales[i] = labels.errors[i] = 0.0f;
        labels.sq_norms[i] = nobody;
      }
    }
  }

  __device__ static void multiply(const typename Shared::Step& step, Sums& sums) {
    const int lane = lane_id();
    const int first_row = warp_id() / C::kWarpsAcross * C::kWarpRows;
    const int first_col = warp_id() % C::kWarpsAcross * C::kWarpCols;
#pragma unroll
    for (int k = 0; k < kChunks; k += kMmaDepth / kChunk) {
      uint32_t b[C::kColTiles / 2][4];
#pragma unroll
      for (int j = 0; j < C::kColTiles / 2; ++j) {
        // Columns 0-7 of both 16 bytes, then columns 8-15.
        const int col = first_col + (j * 2 + lane / 16) * kMmaCols + lane % 8;
        load_matrices(step.points + place(col, k + lane / 8 % 2), b[j]);
      }
#pragma unroll
      for (int i = 0; i < C::kRowTiles; ++i) {
        // Rows 0-7 and 8-15 of the first 16 bytes, then of the next.
        uint32_t a[4];
        const int row = first_row + i * kMmaRows + lane % kMmaRows;
        load_matrices(step.queries + place(row, k + lane / kMmaRows), a);
#pragma unroll
        for (int j = 0; j < C::kColTiles; ++j) {
          multiply_add(sums[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
};

// Calls f with the number of an entry of the table, as a type.
template <class F, int... Entries>
void with_tile(int entry, const F& f, std::integer_sequence<int, Entries...>) {
  ((entry == Entries ? f(std::integral_constant<int, Entries>()) : void()), ...);
}

template <class F>
void with_tile(int entry, const F& f) {
  with_tile(entry, f, std::make_integer_sequence<int, kNumTiles>());
}

}  // namespace fastsel::cuda
