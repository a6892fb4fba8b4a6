// The pairs that the filter can not exclude, gathered into one list.
#include "cuda/product.h"

namespace fastsel::cuda {

namespace {

// Points that a block takes against its tile of queries.
constexpr int64_t kBlockPoints = 16 * kTile;

struct SurvivorsShared {
  ProductShared product;
  float reaches[kTile];
};

// Position of this thread's first entry among those of the warp's threads, and their total.
struct Place {
  unsigned before;
  unsigned total;
};

__device__ Place place_in_warp(unsigned count) {
  unsigned sum = count;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned other = __shfl_up_sync(kAllLanes, sum, offset);
    if (lane_id() >= offset) sum += other;
  }
  return {sum - count, __shfl_sync(kAllLanes, sum, kWarp - 1)};
}

__global__ void __launch_bounds__(kThreads, 2)
    survivors_kernel(const CodeRows queries, const CodeRows points, const float* reach,
                     const Pairs pairs, uint8_t* overflow) {
  FASTSEL_SHARED(SurvivorsShared, shared);
  const int64_t first_query = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBlockPoints;
  const int64_t end = begin + kBlockPoints < points.n ? begin + kBlockPoints : points.n;
  const int own = static_cast<int>(threadIdx.x);
  if (own < kTile) {
    // No comparison with NaN is true. Raised as csrc/cpu/filter.h has it.
    float raised = NAN;
    if (first_query + own < queries.n && reach[first_query + own] >= 0.0f) {
      const float error = queries.codes.errors[queries.rows[first_query + own]];
      raised = round_up((static_cast<double>(reach[first_query + own]) + error) * (1.0 + 0x1p-20) +
                        0x1p-50);
    }
    shared.reaches[own] = raised;  // read after the barriers of the product
  }

  Product product(shared.product, queries, points, first_query);
  product.run(begin, end, [&](const Product::Sums& sums, const Labels& labels, int64_t first) {
    const Labels& rows = shared.product.queries;
    // One bit for each of this thread's 64 sums.
    uint32_t passing[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = Product::row(i, e);
          const int col = Product::col(j, e);
          const float bound = shared.reaches[row] + labels.errors[col];
          const float value = filtered(sums[i][j][e], rows.scales[row], rows.sq_norms[row],
                                       labels.scales[col], labels.sq_norms[col]);
          const uint32_t bit = value < bound * bound ? 1 : 0;
          passing[i / 2] |= bit << (i % 2 * 16 + j * 4 + e);
        }
      }
    }
    if (!__any_sync(kAllLanes, (passing[0] | passing[1]) != 0)) return;
    const Place in_warp = place_in_warp(__popc(passing[0]) + __popc(passing[1]));
    unsigned long long base = 0;
    if (lane_id() == 0) {
      base = atomicAdd(reinterpret_cast<unsigned long long*>(pairs.count),
                       static_cast<unsigned long long>(in_warp.total));
    }
    int64_t next = static_cast<int64_t>(__shfl_sync(kAllLanes, base, 0)) + in_warp.before;
#pragma unroll
    for (int word = 0; word < 2; ++word) {
      for (uint32_t rest = passing[word]; rest != 0; rest &= rest - 1) {
        const int bit = __ffs(static_cast<int>(rest)) - 1;
        const int64_t query = first_query + Product::row(word * 2 + bit / 16, bit % 4);
        const int64_t point = first + Product::col(bit / 4 % 4, bit % 4);
        if (next < pairs.capacity) {
          pairs.pairs[2 * next] = static_cast<int32_t>(query);
          pairs.pairs[2 * next + 1] = static_cast<int32_t>(point);
        } else {
          overflow[query] = 1;
        }
        ++next;
      }
    }
  });
}

}  // namespace

void survivors(const CodeRows& queries, const CodeRows& points, const float* reach,
               const Pairs& pairs, uint8_t* overflow, Stream stream) {
  if (queries.n == 0 || points.n == 0) return;
  const dim3 grid(blocks_for(points.n, kBlockPoints), blocks_for(queries.n, kTile));
  launch(survivors_kernel, grid, kThreads, stream, queries, points, reach, pairs, overflow);
}

}  // namespace fastsel::cuda
