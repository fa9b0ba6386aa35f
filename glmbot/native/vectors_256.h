// Sixteen numbers in two registers of AVX2: vectors.h.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

struct f16 { __m256 a, b; };
struct i16 { __m256i a, b; };

inline f16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline f16 zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline f16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, f16 v) { _mm256_storeu_ps(p, v.a); _mm256_storeu_ps(p + 8, v.b); }

inline f16 operator+(f16 x, f16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline f16 operator-(f16 x, f16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline f16 operator*(f16 x, f16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline f16 operator/(f16 x, f16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline f16 operator-(f16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign)};
}
inline f16 fma16(f16 x, f16 y, f16 z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
// As `a < b ? a : b`: of a NaN in a the other one is taken.
inline f16 smaller(f16 x, f16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline f16 larger(f16 x, f16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline f16 absolute(f16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline f16 from_int(i16 v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
// Whole numbers only.
inline i16 to_int(f16 v) { return {_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }
inline i16 operator+(i16 x, i16 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline void store_whole(int32_t* p, i16 v) {
  _mm256_storeu_si256((__m256i*)p, v.a);
  _mm256_storeu_si256((__m256i*)(p + 8), v.b);
}
// v times 2^n, of whole numbers n.
inline f16 times_power_of_two(f16 v, f16 n) {
  const i16 whole = to_int(n);
  const __m256i bias = _mm256_set1_epi32(127);
  const f16 power = {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(whole.a, bias), 23)),
                     _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(whole.b, bias), 23))};
  return v * power;
}
// From -128 to 127.
inline void store_bytes(int8_t* p, i16 v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
  _mm_storeu_si128((__m128i*)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
inline f16 from_bfloat16(const uint16_t* p) {
  const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  const __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(p + 8)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
}
inline f16 from_float16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
// Of 16 pairs of bfloat16 the first ones, and the second ones.
inline f16 first_of_pairs(const uint16_t* p) {
  const __m256i* at = (const __m256i*)p;
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(at), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(at + 1), 16))};
}
inline f16 second_of_pairs(const uint16_t* p) {
  const __m256i* at = (const __m256i*)p;
  const __m256i mask = _mm256_set1_epi32((int)0xffff0000u);
  return {_mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(at), mask)),
          _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(at + 1), mask))};
}
inline float first_lane(f16 v) { return _mm256_cvtss_f32(v.a); }
// One sum of each of 16 registers, in an order of its own that never changes.
inline f16 sums_of_16(const f16* v) {
  __m256 half[16];
  for (int i = 0; i < 16; i++) half[i] = _mm256_add_ps(v[i].a, v[i].b);
  __m256 out[2];
  for (int i = 0; i < 2; i++) {
    const __m256* h = half + 8 * i;
    const __m256 first = _mm256_hadd_ps(_mm256_hadd_ps(h[0], h[1]), _mm256_hadd_ps(h[2], h[3]));
    const __m256 second = _mm256_hadd_ps(_mm256_hadd_ps(h[4], h[5]), _mm256_hadd_ps(h[6], h[7]));
    out[i] = _mm256_add_ps(_mm256_permute2f128_ps(first, second, 0x20), _mm256_permute2f128_ps(first, second, 0x31));
  }
  return {out[0], out[1]};
}

inline float sum(f16 v) {
  const __m256 eight = _mm256_add_ps(v.a, v.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
// The greatest number, where none is NaN.
inline float greatest(f16 v) {
  const __m256 eight = _mm256_max_ps(v.a, v.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
