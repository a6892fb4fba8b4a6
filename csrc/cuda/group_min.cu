// How near each query is at most to the nearest of every group of points.
//
// With sums of norms n and of errors e, filtered distances f are too small by at most 2^-19 n
// (csrc/cpu/filter.h, promised_radius), so that |x - c| is at most sqrt(f + 2^-18 n) + e. Each
// thread keeps the least radicand of its columns and their largest error apart, which spares a
// square root for each pair.
#include "cuda/product.h"

namespace fastsel::cuda {

namespace {

struct GroupMinShared {
  ProductShared product;
  float least[kWarpsAcross][kTile];
};

__global__ void __launch_bounds__(kThreads, 2)
    group_min_kernel(const CodeRows queries, const CodeRows points, int64_t group, float* out) {
  FASTSEL_SHARED(GroupMinShared, shared);
  const int64_t first_query = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * group;
  const int64_t end = begin + group < points.n ? begin + group : points.n;
  float least[kRowTiles][2];
  for (int i = 0; i < kRowTiles; ++i) least[i][0] = least[i][1] = INFINITY;
  float error = 0.0f;

  Product product(shared.product, queries, points, first_query);
  product.run(begin, end, [&](const Product::Sums& sums, const Labels& labels, int64_t) {
    const Labels& own = shared.product.queries;
    for (int j = 0; j < kColTiles; ++j) {
      for (int e = 0; e < 2; ++e) {
        const int col = Product::col(j, e);
        const float scale = labels.scales[col];
        const float sq_norm = labels.sq_norms[col];
        error = fmaxf(error, labels.errors[col]);
        for (int i = 0; i < kRowTiles; ++i) {
          for (int half = 0; half < 2; ++half) {
            const int row = Product::row(i, 2 * half);
            const float sum = own.sq_norms[row] + sq_norm;
            const float value = filtered(sums[i][j][2 * half + e], own.scales[row],
                                         own.sq_norms[row], scale, sq_norm);
            least[i][half] = fminf(least[i][half], value + 0x1p-18f * sum);
          }
        }
      }
    }
  });

  for (int i = 0; i < kRowTiles; ++i) {
    for (int half = 0; half < 2; ++half) {
      // Two more roundings of float32, of numbers up to the norms: raised for them at the end.
      float radius = sqrtf(fmaxf(least[i][half], 0.0f)) + error;
      radius = fminf(radius, __shfl_xor_sync(kAllLanes, radius, 1));
      radius = fminf(radius, __shfl_xor_sync(kAllLanes, radius, 2));
      if (lane_id() % 4 == 0) {
        shared.least[warp_id() % kWarpsAcross][Product::row(i, 2 * half)] = radius;
      }
    }
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x);
  if (row < kTile && first_query + row < queries.n) {
    float radius = shared.least[0][row];
    for (int w = 1; w < kWarpsAcross; ++w) radius = fminf(radius, shared.least[w][row]);
    const double whole = static_cast<double>(radius) + shared.product.queries.errors[row];
    out[(first_query + row) * gridDim.x + blockIdx.x] = round_up(whole * (1.0 + 0x1p-18) + 0x1p-48);
  }
}

}  // namespace

void group_min(const CodeRows& queries, const CodeRows& points, int64_t group, float* out,
               Stream stream) {
  if (queries.n == 0 || points.n == 0) return;
  const dim3 grid(blocks_for(points.n, group), blocks_for(queries.n, kTile));
  launch(group_min_kernel, grid, kThreads, stream, queries, points, group, out);
}

}  // namespace fastsel::cuda
