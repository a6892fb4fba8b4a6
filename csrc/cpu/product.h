// A register tile of int8 inner products: kTileRows centres against kTileCols points.
//
// Points lie across vector lanes, so that what belongs to a point (its reach, its running minimum)
// is a vector too and an epilogue needs no horizontal operation. Centres are broadcast. A step
// multiplies kStep components of each pair and adds them up in int32: 64 products in one
// instruction (vpdpbusd) where the processor has it, else two of them as int16 (pmaddwd). The tile
// fills the register file: accumulators, kTileVecs loads and one broadcast a step.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "canonical.h"

namespace fastsel::FASTSEL_LEVEL {

#if defined(__AVX512VNNI__)
constexpr int64_t kVec = 16, kTileVecs = 3, kTileRows = 8;  // 24 accumulators of 32 registers
constexpr int64_t kStep = 4;
#elif defined(__AVX2__)
constexpr int64_t kVec = 8, kTileVecs = 2, kTileRows = 6;  // 12 of 16, and one for the product
constexpr int64_t kStep = 2;
#else
constexpr int64_t kVec = 4, kTileVecs = 2, kTileRows = 4;  // 8 of 16
constexpr int64_t kStep = 2;
#endif
constexpr int64_t kTileCols = kVec * kTileVecs;

typedef float Vec __attribute__((vector_size(kVec * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(kVec * sizeof(int32_t))));

template <class V = Vec, class T>
inline V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

inline Vec broadcast(float x) { return x - Vec{}; }

// sum + a * b, rounded once where the processor has an instruction for it.
inline Vec multiply_add(Vec a, Vec b, Vec sum) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__FMA__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
  return sum + a * b;
#endif
}

inline bool any(Ints m) {
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

// A bit for each lane that is true.
inline uint64_t bits(Ints m) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)m, (__m512i)m);
#elif defined(__AVX2__)
  return static_cast<uint64_t>(_mm256_movemask_ps((__m256)m));
#else
  uint64_t all = 0;
  for (int64_t i = 0; i < kVec; ++i) all |= static_cast<uint64_t>(m[i] & 1) << i;
  return all;
#endif
}

// kStep components of a row of codes in 32 bits, as a point or as a centre brings them to a step.
// vpdpbusd takes the points' as unsigned bytes: theirs carry code + 128, and the sum starts at
// -128 times the sum of the centre's codes.
#if defined(__AVX512VNNI__)
inline int32_t centre_word(const int8_t* code) { return load<int32_t>(code); }

inline int32_t point_word(const int8_t* code) {
  return static_cast<int32_t>(load<uint32_t>(code) ^ 0x80808080u);
}

inline int32_t first_sum(const int8_t* centre, int64_t depth) {
  int32_t sum = 0;
  for (int64_t k = 0; k < depth; ++k) sum += centre[k];
  return -128 * sum;
}

inline Ints step(Ints sum, Ints points, Ints centre) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)points, (__m512i)centre);
}
#else
inline int32_t centre_word(const int8_t* code) {
  return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint16_t>(code[0])) |
                              static_cast<uint32_t>(static_cast<uint16_t>(code[1])) << 16);
}

inline int32_t point_word(const int8_t* code) { return centre_word(code); }

inline int32_t first_sum(const int8_t*, int64_t) { return 0; }

inline Ints step(Ints sum, Ints points, Ints centre) {
#if defined(__AVX2__)
  return sum + (Ints)_mm256_madd_epi16((__m256i)points, (__m256i)centre);
#elif defined(__SSE2__)
  return sum + (Ints)_mm_madd_epi16((__m128i)points, (__m128i)centre);
#else
  return sum + ((points << 16) >> 16) * ((centre << 16) >> 16) + (points >> 16) * (centre >> 16);
#endif
}
#endif

// Inner product of two rows of codes.
inline int32_t dot(const int8_t* a, const int8_t* b, int64_t depth) {
#if defined(__AVX512VNNI__)
  const __m512i flip = _mm512_set1_epi8(-128);
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  __m512i sum_b = _mm512_setzero_si512();
  const auto add = [&](__m512i x, __m512i y) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(x, flip), y);
    sum_b = _mm512_dpbusd_epi32(sum_b, ones, y);
  };
  int64_t k = 0;
  for (; k + 64 <= depth; k += 64) add(load<__m512i>(a + k), load<__m512i>(b + k));
  if (k < depth) {
    const __mmask64 rest = (__mmask64{1} << (depth - k)) - 1;
    add(_mm512_maskz_loadu_epi8(rest, a + k), _mm512_maskz_loadu_epi8(rest, b + k));
  }
  return _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, _mm512_slli_epi32(sum_b, 7)));
#else
  int32_t sum = 0;
  for (int64_t k = 0; k < depth; ++k) sum += static_cast<int32_t>(a[k]) * b[k];
  return sum;
#endif
}

struct Tile {
  Ints sums[kTileRows][kTileVecs];
};

// Inner products of packed points, words [steps, kTileCols], and centres, words [kTileRows, steps],
// added to first_sums [kTileRows].
inline Tile product(const int32_t* points, const int32_t* centres, const int32_t* first_sums,
                    int64_t steps) {
  Tile tile;
  for (int64_t r = 0; r < kTileRows; ++r) {
    for (int64_t v = 0; v < kTileVecs; ++v) tile.sums[r][v] = first_sums[r] - Ints{};
  }
  for (int64_t k = 0; k < steps; ++k) {
    Ints p[kTileVecs];
    for (int64_t v = 0; v < kTileVecs; ++v) p[v] = load<Ints>(points + v * kVec);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
      const Ints c = centres[r * steps + k] - Ints{};
#pragma GCC unroll 4
      for (int64_t v = 0; v < kTileVecs; ++v) tile.sums[r][v] = step(tile.sums[r][v], p[v], c);
    }
    points += kTileCols;
  }
  return tile;
}

}  // namespace fastsel::FASTSEL_LEVEL
