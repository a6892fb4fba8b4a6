// A register tile of float32 inner products: kTileRows centres against kTileCols points.
//
// Points lie across vector lanes, so that what belongs to a point (its bound, its running minimum)
// is a vector too and an epilogue needs no horizontal operation. Centres are broadcast. The tile
// fills the register file: accumulators, kTileVecs loads and one broadcast a step, which keeps two
// fused multiply-adds a cycle busy (latency 4, so at least 8 independent sums).
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "canonical.h"

namespace fastsel::FASTSEL_LEVEL {

#if defined(__AVX512F__)
constexpr int64_t kVec = 16, kTileVecs = 3, kTileRows = 8;  // 24 accumulators of 32 registers
#elif defined(__AVX2__)
constexpr int64_t kVec = 8, kTileVecs = 2, kTileRows = 6;  // 12 of 16
#else
constexpr int64_t kVec = 4, kTileVecs = 2, kTileRows = 4;  // 8 of 16; the rest for products
#endif
constexpr int64_t kTileCols = kVec * kTileVecs;

typedef float Vec __attribute__((vector_size(kVec * sizeof(float))));
typedef int32_t Mask __attribute__((vector_size(kVec * sizeof(int32_t))));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

inline Vec broadcast(float x) { return x - Vec{}; }

// a * b + c. Its results are only ever used within proved margins, so that the level without fused
// operations may round twice.
inline Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline bool any(Mask m) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)m, (__m256i)m);
#else
  int32_t all = 0;
  for (int64_t i = 0; i < kVec; ++i) all |= m[i];
  return all != 0;
#endif
}

struct Tile {
  Vec sums[kTileRows][kTileVecs];
};

// Inner products of packed points [dim, kTileCols] and packed centres [dim, kTileRows].
inline Tile product(const float* points, const float* centres, int64_t dim) {
  Tile tile = {};
  for (int64_t k = 0; k < dim; ++k) {
    Vec p[kTileVecs];
    for (int64_t v = 0; v < kTileVecs; ++v) p[v] = load(points + v * kVec);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
      const Vec c = broadcast(centres[r]);
#pragma GCC unroll 4
      for (int64_t v = 0; v < kTileVecs; ++v) {
        tile.sums[r][v] = multiply_add(c, p[v], tile.sums[r][v]);
      }
    }
    points += kTileCols;
    centres += kTileRows;
  }
  return tile;
}

}  // namespace fastsel::FASTSEL_LEVEL
