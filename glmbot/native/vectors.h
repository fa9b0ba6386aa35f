// Sixteen numbers at once: one register with AVX-512, two with AVX2, and elsewhere what the compiler makes of its own
// vectors. All that the kernels do with vectors is named here, so that they are written once.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int kLanes = 16;

constexpr const char* kVectors =
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
    "avx512-vnni avx512-bf16";
#elif defined(__AVX512VNNI__)
    "avx512-vnni";
#elif defined(__AVX512F__)
    "avx512";
#elif defined(__AVX2__)
    "avx2";
#else
    "generic";
#endif

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512F__)
#define GLMBOT_AVX2 1

// Taken apart by hand: the compiler sends its own 64-byte vectors through memory here.
struct f16 { __m256 a, b; };
struct i16 { __m256i a, b; };

inline f16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline f16 zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline i16 no_sums() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline f16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, f16 v) { _mm256_storeu_ps(p, v.a); _mm256_storeu_ps(p + 8, v.b); }

inline f16 operator+(f16 x, f16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline f16 operator-(f16 x, f16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline f16 operator*(f16 x, f16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline f16 operator/(f16 x, f16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline f16 operator+(f16 x, float y) { return x + splat(y); }
inline f16 operator+(float x, f16 y) { return splat(x) + y; }
inline f16 operator-(f16 x, float y) { return x - splat(y); }
inline f16 operator-(float x, f16 y) { return splat(x) - y; }
inline f16 operator*(f16 x, float y) { return x * splat(y); }
inline f16 operator*(float x, f16 y) { return splat(x) * y; }
inline f16 operator/(f16 x, float y) { return x / splat(y); }
inline f16 operator/(float x, f16 y) { return splat(x) / y; }
inline f16 operator-(f16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign)};
}
inline f16& operator+=(f16& x, f16 y) { return x = x + y; }
inline f16& operator*=(f16& x, float y) { return x = x * y; }
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
inline int sum(i16 v) {
  int32_t part[8];
  _mm256_storeu_si256((__m256i*)part, _mm256_add_epi32(v.a, v.b));
  int total = 0;
  for (int lane = 0; lane < 8; lane++) total += part[lane];
  return total;
}
// 2^n of whole numbers.
inline f16 power_of_two(f16 n) {
  const i16 whole = to_int(n);
  const __m256i bias = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(whole.a, bias), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(whole.b, bias), 23))};
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

#else

typedef float f16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t u16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t b16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));

inline f16 splat(float x) { return f16{} + x; }
inline f16 zeros() { return f16{}; }
inline i16 no_sums() { return i16{}; }
inline f16 load(const float* p) { return *(const f16*)p; }
inline void store(float* p, f16 v) { *(f16*)p = v; }
inline f16 smaller(f16 a, f16 b) { return a < b ? a : b; }
inline f16 larger(f16 a, f16 b) { return a > b ? a : b; }
inline f16 absolute(f16 x) { return x < 0.0f ? -x : x; }
inline f16 from_int(i16 v) { return __builtin_convertvector(v, f16); }
// Whole numbers only.
inline i16 to_int(f16 v) { return __builtin_convertvector(v, i16); }
inline int sum(i16 v) {
  int total = 0;
  for (int lane = 0; lane < kLanes; lane++) total += v[lane];
  return total;
}
// 2^n of whole numbers.
inline f16 power_of_two(f16 n) { return (f16)((to_int(n) + 127) << 23); }
// From -128 to 127.
inline void store_bytes(int8_t* p, i16 v) { *(b16*)p = __builtin_convertvector(v, b16); }
inline f16 from_bfloat16(const uint16_t* p) {
  return (f16)(__builtin_convertvector(*(const h16*)p, u16) << 16);
}
inline f16 from_float16(const uint16_t* p) {
#if defined(__AVX512F__)
  return (f16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#else
  f16 out;
  for (int lane = 0; lane < kLanes; lane++) {
    _Float16 half;
    memcpy(&half, p + lane, 2);
    out[lane] = (float)half;
  }
  return out;
#endif
}
// Of 16 pairs of bfloat16 the first ones, and the second ones.
inline f16 first_of_pairs(const uint16_t* p) { return (f16)(*(const u16*)p << 16); }
inline f16 second_of_pairs(const uint16_t* p) { return (f16)(*(const u16*)p & 0xffff0000u); }
inline float first_lane(f16 v) { return v[0]; }
// Always one rounding: left to the compiler, two ways through this file could round differently.
inline f16 fma16(f16 a, f16 b, f16 c) {
#if defined(__AVX512F__)
  return (f16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
  return a * b + c;
#endif
}
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

#endif

// The sum of a register, in an order of its own that never changes.
inline float sum(f16 v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; lane++) part[lane] += part[lane + half];
  return part[0];
}
inline float from_bfloat16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}
inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)((bits >> 16) | 0x40);  // NaN stays NaN
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Of float32, or of bfloat16.
inline f16 load_either(const void* p, int64_t at, bool wide) {
  return wide ? load((const float*)p + at) : from_bfloat16((const uint16_t*)p + at);
}

// e^x: 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes' coefficients; error about 1e-7 relative).
inline f16 exponential(f16 x) {
  x = smaller(larger(x, splat(-87.0f)), splat(88.0f));
  f16 shifted = x * 1.44269504088896341f + 12582912.0f;  // rounds to the nearest whole number
  f16 n = shifted - 12582912.0f;
  f16 r = fma16(n, splat(2.12194440e-4f), fma16(n, splat(-0.693359375f), x));
  f16 p = splat(1.9875691500e-4f);
  p = fma16(p, r, splat(1.3981999507e-3f));
  p = fma16(p, r, splat(8.3334519073e-3f));
  p = fma16(p, r, splat(4.1665795894e-2f));
  p = fma16(p, r, splat(1.6666665459e-1f));
  p = fma16(p, r, splat(5.0000001201e-1f));
  p = fma16(p * r, r, r + 1.0f);
  return p * power_of_two(n);
}

}  // namespace
