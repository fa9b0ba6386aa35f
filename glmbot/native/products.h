// Products with packed weights.

#pragma once

#include "dot.h"
#include "step.h"

namespace {

#if defined(GLMBOT_AVX2)
constexpr int kTile = 4;     // tokens that share one reading of the weights: as many sums as there are registers for
#else
constexpr int kTile = 8;
#endif
constexpr int kAhead = 4096; // bytes of weights that are asked for before they are needed

// R blocks of 16 rows with M tokens. Sums of integers are exact; the float sum runs over blocks of 32 columns.
template <int kBits, bool kGrouped, int R, int M>
void integer_tile(const Weight& w, int row_block, const int8_t* codes, const float* scale, const float* code_sum,
                  int width, float* out, int64_t out_stride) {
  const int blocks = w.columns / kBlock;
  const int64_t bytes = (int64_t)w.columns * kLanes * kBits / 8;
  const uint8_t* data = (const uint8_t*)w.data + row_block * bytes;
  const int per_group = kGrouped ? blocks / w.groups : blocks;
  const float middle = kSigned<kBits> ? 0.0f : kBits == 8 ? -128.0f : -8.0f;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = zeros();
  f16 factor[R], low[R];
  for (int r = 0; r < R; r++) factor[r] = low[r] = zeros();
  for (int block = 0; block < blocks; block++) {
    if (kGrouped && block % per_group == 0) {
      for (int r = 0; r < R; r++) {
        const int64_t at = ((int64_t)(row_block + r) * w.groups + block / per_group) * kLanes;
        factor[r] = from_float16(w.scale + at);
        low[r] = from_float16(w.minimum + at);
        if (kSigned<kBits>) low[r] = fma16(factor[r], splat(128.0f), low[r]);
      }
    }
    for (int r = 0; r < R; r++) {
      const uint8_t* here = data + r * bytes + (int64_t)block * kBlock * kLanes * kBits / 8;
      for (int line = 0; line < kBits; line++) __builtin_prefetch(here + kAhead + 64 * line);
      i16 sums[M];
      block_sums<kBits, M>(here, codes + block * kBlock, width, sums);
      for (int m = 0; m < M; m++) {
        const int at = m * (width / kBlock) + block;
        const f16 whole = from_int(sums[m]);
        if (kGrouped) {
          acc[r][m] = fma16(low[r], splat(code_sum[at]), fma16(whole, factor[r] * scale[at], acc[r][m]));
        } else if (kSigned<kBits>) {
          acc[r][m] = fma16(whole, splat(scale[at]), acc[r][m]);
        } else {
          acc[r][m] += fma16(whole, splat(scale[at]), splat(middle * code_sum[at]));
        }
      }
    }
  }
  for (int r = 0; r < R; r++) {
    f16 rows_scale = splat(1.0f);
    if (!kGrouped) rows_scale = from_float16(w.scale + (int64_t)(row_block + r) * kLanes);
    for (int m = 0; m < M; m++) store(out + m * out_stride + r * kLanes, acc[r][m] * rows_scale);
  }
}

#if defined(__AVX512BF16__)
inline f16 pair_product(f16 acc, const uint16_t* weights, const uint16_t* activations) {
  int32_t two;
  memcpy(&two, activations, 4);
  return (f16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(weights), (__m512bh)_mm512_set1_epi32(two));
}
#else
inline f16 pair_product(f16 acc, const uint16_t* weights, const uint16_t* activations) {
  acc = fma16(first_of_pairs(weights), splat(from_bfloat16(activations[0])), acc);
  return fma16(second_of_pairs(weights), splat(from_bfloat16(activations[1])), acc);
}
#endif

// activations: bfloat16 [M, width].
template <int R, int M>
void bfloat16_tile(const Weight& w, int row_block, const uint16_t* activations, int width, float* out,
                   int64_t out_stride) {
  const int64_t block = (int64_t)w.columns * kLanes;
  const uint16_t* data = (const uint16_t*)w.data + row_block * block;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = zeros();
  for (int column = 0; column < w.columns; column += 2)
    for (int r = 0; r < R; r++) {
      const uint16_t* weights = data + r * block + (int64_t)column * kLanes;
      __builtin_prefetch((const uint8_t*)weights + kAhead);
      for (int m = 0; m < M; m++)
        acc[r][m] = pair_product(acc[r][m], weights, activations + (int64_t)m * width + column);
    }
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) store(out + m * out_stride + r * kLanes, acc[r][m]);
}

template <int R, int M>
void float32_tile(const Weight& w, int row_block, const float* x, int64_t x_stride, float* out, int64_t out_stride) {
  const int64_t block = (int64_t)w.columns * kLanes;
  const float* data = (const float*)w.data + row_block * block;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = zeros();
  for (int column = 0; column < w.columns; column++)
    for (int r = 0; r < R; r++) {
      const float* at = data + r * block + (int64_t)column * kLanes;
      __builtin_prefetch((const uint8_t*)at + kAhead);
      const f16 weights = load(at);
      for (int m = 0; m < M; m++) acc[r][m] = fma16(weights, splat(x[m * x_stride + column]), acc[r][m]);
    }
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) store(out + m * out_stride + r * kLanes, acc[r][m]);
}

struct Product {
  const Weight* w;
  const float* x; int64_t x_stride;
  const int8_t* codes; const float* scale; const float* code_sum; const uint16_t* pairs;
  int width;
  float* out; int64_t out_stride;
};

template <int R, int M>
void tile(const Product& p, int row_block, int token, float* out) {
  const Weight& w = *p.w;
  const int64_t c = (int64_t)token * p.width, s = c / kBlock;
  const int64_t stride = kLanes * R;
  if (w.kind == kInt4 && w.minimum)
    integer_tile<4, true, R, M>(w, row_block, p.codes + c, p.scale + s, p.code_sum + s, p.width, out, stride);
  else if (w.kind == kInt4)
    integer_tile<4, false, R, M>(w, row_block, p.codes + c, p.scale + s, p.code_sum + s, p.width, out, stride);
  else if (w.kind == kInt8 && w.minimum)
    integer_tile<8, true, R, M>(w, row_block, p.codes + c, p.scale + s, p.code_sum + s, p.width, out, stride);
  else if (w.kind == kInt8)
    integer_tile<8, false, R, M>(w, row_block, p.codes + c, p.scale + s, p.code_sum + s, p.width, out, stride);
  else if (w.kind == kBfloat16)
    bfloat16_tile<R, M>(w, row_block, p.pairs + c, p.width, out, stride);
  else
    float32_tile<R, M>(w, row_block, p.x + token * p.x_stride, p.x_stride, out, stride);
}

template <int R>
void tile_of(const Product& p, int row_block, int token, int tokens, float* out) {
  switch (tokens) {
    case 1: return tile<R, 1>(p, row_block, token, out);
    case 2: return tile<R, 2>(p, row_block, token, out);
    case 3: return tile<R, 3>(p, row_block, token, out);
#if !defined(GLMBOT_AVX2)
    case 4: return tile<R, 4>(p, row_block, token, out);
    case 5: return tile<R, 5>(p, row_block, token, out);
    case 6: return tile<R, 6>(p, row_block, token, out);
    case 7: return tile<R, 7>(p, row_block, token, out);
#endif
    default: return tile<R, kTile>(p, row_block, token, out);
  }
}

// out[token][rows of the block] (+)= product + bias, for the row blocks [begin, end) of one weight.
void blocks_of(const Product& p, int64_t begin, int64_t end, int tokens, bool adds) {
  const Weight& w = *p.w;
  float part[kTile * kLanes * 4];
  const bool whole = w.kind == kInt8 || w.kind == kInt4;
  for (int64_t block = begin; block < end;) {
    // Integers: one block at a time reads memory in one stream. Floats: several, as each waits for its last sum.
    const int most = kTile / 2;  // rows and tokens whose float sums fit the registers
    const int wanted = whole ? (tokens == 2 ? 2 : 1) : tokens <= most / 2 ? 4 : tokens <= most ? 2 : 1;
    const int together = end - block >= wanted ? wanted : 1;
    for (int token = 0; token < tokens; token += kTile) {
      const int some = tokens - token < kTile ? tokens - token : kTile;
      if (together == 4) tile_of<4>(p, (int)block, token, some, part);
      else if (together == 2) tile_of<2>(p, (int)block, token, some, part);
      else tile_of<1>(p, (int)block, token, some, part);
      const int wide = kLanes * together;
      for (int m = 0; m < some; m++) {
        float* out = p.out + (token + m) * p.out_stride + block * kLanes;
        for (int lane = 0; lane < wide; lane++) {
          const int64_t row = block * kLanes + lane;
          if (row >= w.rows) break;
          const float value = part[m * wide + lane] + (w.bias ? w.bias[row] : 0.0f);
          out[lane] = adds ? out[lane] + value : value;
        }
      }
    }
    block += together;
  }
}

}  // namespace
