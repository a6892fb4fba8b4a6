// The pairs that the filter can not exclude, gathered into one list.
#include "cuda/product.h"

namespace fastsel::cuda {

namespace {

// Points that a block takes against its tile of queries: few, so that the work is shared evenly.
constexpr int64_t kBlockPoints = 512;

template <int Entry>
struct SurvivorsShared {
  ProductShared<Entry> product;
  float reaches[Cut<Entry>::kRows];
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

template <int Entry, size_t Bytes>
__global__ void __launch_bounds__(Cut<Entry>::kThreads, Cut<Entry>::kBlocks)
    survivors_kernel(const CodeRows queries, const CodeRows points, const float* reach,
                     const int64_t* skipped, const Pairs pairs, uint8_t* overflow) {
  using C = Cut<Entry>;
  using Tiled = Product<Entry>;
  FASTSEL_SHARED_OF_LAUNCH(SurvivorsShared<Entry>, shared);
  const int64_t first_query = static_cast<int64_t>(blockIdx.y) * C::kRows;
  const int64_t end_query = smaller(first_query + C::kRows, queries.n);
  const int64_t end = smaller((static_cast<int64_t>(blockIdx.x) + 1) * kBlockPoints, points.n);
  const int64_t begin = larger(static_cast<int64_t>(blockIdx.x) * kBlockPoints,
                               passed_over(skipped, first_query, end_query));
  if (begin >= end) return;
  for (int own = static_cast<int>(threadIdx.x); own < C::kRows; own += C::kThreads) {
    // No comparison with NaN is true. Raised as csrc/cpu/filter.h has it.
    float raised = NAN;
    if (first_query + own < end_query && reach[first_query + own] >= 0.0f) {
      const float error = queries.codes.errors[queries.rows[first_query + own]];
      raised = round_up((static_cast<double>(reach[first_query + own]) + error) * (1.0 + 0x1p-20) +
                        0x1p-50);
    }
    shared.reaches[own] = raised;  // read after the barriers of the product
  }

  Tiled product(shared.product, queries, points, first_query);
  product.run(begin, end, [&](const auto& sums, const auto& labels, int64_t first) {
    constexpr int kWords = C::kRowTiles * C::kColTiles * 4 / kWarp;
    const auto& rows = shared.product.queries;
    // One bit for each of this thread's sums.
    uint32_t passing[kWords] = {};
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < C::kColTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = Tiled::row(i, e);
          const int col = Tiled::col(j, e);
          const float bound = shared.reaches[row] + labels.errors[col];
          const float value = filtered(sums[i][j][e], rows.scales[row], rows.sq_norms[row],
                                       labels.scales[col], labels.sq_norms[col]);
          const uint32_t bit = value < bound * bound ? 1 : 0;
          const int at = (i * C::kColTiles + j) * 4 + e;
          passing[at / kWarp] |= bit << at % kWarp;
        }
      }
    }
    int count = 0;
#pragma unroll
    for (int word = 0; word < kWords; ++word) count += __popc(passing[word]);
    if (!__any_sync(kAllLanes, count != 0)) return;
    const Place in_warp = place_in_warp(static_cast<unsigned>(count));
    unsigned long long base = 0;
    if (lane_id() == 0) {
      base = atomicAdd(reinterpret_cast<unsigned long long*>(pairs.count),
                       static_cast<unsigned long long>(in_warp.total));
    }
    int64_t next = static_cast<int64_t>(__shfl_sync(kAllLanes, base, 0)) + in_warp.before;
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      for (uint32_t rest = passing[word]; rest != 0; rest &= rest - 1) {
        const int at = word * kWarp + __ffs(static_cast<int>(rest)) - 1;
        const int64_t query = first_query + Tiled::row(at / 4 / C::kColTiles, at % 4);
        const int64_t point = first + Tiled::col(at / 4 % C::kColTiles, at % 4);
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
               const int64_t* skipped, int tile, const Pairs& pairs, uint8_t* overflow,
               Stream stream) {
  if (queries.n == 0 || points.n == 0) return;
  with_tile(tile, [&](auto entry) {
    constexpr int kEntry = decltype(entry)::value;
    constexpr size_t kBytes = sizeof(SurvivorsShared<kEntry>);
    const dim3 grid(blocks_for(points.n, kBlockPoints), blocks_for(queries.n, Cut<kEntry>::kRows));
    launch_with<kBytes>(survivors_kernel<kEntry, kBytes>, grid, Cut<kEntry>::kThreads, stream,
                        queries, points, reach, skipped, pairs, overflow);
  });
}

}  // namespace fastsel::cuda
