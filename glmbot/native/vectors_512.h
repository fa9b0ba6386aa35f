// Sixteen numbers in one register of AVX-512: vectors.h.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

typedef float f16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t u16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t b16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));

inline f16 splat(float x) { return f16{} + x; }
inline f16 zeros() { return f16{}; }
inline f16 load(const float* p) { return *(const f16*)p; }
inline void store(float* p, f16 v) { *(f16*)p = v; }
// As `a < b ? a : b`: of a NaN in a the other one is taken.
inline f16 smaller(f16 a, f16 b) { return (f16)_mm512_min_ps((__m512)a, (__m512)b); }
inline f16 larger(f16 a, f16 b) { return (f16)_mm512_max_ps((__m512)a, (__m512)b); }
inline f16 absolute(f16 x) { return (f16)((u16)x & 0x7fffffffu); }
inline f16 from_int(i16 v) { return __builtin_convertvector(v, f16); }
// Whole numbers only.
inline i16 to_int(f16 v) { return __builtin_convertvector(v, i16); }
inline i16 every_lane(int32_t x) { return i16{} + x; }
inline void store_whole(int32_t* p, i16 v) { *(i16*)p = v; }
// v times 2^n, of whole numbers n.
inline f16 times_power_of_two(f16 v, f16 n) { return (f16)_mm512_scalef_ps((__m512)v, (__m512)n); }
// From -128 to 127.
inline void store_bytes(int8_t* p, i16 v) { *(b16*)p = __builtin_convertvector(v, b16); }
inline f16 from_bfloat16(const uint16_t* p) {
  return (f16)(__builtin_convertvector(*(const h16*)p, u16) << 16);
}
inline f16 from_float16(const uint16_t* p) {
  return (f16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
}
// Of 16 pairs of bfloat16 the first ones, and the second ones.
inline f16 first_of_pairs(const uint16_t* p) { return (f16)(*(const u16*)p << 16); }
inline f16 second_of_pairs(const uint16_t* p) { return (f16)(*(const u16*)p & 0xffff0000u); }
inline float first_lane(f16 v) { return v[0]; }
inline f16 fma16(f16 a, f16 b, f16 c) { return (f16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
// One sum of each of 16 registers. Each round folds two halves together: 8 sums of 8 lanes, 4 of 4, …
#define FOLD(a, b, low, high) (__builtin_shufflevector(a, b, low) + __builtin_shufflevector(a, b, high))
#define LOW8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define LOW4 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define HIGH4 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#define LOW2 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29
#define HIGH2 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31
#define LOW1 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define HIGH1 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
inline f16 sums_of_16(const f16* v) {
  f16 a[8], b[4], c[2];
  for (int i = 0; i < 8; i++) a[i] = FOLD(v[2 * i], v[2 * i + 1], LOW8, HIGH8);
  for (int i = 0; i < 4; i++) b[i] = FOLD(a[2 * i], a[2 * i + 1], LOW4, HIGH4);
  for (int i = 0; i < 2; i++) c[i] = FOLD(b[2 * i], b[2 * i + 1], LOW2, HIGH2);
  return FOLD(c[0], c[1], LOW1, HIGH1);
}

// The greatest number of each of 16 registers, where none is NaN.
#define GREATER(a, b, low, high) larger(__builtin_shufflevector(a, b, low), __builtin_shufflevector(a, b, high))
inline f16 greatest_of_16(const f16* v) {
  f16 a[8], b[4], c[2];
  for (int i = 0; i < 8; i++) a[i] = GREATER(v[2 * i], v[2 * i + 1], LOW8, HIGH8);
  for (int i = 0; i < 4; i++) b[i] = GREATER(a[2 * i], a[2 * i + 1], LOW4, HIGH4);
  for (int i = 0; i < 2; i++) c[i] = GREATER(b[2 * i], b[2 * i + 1], LOW2, HIGH2);
  return GREATER(c[0], c[1], LOW1, HIGH1);
}

// The sum of a register, in an order of its own that never changes.
inline float sum(f16 v) { return _mm512_reduce_add_ps((__m512)v); }
// `other` in the lanes from `some` on.
inline f16 lanes_until(int some, f16 v, float other) {
  const __mmask16 kept = some >= 16 ? 0xffff : some <= 0 ? 0 : (1u << some) - 1;
  return (f16)_mm512_mask_mov_ps(_mm512_set1_ps(other), kept, (__m512)v);
}
// The greatest number, where none is NaN.
inline float greatest(f16 v) { return _mm512_reduce_max_ps((__m512)v); }

}  // namespace
