// Products of bytes: weights that count from 0, or are signed, with signed activations. Sums of integers are exact,
// so each instruction set has its own way to them.

#pragma once

#include "quantise.h"

namespace {

#if defined(GLMBOT_AVX512)

// One register holds four columns of 16 rows.
constexpr bool kSignedBytes = false;
inline __m512i four_codes(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
inline __m512i dot(__m512i sums, __m512i weights, __m512i codes) {
#if defined(__AVX512VNNI__)
  return _mm512_dpbusd_epi32(sums, weights, codes);
#else
  // Pairs of products may pass 16 bits, so bytes are widened: even ones, and odd ones.
  const __m512i even = _mm512_and_si512(weights, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(weights, 8);
  const __m512i even_codes = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 8), odd_codes = _mm512_srai_epi16(codes, 8);
  return _mm512_add_epi32(sums, _mm512_add_epi32(_mm512_madd_epi16(even, even_codes), _mm512_madd_epi16(odd, odd_codes)));
#endif
}

// Adds to sums those over the 32 columns of a block, or over half of them, for each of its 16 rows with each of M tokens.
template <int kBits, int M, int kParts = 8>
inline void block_sums(const uint8_t* data, const int8_t* codes, int64_t width, i16* sums) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i all[M], both = nibble;
  for (int m = 0; m < M; m++) all[m] = (__m512i)sums[m];
  for (int part = 0; part < kParts; part++) {
    if (kBits == 8) both = _mm512_loadu_si512(data + 64 * part);
    else if (part % 2 == 0) both = _mm512_loadu_si512(data + 32 * part);
    const __m512i weights =
        kBits == 8 ? both : _mm512_and_si512(part % 2 ? _mm512_srli_epi16(both, 4) : both, nibble);
    for (int m = 0; m < M; m++) all[m] = dot(all[m], weights, four_codes(codes + m * width + 4 * part));
  }
  for (int m = 0; m < M; m++) sums[m] = (i16)all[m];
}

#else

// A register of bytes: four columns of 4 rows, or of 8.
#if defined(__AVX2__)
typedef __m256i bytes;
inline bytes load_bytes(const uint8_t* p) { return _mm256_loadu_si256((const bytes*)p); }
inline bytes all_bytes(int b) { return _mm256_set1_epi8((char)b); }
inline bytes no_bytes() { return _mm256_setzero_si256(); }
inline bytes four_codes(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline bytes low_nibbles(bytes v) { return _mm256_and_si256(v, all_bytes(15)); }
inline bytes high_nibbles(bytes v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), all_bytes(15)); }
inline bytes from_the_middle(bytes v) { return _mm256_xor_si256(v, all_bytes(128)); }
inline bytes add16(bytes x, bytes y) { return _mm256_add_epi16(x, y); }
inline bytes add32(bytes x, bytes y) { return _mm256_add_epi32(x, y); }
inline bytes pairs_of_bytes(bytes w, bytes c) { return _mm256_maddubs_epi16(w, c); }
inline bytes pairs_of_words(bytes v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
inline bytes size(bytes v) { return _mm256_abs_epi8(v); }
inline bytes with_sign_of(bytes c, bytes w) { return _mm256_sign_epi8(c, w); }
inline void keep(i16& sums, int, bytes x, bytes y) { sums = {x, y}; }
#elif defined(__SSSE3__)
typedef __m128i bytes;
inline bytes load_bytes(const uint8_t* p) { return _mm_loadu_si128((const bytes*)p); }
inline bytes all_bytes(int b) { return _mm_set1_epi8((char)b); }
inline bytes no_bytes() { return _mm_setzero_si128(); }
inline bytes four_codes(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm_set1_epi32(four);
}
inline bytes low_nibbles(bytes v) { return _mm_and_si128(v, all_bytes(15)); }
inline bytes high_nibbles(bytes v) { return _mm_and_si128(_mm_srli_epi16(v, 4), all_bytes(15)); }
inline bytes from_the_middle(bytes v) { return _mm_xor_si128(v, all_bytes(128)); }
inline bytes add16(bytes x, bytes y) { return _mm_add_epi16(x, y); }
inline bytes add32(bytes x, bytes y) { return _mm_add_epi32(x, y); }
inline bytes pairs_of_bytes(bytes w, bytes c) { return _mm_maddubs_epi16(w, c); }
inline bytes pairs_of_words(bytes v) { return _mm_madd_epi16(v, _mm_set1_epi16(1)); }
inline bytes size(bytes v) { return _mm_abs_epi8(v); }
inline bytes with_sign_of(bytes c, bytes w) { return _mm_sign_epi8(c, w); }
inline void keep(i16& sums, int pass, bytes x, bytes y) {
  (pass ? sums.c : sums.a) = x;
  (pass ? sums.d : sums.b) = y;
}
#elif defined(__ARM_NEON)
typedef int8x16_t bytes;
inline bytes load_bytes(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
inline bytes no_bytes() { return vdupq_n_s8(0); }
inline bytes four_codes(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
inline bytes low_nibbles(bytes v) { return vandq_s8(v, vdupq_n_s8(15)); }
inline bytes high_nibbles(bytes v) { return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(v), 4)); }
inline bytes from_the_middle(bytes v) { return veorq_s8(v, vdupq_n_s8((int8_t)0x80)); }
inline void keep(i16& sums, int pass, bytes x, bytes y) {
  (pass ? sums.c : sums.a) = vreinterpretq_s32_s8(x);
  (pass ? sums.d : sums.b) = vreinterpretq_s32_s8(y);
}
#else
struct bytes { int8_t v[16]; int32_t sums[4]; };
inline bytes load_bytes(const uint8_t* p) { bytes out = {}; memcpy(out.v, p, 16); return out; }
inline bytes no_bytes() { return {}; }
inline bytes four_codes(const int8_t* p) { bytes out = {}; for (int i = 0; i < 16; i++) out.v[i] = p[i % 4]; return out; }
inline bytes low_nibbles(bytes v) { for (auto& b : v.v) b &= 15; return v; }
inline bytes high_nibbles(bytes v) { for (auto& b : v.v) b = (uint8_t)b >> 4; return v; }
inline bytes from_the_middle(bytes v) { for (auto& b : v.v) b ^= (int8_t)0x80; return v; }
inline void keep(i16& sums, int pass, const bytes& x, const bytes& y) {
  (pass ? sums.c : sums.a) = load_int4(x.sums);
  (pass ? sums.d : sums.b) = load_int4(y.sums);
}
#endif

// Whether int8 weights are multiplied as signed ones.
#if defined(__AVX2__) && defined(__AVXVNNI__)
#define GLMBOT_DOT 1
constexpr bool kSignedBytes = false;
inline bytes dot(bytes sums, bytes weights, bytes codes) { return _mm256_dpbusd_avx_epi32(sums, weights, codes); }
#elif defined(__ARM_NEON)
#define GLMBOT_DOT 1
constexpr bool kSignedBytes = true;
inline bytes dot(bytes sums, bytes weights, bytes codes) {
  const int32x4_t before = vreinterpretq_s32_s8(sums);
#if defined(__ARM_FEATURE_DOTPROD)
  return vreinterpretq_s8_s32(vdotq_s32(before, weights, codes));
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(codes)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(weights, codes));
  return vreinterpretq_s8_s32(vaddq_s32(before, vpaddq_s32(low, high)));
#endif
}
#elif !defined(__SSSE3__)
#define GLMBOT_DOT 1
constexpr bool kSignedBytes = true;
inline bytes dot(bytes sums, const bytes& weights, const bytes& codes) {
  for (int i = 0; i < 16; i++) sums.sums[i / 4] += weights.v[i] * codes.v[i];
  return sums;
}
#else
constexpr bool kSignedBytes = true;
#endif

#if defined(__SSSE3__)
// The sum up to here, in a register: the compiler would add in another order, and keep more values than it has room
// for.
inline bytes in_place(bytes v) {
  asm("" : "+x"(v));
  return v;
}
#endif

#if defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

// Sums over the 32 columns of a block, or over half of them, for each of its 16 rows with each of M tokens; two
// registers of rows at a time.
template <int kBits, int M, int kParts = 8>
inline __attribute__((always_inline)) void block_sums(const uint8_t* data, const int8_t* codes, int64_t width, i16* sums) {
  for (int pass = 0; pass < 32 / kBytes; pass++) {
    const uint8_t* at = data + 2 * kBytes * pass;
    bytes x[M], y[M];
    for (int m = 0; m < M; m++) x[m] = y[m] = no_bytes();
    // Not unrolled: with all parts at once there are more values than registers.
    if (kBits == 4) {
#pragma GCC unroll 1
      for (int part = 0; part < kParts / 2; part++) {
        const uint8_t* here = at + 64 * part;
        for (int half = 0; half < 2; half++) {
          const bytes one = half ? high_nibbles(load_bytes(here)) : low_nibbles(load_bytes(here));
          const bytes two = half ? high_nibbles(load_bytes(here + kBytes)) : low_nibbles(load_bytes(here + kBytes));
          for (int m = 0; m < M; m++) {
            const bytes c = four_codes(codes + m * width + 8 * part + 4 * half);
#if defined(GLMBOT_DOT)
            x[m] = dot(x[m], one, c);
            y[m] = dot(y[m], two, c);
#else
            // Eight sums of two products are at most 8 * 2 * 15 * 127, which 16 bits hold.
            x[m] = in_place(add16(x[m], pairs_of_bytes(one, c)));
            y[m] = in_place(add16(y[m], pairs_of_bytes(two, c)));
#endif
          }
        }
      }
#if !defined(GLMBOT_DOT)
      for (int m = 0; m < M; m++) {
        x[m] = pairs_of_words(x[m]);
        y[m] = pairs_of_words(y[m]);
      }
#endif
    } else {
#pragma GCC unroll 2
      for (int part = 0; part < kParts; part++) {
        for (int which = 0; which < 2; which++) {
          bytes* sums_of = which ? y : x;
          bytes one = load_bytes(at + 64 * part + which * kBytes);
          if (kSignedBytes) one = from_the_middle(one);
#if !defined(GLMBOT_DOT)
          const bytes one_size = size(one);
#endif
          for (int m = 0; m < M; m++) {
            const bytes c = four_codes(codes + m * width + 4 * part);
#if defined(GLMBOT_DOT)
            sums_of[m] = dot(sums_of[m], one, c);
#else
            // |weight| * (code with the weight's sign): at most 2 * 128 * 127, which 16 bits hold.
            sums_of[m] = in_place(add32(sums_of[m], pairs_of_words(pairs_of_bytes(one_size, with_sign_of(c, one)))));
#endif
          }
        }
      }
    }
    for (int m = 0; m < M; m++) keep(sums[m], pass, x[m], y[m]);
  }
}

#endif

}  // namespace
