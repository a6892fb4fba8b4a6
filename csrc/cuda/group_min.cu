// How near each query is at most to the nearest of every group of points.
//
// With sums of norms n and of errors e, filtered distances f are too small by at most 2^-19 n
// (csrc/cpu/filter.h, promised_radius), so that |x - c| is at most sqrt(f + 2^-18 n) + e. Each
// thread keeps the least radicand of its columns and their largest error apart, which spares a
// square root for each pair.
#include "cuda/product.h"

namespace fastsel::cuda {

namespace {

template <int Entry>
struct GroupMinShared {
  ProductShared<Entry> product;
  float least[Cut<Entry>::kWarpsAcross][Cut<Entry>::kRows];
};

template <int Entry, size_t Bytes>
__global__ void __launch_bounds__(Cut<Entry>::kThreads, Cut<Entry>::kBlocks)
    group_min_kernel(const CodeRows queries, const CodeRows points, int64_t group,
                     const int64_t* skipped, float* out) {
  using C = Cut<Entry>;
  using Tiled = Product<Entry>;
  FASTSEL_SHARED_OF_LAUNCH(GroupMinShared<Entry>, shared);
  const int64_t first_query = static_cast<int64_t>(blockIdx.y) * C::kRows;
  const int64_t end_query = smaller(first_query + C::kRows, queries.n);
  const int64_t end = smaller((static_cast<int64_t>(blockIdx.x) + 1) * group, points.n);
  const int64_t begin = larger(static_cast<int64_t>(blockIdx.x) * group,
                               passed_over(skipped, first_query, end_query));
  const int thread = static_cast<int>(threadIdx.x);
  if (begin >= end) {
    for (int64_t query = first_query + thread; query < end_query; query += C::kThreads) {
      out[query * gridDim.x + blockIdx.x] = INFINITY;
    }
    return;
  }
  float least[C::kRowTiles][2];
  for (int i = 0; i < C::kRowTiles; ++i) least[i][0] = least[i][1] = INFINITY;
  float error = 0.0f;

  Tiled product(shared.product, queries, points, first_query);
  product.run(begin, end, [&](const auto& sums, const auto& labels, int64_t) {
    const auto& own = shared.product.queries;
#pragma unroll
    for (int j = 0; j < C::kColTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int col = Tiled::col(j, e);
        const float scale = labels.scales[col];
        const float sq_norm = labels.sq_norms[col];
        error = fmaxf(error, labels.errors[col]);
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int row = Tiled::row(i, 2 * half);
            const float sum = own.sq_norms[row] + sq_norm;
            const float value = filtered(sums[i][j][2 * half + e], own.scales[row],
                                         own.sq_norms[row], scale, sq_norm);
            least[i][half] = fminf(least[i][half], value + 0x1p-18f * sum);
          }
        }
      }
    }
  });

  for (int i = 0; i < C::kRowTiles; ++i) {
    for (int half = 0; half < 2; ++half) {
      // Two more roundings of float32, of numbers up to the norms: raised for them at the end.
      float radius = sqrtf(fmaxf(least[i][half], 0.0f)) + error;
      radius = fminf(radius, __shfl_xor_sync(kAllLanes, radius, 1));
      radius = fminf(radius, __shfl_xor_sync(kAllLanes, radius, 2));
      if (lane_id() % 4 == 0) {
        shared.least[warp_id() % C::kWarpsAcross][Tiled::row(i, 2 * half)] = radius;
      }
    }
  }
  __syncthreads();
  for (int row = thread; first_query + row < end_query; row += C::kThreads) {
    float radius = shared.least[0][row];
    for (int w = 1; w < C::kWarpsAcross; ++w) radius = fminf(radius, shared.least[w][row]);
    const double whole = static_cast<double>(radius) + shared.product.queries.errors[row];
    out[(first_query + row) * gridDim.x + blockIdx.x] = round_up(whole * (1.0 + 0x1p-18) + 0x1p-48);
  }
}

}  // namespace

void group_min(const CodeRows& queries, const CodeRows& points, int64_t group,
               const int64_t* skipped, int tile, float* out, Stream stream) {
  if (queries.n == 0 || points.n == 0) return;
  with_tile(tile, [&](auto entry) {
    constexpr int kEntry = decltype(entry)::value;
    constexpr size_t kBytes = sizeof(GroupMinShared<kEntry>);
    const dim3 grid(blocks_for(points.n, group), blocks_for(queries.n, Cut<kEntry>::kRows));
    launch_with<kBytes>(group_min_kernel<kEntry, kBytes>, grid, Cut<kEntry>::kThreads, stream,
                        queries, points, group, skipped, out);
  });
}

}  // namespace fastsel::cuda
