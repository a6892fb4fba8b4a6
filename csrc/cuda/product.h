// The int8 product of listed rows, on tensor cores, with the sums handed to an epilogue: no matrix
// of products is written.
//
// A block holds a tile of 128 queries and takes points against it, 128 at a time, 64 bytes of
// their codes a step. Two steps fit into shared memory: while one is multiplied, the next one is
// copied, through the end of a tile too. A warp owns 64 x 32 of the sums, in registers.
//
// What is concluded from a product is as in csrc/cpu/filter.h, which has the proof: all that
// follows is the same float32 arithmetic, rounded once an operation or, where the compiler
// contracts, less.
#pragma once

#include "cuda/device.h"

namespace fastsel::cuda {

constexpr int kTile = 128;  // queries, and points
constexpr int kDepth = 64;  // bytes of a code a step
constexpr int kChunk = 16;  // bytes of a copy
constexpr int kThreads = 256;
constexpr int kWarpRows = 64;
constexpr int kWarpCols = 32;
constexpr int kMmaRows = 16;
constexpr int kMmaCols = 8;
constexpr int kMmaDepth = 32;
constexpr int kRowTiles = kWarpRows / kMmaRows;
constexpr int kColTiles = kWarpCols / kMmaCols;
constexpr int kWarpsAcross = kTile / kWarpCols;

static_assert(kTile / kWarpRows * kWarpsAcross * kWarp == kThreads, "a warp for every part");
static_assert(kCodeUnit % kDepth == 0, "whole steps");

// What the filter knows of a tile's rows, beside their codes.
struct Labels {
  float scales[kTile];
  float sq_norms[kTile];
  float errors[kTile];
};

struct Step {
  int8_t queries[kTile * kDepth];
  int8_t points[kTile * kDepth];
};

struct alignas(kChunk) ProductShared {
  Step steps[2];
  Labels queries;
  Labels points[2];
};

// Where chunk `chunk` of a tile's row lies: so that eight rows' chunks, as load_matrices reads
// them, lie in different banks.
__device__ inline int place(int row, int chunk) {
  return row * kDepth + (chunk ^ (row / 2 % 4)) * kChunk;
}

// The squared distance of two decoded rows, never too large.
__device__ inline float filtered(int32_t product, float scale, float sq_norm, float other_scale,
                                 float other_sq_norm) {
  return (sq_norm + other_sq_norm) - static_cast<float>(product) * scale * (2.0f * other_scale);
}

// A float32 that is not below the value.
__device__ inline float round_up(double value) { return __double2float_ru(value); }

class Product {
 public:
  using Sums = int32_t[kRowTiles][kColTiles][4];

  __device__ Product(ProductShared& shared, const CodeRows& queries, const CodeRows& points,
                     int64_t first_query)
      : shared_(shared), queries_(queries), points_(points), first_query_(first_query) {}

  // Calls epilogue(sums, labels of the points, the tile's first point) for each tile of the points
  // begin .. end - 1. Points beyond the last are infinitely far, queries beyond it look like zeros.
  template <class Epilogue>
  __device__ void run(int64_t begin, int64_t end, const Epilogue& epilogue) {
    const int tile_steps = static_cast<int>(queries_.codes.depth / kDepth);
    Sums sums;
    label(shared_.queries, queries_, first_query_, queries_.n, 0.0f);
    label(shared_.points[begin / kTile % 2], points_, begin, end, INFINITY);
    const Source query_codes = source(queries_, first_query_, queries_.n);
    Source point_codes = source(points_, begin, end);
    int buffer = 0;
    copy(shared_.steps[buffer], query_codes, point_codes, 0);
    for (int64_t first = begin; first < end; first += kTile) {
      clear(sums);
      for (int k = 0; k < tile_steps; ++k) {
        wait_for_copies();
        // The step at hand is there for all, and nobody still reads the other one, or its labels.
        __syncthreads();
        if (k + 1 < tile_steps) {
          copy(shared_.steps[buffer ^ 1], query_codes, point_codes, k + 1);
        } else if (first + kTile < end) {
          label(shared_.points[(first / kTile + 1) % 2], points_, first + kTile, end, INFINITY);
          point_codes = source(points_, first + kTile, end);
          copy(shared_.steps[buffer ^ 1], query_codes, point_codes, 0);
        }
        multiply(shared_.steps[buffer], sums);
        buffer ^= 1;
      }
      epilogue(sums, shared_.points[first / kTile % 2], first);
    }
  }

  // The row in the tile of sums[i][..][e], and the column of sums[..][j][e], for this thread.
  __device__ static int row(int i, int e) {
    return warp_id() / kWarpsAcross * kWarpRows + i * kMmaRows + e / 2 * 8 + lane_id() / 4;
  }
  __device__ static int col(int j, int e) {
    return warp_id() % kWarpsAcross * kWarpCols + j * kMmaCols + lane_id() % 4 * 2 + e % 2;
  }

 private:
  static constexpr int kChunks = kDepth / kChunk;
  static constexpr int kCopies = kTile * kChunks / kThreads;

  // Where this thread's share of a tile's codes comes from: a chunk of some rows, null for none.
  struct Source {
    const int8_t* codes[kCopies];
  };

  ProductShared& shared_;
  const CodeRows& queries_;
  const CodeRows& points_;
  const int64_t first_query_;

  __device__ static void clear(Sums& sums) {
    for (int i = 0; i < kRowTiles; ++i) {
      for (int j = 0; j < kColTiles; ++j) {
        for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
      }
    }
  }

  __device__ static int chunk_row(int i) {
    return (static_cast<int>(threadIdx.x) + i * kThreads) / kChunks;
  }
  __device__ static int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }

  // Of rows first .. end - 1, a tile of them at most.
  __device__ static Source source(const CodeRows& rows, int64_t first, int64_t end) {
    Source result;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int64_t row = first + chunk_row(i);
      result.codes[i] = nullptr;
      if (row >= end) continue;
      result.codes[i] = rows.codes.values + rows.rows[row] * rows.codes.depth + chunk() * kChunk;
    }
    return result;
  }

  // Starts to copy step k of a tile; zeros where there is no row.
  __device__ void copy(Step& step, const Source& queries, const Source& points, int k) const {
    copy(step.queries, queries, queries_.codes.values, k);
    copy(step.points, points, points_.codes.values, k);
  }

  __device__ static void copy(int8_t* target, const Source& source, const int8_t* nowhere, int k) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool valid = source.codes[i] != nullptr;
      copy_async(target + place(chunk_row(i), chunk()),
                 valid ? source.codes[i] + k * kDepth : nowhere, valid);
    }
  }

  // Starts to copy what the filter knows of a tile's rows.
  __device__ static void label(Labels& labels, const CodeRows& rows, int64_t first, int64_t end,
                               float nobody) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile; i += kThreads) {
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

  __device__ static void multiply(const Step& step, Sums& sums) {
    const int lane = lane_id();
    const int first_row = warp_id() / kWarpsAcross * kWarpRows;
    const int first_col = warp_id() % kWarpsAcross * kWarpCols;
#pragma unroll
    for (int k = 0; k < kDepth / kChunk; k += kMmaDepth / kChunk) {
      uint32_t b[kColTiles / 2][4];
#pragma unroll
      for (int j = 0; j < kColTiles / 2; ++j) {
        // Columns 0-7 of both 16 bytes, then columns 8-15.
        const int col = first_col + (j * 2 + lane / 16) * kMmaCols + lane % 8;
        load_matrices(step.points + place(col, k + lane / 8 % 2), b[j]);
      }
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        // Rows 0-7 and 8-15 of the first 16 bytes, then of the next.
        uint32_t a[4];
        const int row = first_row + i * kMmaRows + lane % kMmaRows;
        load_matrices(step.queries + place(row, k + lane / kMmaRows), a);
#pragma unroll
        for (int j = 0; j < kColTiles; ++j) {
          multiply_add(sums[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
};

}  // namespace fastsel::cuda
