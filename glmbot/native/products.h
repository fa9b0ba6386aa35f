// Products with packed weights: a block of 16 weight rows with several tokens at a time, so that what is read of the
// weights serves them all. How many go together changes no number: each has its own sum, in the order of columns.

#pragma once

#include "dot.h"
#include "step.h"

namespace {

// Tokens in a tile: as many sums as there are registers for.
#if defined(GLMBOT_AVX512)
constexpr int kTile = 8, kFloatTile = 8;
#elif defined(__AVX2__)
constexpr int kTile = 4, kFloatTile = 6;
#elif defined(__aarch64__)
constexpr int kTile = 6, kFloatTile = 4;
#else
constexpr int kTile = 4, kFloatTile = 2;
#endif
constexpr int kMostInTile = kTile > kFloatTile ? kTile : kFloatTile;
constexpr int kAhead = 4096;  // bytes of weights that are asked for before they are needed

struct Product {
  const Weight* w;
  const float* x; int64_t x_stride;
  // code_low: instead of code_sum, where nothing says where a group's codes begin.
  const int8_t* codes; const float* scale; const float* code_sum; const int32_t* code_low; const void* narrow;
  int width;
  float* out; int64_t out_stride;
};

// A block of 16 rows with M tokens. Sums of integers are exact; the float sum runs over blocks of 32 columns.
template <int kBits, bool kGrouped, int M>
void integer_tile(const Product& p, int64_t row_block, int token, float* out) {
  constexpr bool kSigned = kBits == 8 && kSignedBytes;
  const Weight& w = *p.w;
  const int blocks = w.columns / kBlock;
  const int8_t* codes = p.codes + (int64_t)token * p.width;
  const float* scale = p.scale + (int64_t)token * blocks;
  const float* code_sum = p.code_sum + (int64_t)token * blocks;
  const int32_t* start = p.code_low + (int64_t)token * blocks;
  const uint8_t* data = (const uint8_t*)w.data + row_block * w.columns * kLanes * kBits / 8;
  const int64_t groups = row_block * w.groups;
  const int per_group = kGrouped ? blocks / w.groups : blocks;
  // The float sums of each token, and the factor and the low end of the group.
  alignas(64) float kept[M + 2][kLanes];
  float (&factor)[kLanes] = kept[M], (&low)[kLanes] = kept[M + 1];
  for (auto& one : kept) store(one, zeros());
  for (int block = 0, left = 0, group = 0; block < blocks; block++, left--) {
    if (kGrouped && left == 0) {
      const int64_t at = (groups + group++) * kLanes;
      left = per_group;
      const f16 scales = from_float16(w.scale + at), minimum = from_float16(w.minimum + at);
      store(factor, scales);
      store(low, kSigned ? fma16(scales, splat(128.0f), minimum) : minimum);
    }
    const uint8_t* here = data + (int64_t)block * kBlock * kLanes * kBits / 8;
    for (int line = 0; line < kBits; line++) __builtin_prefetch(here + kAhead + 64 * line);
    i16 sums[M];
#if defined(GLMBOT_AVX512)
    for (int m = 0; m < M; m++) sums[m] = every_lane(kGrouped ? 0 : start[m * blocks + block]);
#else
    // In memory, or the compiler would keep them in registers that the bytes' sums need.
    asm volatile("" : : "r"(kept) : "memory");
#endif
    block_sums<kBits, M>(here, codes + block * kBlock, p.width, sums);
    for (int m = 0; m < M; m++) {
      const int at = m * blocks + block;
      f16 whole = from_int(sums[m]);
      const f16 before = load(kept[m]);
      f16 after;
      if (kGrouped) {
        after = fma16(load(low), splat(code_sum[at]), fma16(whole, load(factor) * scale[at], before));
      } else {
#if !defined(GLMBOT_AVX512)
        if (!kSigned) whole = whole + splat((float)start[at]);
#endif
        after = fma16(whole, splat(scale[at]), before);
      }
      store(kept[m], after);
    }
  }
  const f16 of_rows = kGrouped ? splat(1.0f) : from_float16(w.scale + row_block * kLanes);
  for (int m = 0; m < M; m++) store(out + m * kLanes, load(kept[m]) * of_rows);
}

// The same of int8 with a scale for each 16 columns, and zero in the middle.
template <int M>
void halves_tile(const Product& p, int64_t row_block, int token, float* out) {
  const Weight& w = *p.w;
  const int blocks = w.columns / kBlock;
  const int8_t* codes = p.codes + (int64_t)token * p.width;
  const float* scale = p.scale + (int64_t)token * blocks;
  const uint8_t* data = (const uint8_t*)w.data + row_block * w.columns * kLanes;
  const uint16_t* scales = w.scale + row_block * w.groups * kLanes;
  alignas(64) float kept[M][kLanes];
  for (auto& one : kept) store(one, zeros());
  for (int half = 0; half < 2 * blocks; half++) {
    const uint8_t* here = data + (int64_t)half * (kBlock / 2) * kLanes;
    const int8_t* mine = codes + half * (kBlock / 2);
    for (int line = 0; line < 4; line++) __builtin_prefetch(here + kAhead + 64 * line);
    const f16 factor = from_float16(scales + (int64_t)half * kLanes);
    // Sums of codes of halves, by 16 bits each.
    const int16_t* half_sums = (const int16_t*)(p.code_low + (int64_t)token * blocks) + half;
    i16 sums[M];
#if defined(GLMBOT_AVX512)
    for (int m = 0; m < M; m++) sums[m] = every_lane(-128 * half_sums[2 * m * blocks]);
#endif
    asm volatile("" : : "r"(kept) : "memory");
    block_sums<8, M, 4>(here, mine, p.width, sums);
    for (int m = 0; m < M; m++) {
      f16 whole = from_int(sums[m]);
#if !defined(GLMBOT_AVX512)
      if (!kSignedBytes) whole = whole - splat(128.0f * (float)half_sums[2 * m * blocks]);
#endif
      store(kept[m], fma16(whole, factor * scale[m * blocks + half / 2], load(kept[m])));
    }
  }
  for (int m = 0; m < M; m++) store(out + m * kLanes, load(kept[m]));
}

// Activations beside bfloat16 weights: rounded to bfloat16, and float32 again where no instruction multiplies pairs.
#if defined(GLMBOT_AVX512) && defined(__AVX512BF16__)
typedef uint16_t narrow;
inline narrow to_narrow(float x) { return to_bfloat16(x); }
template <int M>
inline void pair_products(const uint16_t* weights, const narrow* x, int64_t stride, f16* acc) {
  const __m512bh loaded = (__m512bh)_mm512_loadu_si512(weights);
  for (int m = 0; m < M; m++) {
    int32_t two;
    memcpy(&two, x + m * stride, 4);
    acc[m] = (f16)_mm512_dpbf16_ps((__m512)acc[m], loaded, (__m512bh)_mm512_set1_epi32(two));
  }
}
#else
typedef float narrow;
inline narrow to_narrow(float x) { return from_bfloat16(to_bfloat16(x)); }
template <int M>
inline void pair_products(const uint16_t* weights, const narrow* x, int64_t stride, f16* acc) {
  const f16 first = first_of_pairs(weights);
  for (int m = 0; m < M; m++) acc[m] = fma16(first, splat(x[m * stride]), acc[m]);
  const f16 second = second_of_pairs(weights);
  for (int m = 0; m < M; m++) acc[m] = fma16(second, splat(x[m * stride + 1]), acc[m]);
}
#endif

// R blocks of 16 rows with M tokens: with few tokens several blocks, as each sum waits for its last product.
template <int R, int M>
void bfloat16_tile(const Product& p, int64_t row_block, int token, float* out) {
  const int64_t block = (int64_t)p.w->columns * kLanes;
  const uint16_t* data = (const uint16_t*)p.w->data + row_block * block;
  const narrow* x = (const narrow*)p.narrow + (int64_t)token * p.width;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = zeros();
  for (int column = 0; column < p.w->columns; column += 2)
    for (int r = 0; r < R; r++) {
      const uint16_t* weights = data + r * block + (int64_t)column * kLanes;
      __builtin_prefetch((const uint8_t*)weights + kAhead);
      pair_products<M>(weights, x + column, p.width, acc[r]);
    }
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) store(out + (r * M + m) * kLanes, acc[r][m]);
}

template <int R, int M>
void float32_tile(const Product& p, int64_t row_block, int token, float* out) {
  const int64_t block = (int64_t)p.w->columns * kLanes;
  const float* data = (const float*)p.w->data + row_block * block;
  const float* x = p.x + token * p.x_stride;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = zeros();
  for (int column = 0; column < p.w->columns; column++)
    for (int r = 0; r < R; r++) {
      const float* at = data + r * block + (int64_t)column * kLanes;
      __builtin_prefetch((const uint8_t*)at + kAhead);
      const f16 weights = load(at);
      for (int m = 0; m < M; m++) acc[r][m] = fma16(weights, splat(x[m * p.x_stride + column]), acc[r][m]);
    }
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) store(out + (r * M + m) * kLanes, acc[r][m]);
}

// The sums of `tokens`, at most M, with `together` blocks, into out[block][token][16].
template <int M>
void tile(const Product& p, int64_t row_block, int together, int token, int tokens, float* out) {
  if constexpr (M > 1)
    if (tokens < M) return tile<M - 1>(p, row_block, together, token, tokens, out);
  const Weight& w = *p.w;
  if constexpr (M <= kTile) {
    if (w.kind == kInt4 && w.minimum) return integer_tile<4, true, M>(p, row_block, token, out);
    if (w.kind == kInt4) return integer_tile<4, false, M>(p, row_block, token, out);
    if (w.kind == kInt8 && w.minimum) return integer_tile<8, true, M>(p, row_block, token, out);
    if (w.kind == kInt8 && w.groups > 1) return halves_tile<M>(p, row_block, token, out);
    if (w.kind == kInt8) return integer_tile<8, false, M>(p, row_block, token, out);
  }
  if constexpr (M <= kFloatTile) {
    constexpr int kMore = M == 1 ? 4 : M == 2 ? 2 : 1;
    const bool bfloat16 = w.kind == kBfloat16;
    if (together == 1) return bfloat16 ? bfloat16_tile<1, M>(p, row_block, token, out) : float32_tile<1, M>(p, row_block, token, out);
    return bfloat16 ? bfloat16_tile<kMore, M>(p, row_block, token, out) : float32_tile<kMore, M>(p, row_block, token, out);
  }
}

// out[token][rows of the block] (+)= product + bias, for the row blocks [begin, end) of one weight.
void blocks_of(const Product& p, int64_t begin, int64_t end, int tokens, bool adds) {
  const Weight& w = *p.w;
  float part[kMostInTile * kLanes * 4];
  const bool integers = w.kind == kInt8 || w.kind == kInt4;
  const int most = integers ? kTile : kFloatTile;
  const int wanted = integers ? 1 : tokens == 1 ? 4 : tokens == 2 ? 2 : 1;
  for (int64_t block = begin; block < end;) {
    const int together = end - block >= wanted ? wanted : 1;
    for (int token = 0; token < tokens; token += most) {
      const int some = tokens - token < most ? tokens - token : most;
      tile<kMostInTile>(p, block, together, token, some, part);
      for (int r = 0; r < together; r++)
        for (int m = 0; m < some; m++) {
          const int64_t first = (block + r) * kLanes;
          float* out = p.out + (token + m) * p.out_stride + first;
          const int rows = w.rows - first < kLanes ? (int)(w.rows - first) : kLanes;
          const float* sums = part + (r * some + m) * kLanes;
          if (rows == kLanes) {
            f16 value = load(sums) + (w.bias ? load(w.bias + first) : zeros());
            store(out, adds ? load(out) + value : value);
            continue;
          }
          for (int lane = 0; lane < rows; lane++) {
            const float value = sums[lane] + (w.bias ? w.bias[first + lane] : 0.0f);
            out[lane] = adds ? out[lane] + value : value;
          }
        }
    }
    block += together;
  }
}

}  // namespace
