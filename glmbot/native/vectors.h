// Sixteen numbers at once, in as many registers as the instruction set needs: all that the kernels do with vectors is
// named here, so that they are written once.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__)
#define GLMBOT_AVX512 1
#include "vectors_512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "vectors_256.h"
#else
#include "vectors_128.h"
#endif

namespace {

constexpr int kLanes = 16;

constexpr const char* kInstructions =
#if defined(GLMBOT_AVX512) && defined(__AVX512VNNI__) && defined(__AVX512BF16__)
    "avx512-vnni avx512-bf16";
#elif defined(GLMBOT_AVX512) && defined(__AVX512VNNI__)
    "avx512-vnni";
#elif defined(GLMBOT_AVX512)
    "avx512";
#elif defined(__AVX2__) && defined(__AVXVNNI__)
    "avx2 avx-vnni";
#elif defined(__AVX2__)
    "avx2";
#elif defined(__SSSE3__)
    "ssse3";
#elif defined(__ARM_FEATURE_DOTPROD)
    "neon dotprod";
#elif defined(__ARM_NEON)
    "neon";
#else
    "plain";
#endif

#if !defined(GLMBOT_AVX512)
inline f16 operator+(f16 x, float y) { return x + splat(y); }
inline f16 operator+(float x, f16 y) { return splat(x) + y; }
inline f16 operator-(f16 x, float y) { return x - splat(y); }
inline f16 operator-(float x, f16 y) { return splat(x) - y; }
inline f16 operator*(f16 x, float y) { return x * splat(y); }
inline f16 operator*(float x, f16 y) { return splat(x) * y; }
inline f16 operator/(f16 x, float y) { return x / splat(y); }
inline f16 operator/(float x, f16 y) { return splat(x) / y; }
inline f16& operator+=(f16& x, f16 y) { return x = x + y; }
inline f16& operator*=(f16& x, float y) { return x = x * y; }
// `other` in the lanes from `some` on.
inline f16 lanes_until(int some, f16 v, float other) {
  if (some >= kLanes) return v;
  float lanes[kLanes];
  store(lanes, v);
  for (int lane = some < 0 ? 0 : some; lane < kLanes; lane++) lanes[lane] = other;
  return load(lanes);
}
// The greatest number of each of 16 registers, where none is NaN.
inline f16 greatest_of_16(const f16* v) {
  float each[kLanes];
  for (int i = 0; i < kLanes; i++) each[i] = greatest(v[i]);
  return load(each);
}
#endif

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
  f16 shifted = fma16(x, splat(1.44269504088896341f), splat(12582912.0f));  // rounds to the nearest whole number
  f16 n = shifted - 12582912.0f;
  f16 r = fma16(n, splat(2.12194440e-4f), fma16(n, splat(-0.693359375f), x));
  f16 p = splat(1.9875691500e-4f);
  p = fma16(p, r, splat(1.3981999507e-3f));
  p = fma16(p, r, splat(8.3334519073e-3f));
  p = fma16(p, r, splat(4.1665795894e-2f));
  p = fma16(p, r, splat(1.6666665459e-1f));
  p = fma16(p, r, splat(5.0000001201e-1f));
  p = fma16(p * r, r, r + 1.0f);
  return times_power_of_two(p, n);
}

}  // namespace
