// Sixteen numbers in four registers: SSE, NEON, or what the compiler makes of vectors of its own. vectors.h.

#pragma once

#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

// ---- four numbers ------------------------------------------------------------------------------------------------

#if defined(__SSE2__)
typedef __m128 f4;
typedef __m128i i4;
inline f4 all4(float x) { return _mm_set1_ps(x); }
inline f4 load4(const float* p) { return _mm_loadu_ps(p); }
inline void store4(float* p, f4 v) { _mm_storeu_ps(p, v); }
inline f4 fma4(f4 x, f4 y, f4 z) { return x * y + z; }
inline f4 smaller4(f4 x, f4 y) { return _mm_min_ps(x, y); }
inline f4 larger4(f4 x, f4 y) { return _mm_max_ps(x, y); }
inline f4 absolute4(f4 x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x); }
inline f4 from_int4(i4 v) { return _mm_cvtepi32_ps(v); }
inline i4 to_int4(f4 v) { return _mm_cvtps_epi32(v); }
inline i4 add_int4(i4 x, i4 y) { return _mm_add_epi32(x, y); }
inline i4 load_int4(const void* p) { return _mm_loadu_si128((const i4*)p); }
inline void store_int4(int32_t* p, i4 v) { _mm_storeu_si128((i4*)p, v); }
inline i4 all_int4(int x) { return _mm_set1_epi32(x); }
inline f4 as_float4(i4 v) { return _mm_castsi128_ps(v); }
inline i4 shifted4(i4 v, int bits) { return _mm_slli_epi32(v, bits); }
inline i4 and4(i4 x, i4 y) { return _mm_and_si128(x, y); }
inline i4 or4(i4 x, i4 y) { return _mm_or_si128(x, y); }
inline i4 greater4(i4 x, i4 y) { return _mm_cmpgt_epi32(x, y); }
inline i4 as_int4(f4 v) { return _mm_castps_si128(v); }
inline i4 widened4(const uint16_t* p) {
  const i4 half = _mm_loadl_epi64((const i4*)p);
  return _mm_unpacklo_epi16(half, _mm_setzero_si128());
}
// Of four registers one sum each.
inline f4 sums4(f4 a, f4 b, f4 c, f4 d) {
  _MM_TRANSPOSE4_PS(a, b, c, d);
  return (a + b) + (c + d);
}
#elif defined(__ARM_NEON)
typedef float32x4_t f4;
typedef int32x4_t i4;
inline f4 all4(float x) { return vdupq_n_f32(x); }
inline f4 load4(const float* p) { return vld1q_f32(p); }
inline void store4(float* p, f4 v) { vst1q_f32(p, v); }
inline f4 fma4(f4 x, f4 y, f4 z) { return vfmaq_f32(z, x, y); }
// As `a < b ? a : b`: of a NaN in a the other one is taken.
inline f4 smaller4(f4 x, f4 y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
inline f4 larger4(f4 x, f4 y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
inline f4 absolute4(f4 x) { return vabsq_f32(x); }
inline f4 from_int4(i4 v) { return vcvtq_f32_s32(v); }
inline i4 to_int4(f4 v) { return vcvtnq_s32_f32(v); }
inline i4 add_int4(i4 x, i4 y) { return vaddq_s32(x, y); }
inline i4 load_int4(const void* p) { return vld1q_s32((const int32_t*)p); }
inline void store_int4(int32_t* p, i4 v) { vst1q_s32(p, v); }
inline i4 all_int4(int x) { return vdupq_n_s32(x); }
inline f4 as_float4(i4 v) { return vreinterpretq_f32_s32(v); }
inline i4 shifted4(i4 v, int bits) { return vshlq_s32(v, vdupq_n_s32(bits)); }
inline i4 and4(i4 x, i4 y) { return vandq_s32(x, y); }
inline i4 widened4(const uint16_t* p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
inline f4 sums4(f4 a, f4 b, f4 c, f4 d) { return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)); }
#else
typedef float f4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t i4 __attribute__((vector_size(16), aligned(4), may_alias));
inline f4 all4(float x) { return f4{x, x, x, x}; }
inline f4 load4(const float* p) { return *(const f4*)p; }
inline void store4(float* p, f4 v) { *(f4*)p = v; }
inline f4 fma4(f4 x, f4 y, f4 z) { return x * y + z; }
inline f4 smaller4(f4 x, f4 y) { return x < y ? x : y; }
inline f4 larger4(f4 x, f4 y) { return x > y ? x : y; }
inline f4 absolute4(f4 x) { return x < 0.0f ? -x : x; }
inline f4 from_int4(i4 v) { return __builtin_convertvector(v, f4); }
inline i4 to_int4(f4 v) { return __builtin_convertvector(v, i4); }
inline i4 add_int4(i4 x, i4 y) { return x + y; }
inline i4 load_int4(const void* p) { return *(const i4*)p; }
inline void store_int4(int32_t* p, i4 v) { *(i4*)p = v; }
inline i4 all_int4(int x) { return i4{x, x, x, x}; }
inline f4 as_float4(i4 v) { return (f4)v; }
inline i4 shifted4(i4 v, int bits) { return v << bits; }
inline i4 and4(i4 x, i4 y) { return x & y; }
inline i4 or4(i4 x, i4 y) { return x | y; }
inline i4 greater4(i4 x, i4 y) { return (i4)(x > y); }
inline i4 as_int4(f4 v) { return (i4)v; }
inline i4 widened4(const uint16_t* p) { return i4{p[0], p[1], p[2], p[3]}; }
inline f4 sums4(f4 a, f4 b, f4 c, f4 d) {
  return f4{(a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]), (c[0] + c[1]) + (c[2] + c[3]),
            (d[0] + d[1]) + (d[2] + d[3])};
}
#endif

// float16 to float32: the exponent by a product, which is exact for subnormal numbers too.
inline f4 halves4(const uint16_t* p) {
#if defined(__aarch64__)
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
  const i4 bits = widened4(p), size = and4(bits, all_int4(0x7fff));
  const f4 value = as_float4(shifted4(size, 13)) * all4(0x1p112f);
  const i4 endless = and4(greater4(size, all_int4(0x7bff)), all_int4(0x7f800000));
  return as_float4(or4(or4(as_int4(value), endless), shifted4(and4(bits, all_int4(0x8000)), 16)));
#endif
}

// ---- sixteen -----------------------------------------------------------------------------------------------------

struct f16 { f4 a, b, c, d; };
struct i16 { i4 a, b, c, d; };

inline f16 splat(float x) { return {all4(x), all4(x), all4(x), all4(x)}; }
inline f16 zeros() { return splat(0.0f); }
inline f16 load(const float* p) { return {load4(p), load4(p + 4), load4(p + 8), load4(p + 12)}; }
inline void store(float* p, f16 v) { store4(p, v.a); store4(p + 4, v.b); store4(p + 8, v.c); store4(p + 12, v.d); }
inline f16 operator+(f16 x, f16 y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
inline f16 operator-(f16 x, f16 y) { return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d}; }
inline f16 operator*(f16 x, f16 y) { return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d}; }
inline f16 operator/(f16 x, f16 y) { return {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d}; }
inline f16 operator-(f16 x) { return {-x.a, -x.b, -x.c, -x.d}; }
inline f16 fma16(f16 x, f16 y, f16 z) {
  return {fma4(x.a, y.a, z.a), fma4(x.b, y.b, z.b), fma4(x.c, y.c, z.c), fma4(x.d, y.d, z.d)};
}
inline f16 smaller(f16 x, f16 y) {
  return {smaller4(x.a, y.a), smaller4(x.b, y.b), smaller4(x.c, y.c), smaller4(x.d, y.d)};
}
inline f16 larger(f16 x, f16 y) {
  return {larger4(x.a, y.a), larger4(x.b, y.b), larger4(x.c, y.c), larger4(x.d, y.d)};
}
inline f16 absolute(f16 x) { return {absolute4(x.a), absolute4(x.b), absolute4(x.c), absolute4(x.d)}; }
inline f16 from_int(i16 v) { return {from_int4(v.a), from_int4(v.b), from_int4(v.c), from_int4(v.d)}; }
// Whole numbers only.
inline i16 to_int(f16 v) { return {to_int4(v.a), to_int4(v.b), to_int4(v.c), to_int4(v.d)}; }
inline i16 operator+(i16 x, i16 y) {
  return {add_int4(x.a, y.a), add_int4(x.b, y.b), add_int4(x.c, y.c), add_int4(x.d, y.d)};
}
inline void store_whole(int32_t* p, i16 v) {
  store_int4(p, v.a);
  store_int4(p + 4, v.b);
  store_int4(p + 8, v.c);
  store_int4(p + 12, v.d);
}
inline f4 power_of_two4(f4 n) { return as_float4(shifted4(add_int4(to_int4(n), all_int4(127)), 23)); }
// v times 2^n, of whole numbers n.
inline f16 times_power_of_two(f16 v, f16 n) {
  return v * f16{power_of_two4(n.a), power_of_two4(n.b), power_of_two4(n.c), power_of_two4(n.d)};
}
// From -128 to 127.
inline void store_bytes(int8_t* p, i16 v) {
  int32_t whole[16];
  store_int4(whole, v.a);
  store_int4(whole + 4, v.b);
  store_int4(whole + 8, v.c);
  store_int4(whole + 12, v.d);
  for (int i = 0; i < 16; i++) p[i] = (int8_t)whole[i];
}
inline f16 from_bfloat16(const uint16_t* p) {
  return {as_float4(shifted4(widened4(p), 16)), as_float4(shifted4(widened4(p + 4), 16)),
          as_float4(shifted4(widened4(p + 8), 16)), as_float4(shifted4(widened4(p + 12), 16))};
}
inline f16 from_float16(const uint16_t* p) { return {halves4(p), halves4(p + 4), halves4(p + 8), halves4(p + 12)}; }
// Of 16 pairs of bfloat16 the first ones, and the second ones.
inline f16 first_of_pairs(const uint16_t* p) {
  return {as_float4(shifted4(load_int4(p), 16)), as_float4(shifted4(load_int4(p + 8), 16)),
          as_float4(shifted4(load_int4(p + 16), 16)), as_float4(shifted4(load_int4(p + 24), 16))};
}
inline f16 second_of_pairs(const uint16_t* p) {
  const i4 mask = all_int4((int)0xffff0000u);
  return {as_float4(and4(load_int4(p), mask)), as_float4(and4(load_int4(p + 8), mask)),
          as_float4(and4(load_int4(p + 16), mask)), as_float4(and4(load_int4(p + 24), mask))};
}
inline float first_lane(f16 v) { return v.a[0]; }
// One sum of each of 16 registers, in an order of its own that never changes.
inline f16 sums_of_16(const f16* v) {
  f4 quarter[16];
  for (int i = 0; i < 16; i++) quarter[i] = (v[i].a + v[i].b) + (v[i].c + v[i].d);
  const f4* q = quarter;
  return {sums4(q[0], q[1], q[2], q[3]), sums4(q[4], q[5], q[6], q[7]), sums4(q[8], q[9], q[10], q[11]),
          sums4(q[12], q[13], q[14], q[15])};
}

inline float sum(f16 v) {
  float part[4];
  store4(part, (v.a + v.b) + (v.c + v.d));
  return (part[0] + part[2]) + (part[1] + part[3]);
}
// The greatest number, where none is NaN.
inline float greatest(f16 v) {
  float part[4];
  store4(part, larger4(larger4(v.a, v.b), larger4(v.c, v.d)));
  const float low = part[0] > part[2] ? part[0] : part[2], high = part[1] > part[3] ? part[1] : part[3];
  return low > high ? low : high;
}

}  // namespace
