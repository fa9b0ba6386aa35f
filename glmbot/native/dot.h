// Products of bytes.

#pragma once

#include "quantise.h"

namespace {

// Sums over the 32 columns of a block, for each of its 16 rows with each of M tokens. Weights count from 0, or where
// they are signed from -128 (kInt8 with AVX2, whose products of bytes hold 16 bits).
#if defined(GLMBOT_AVX2)

inline __m256i four_codes(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

template <int kBits>
constexpr bool kSigned = kBits == 8;

template <int kBits, int M>
inline void block_sums(const uint8_t* data, const int8_t* codes, int64_t width, i16* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i* at = (const __m256i*)data;
  __m256i low[M], high[M];
  for (int m = 0; m < M; m++) low[m] = high[m] = _mm256_setzero_si256();
  if (kBits == 4) {
    // Eight sums of two products are at most 8 * 2 * 15 * 127, which 16 bits hold.
    const __m256i nibble = _mm256_set1_epi8(15);
    for (int part = 0; part < 4; part++) {
      const __m256i a = _mm256_loadu_si256(at + 2 * part), b = _mm256_loadu_si256(at + 2 * part + 1);
      const __m256i a0 = _mm256_and_si256(a, nibble), a1 = _mm256_and_si256(_mm256_srli_epi16(a, 4), nibble);
      const __m256i b0 = _mm256_and_si256(b, nibble), b1 = _mm256_and_si256(_mm256_srli_epi16(b, 4), nibble);
      for (int m = 0; m < M; m++) {
        const __m256i c0 = four_codes(codes + m * width + 8 * part), c1 = four_codes(codes + m * width + 8 * part + 4);
        low[m] = _mm256_add_epi16(low[m], _mm256_add_epi16(_mm256_maddubs_epi16(a0, c0), _mm256_maddubs_epi16(a1, c1)));
        high[m] = _mm256_add_epi16(high[m], _mm256_add_epi16(_mm256_maddubs_epi16(b0, c0), _mm256_maddubs_epi16(b1, c1)));
      }
    }
    for (int m = 0; m < M; m++) sums[m] = {_mm256_madd_epi16(low[m], ones), _mm256_madd_epi16(high[m], ones)};
  } else {
    // |weight| * (code with the weight's sign): at most 2 * 128 * 127, which 16 bits hold.
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    for (int part = 0; part < 8; part++) {
      const __m256i a = _mm256_xor_si256(_mm256_loadu_si256(at + 2 * part), flip), a_size = _mm256_abs_epi8(a);
      const __m256i b = _mm256_xor_si256(_mm256_loadu_si256(at + 2 * part + 1), flip), b_size = _mm256_abs_epi8(b);
      for (int m = 0; m < M; m++) {
        const __m256i c = four_codes(codes + m * width + 4 * part);
        const __m256i first = _mm256_maddubs_epi16(a_size, _mm256_sign_epi8(c, a));
        const __m256i second = _mm256_maddubs_epi16(b_size, _mm256_sign_epi8(c, b));
        low[m] = _mm256_add_epi32(low[m], _mm256_madd_epi16(first, ones));
        high[m] = _mm256_add_epi32(high[m], _mm256_madd_epi16(second, ones));
      }
    }
    for (int m = 0; m < M; m++) sums[m] = {low[m], high[m]};
  }
}

#else

template <int kBits>
constexpr bool kSigned = false;

#if defined(__AVX512VNNI__)
typedef __m512i codes64;
inline codes64 load_codes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline codes64 low_nibbles(codes64 v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline codes64 high_nibbles(codes64 v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
inline i16 dot4(i16 sums, codes64 weights, const int8_t* activations) {
  int32_t four;
  memcpy(&four, activations, 4);
  return (i16)_mm512_dpbusd_epi32((__m512i)sums, weights, _mm512_set1_epi32(four));
}
#else
struct codes64 { uint8_t v[64]; };
inline codes64 load_codes(const uint8_t* p) { codes64 out; memcpy(out.v, p, 64); return out; }
inline codes64 low_nibbles(codes64 c) { for (auto& b : c.v) b &= 15; return c; }
inline codes64 high_nibbles(codes64 c) { for (auto& b : c.v) b >>= 4; return c; }
inline i16 dot4(i16 sums, const codes64& weights, const int8_t* a) {
  for (int lane = 0; lane < kLanes; lane++) {
    const uint8_t* w = weights.v + 4 * lane;
    sums[lane] += w[0] * a[0] + w[1] * a[1] + w[2] * a[2] + w[3] * a[3];
  }
  return sums;
}
#endif

// The 32 columns of a block of 16 rows, as 8 registers of 4 columns.
template <int kBits>
inline void load_block(const uint8_t* data, codes64* weights) {
  if (kBits == 8) {
    for (int part = 0; part < 8; part++) weights[part] = load_codes(data + 64 * part);
  } else {
    for (int part = 0; part < 4; part++) {
      codes64 both = load_codes(data + 64 * part);
      weights[2 * part] = low_nibbles(both);
      weights[2 * part + 1] = high_nibbles(both);
    }
  }
}

template <int kBits, int M>
inline void block_sums(const uint8_t* data, const int8_t* codes, int64_t width, i16* sums) {
  codes64 weights[8];
  load_block<kBits>(data, weights);
  for (int m = 0; m < M; m++) {
    const int8_t* a = codes + m * width;
    i16 first = no_sums(), second = no_sums();
    for (int part = 0; part < 8; part += 2) {
      first = dot4(first, weights[part], a + 4 * part);
      second = dot4(second, weights[part + 1], a + 4 * part + 4);
    }
    sums[m] = first + second;
  }
}
#endif

}  // namespace
