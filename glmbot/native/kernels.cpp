// One step of a transformer on the CPU, as a program of a few kinds of operation.
//
// A step costs thousands of small operations; dispatching them one by one from Python takes longer than computing
// them. So a model is lowered once to a list of operations (glmbot/native/program.py), and a whole step is one call.
//
// Every number of a token depends on that token's own row alone, in one order of additions, whatever else is in the
// step. So an answer is the same, bit for bit, alone and in any company, and however its prompt was cut in chunks.
//
// Hidden states are float32 [tokens, width]. Weights lie in blocks of 16 output rows, so that a vector register holds
// one column (or 2, or 4) of 16 rows, and the sum over columns needs no sum across a register.

#include "vectors.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(_OPENMP)
#include <omp.h>
#endif

#define API extern "C" __attribute__((visibility("default")))

namespace {

// Output rows in a block: kLanes.
constexpr int kBlock = 32;   // columns that share one scale of the quantised activations
#if defined(GLMBOT_AVX2)
constexpr int kTile = 4;     // tokens that share one reading of the weights: as many sums as there are registers for
#else
constexpr int kTile = 8;
#endif
constexpr int kAhead = 4096; // bytes of weights that are asked for before they are needed

enum WeightKind { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2, kInt4 = 3, kRowsBfloat16 = 4, kRowsFloat32 = 5 };

// ---- the step ----------------------------------------------------------------------------------------------------

struct Weight {
  int32_t kind, rows, columns, groups;  // groups of columns that share a scale; 0 when there are no scales
  const void* data;
  const uint16_t* scale;    // float16 [rows / 16][groups][16]
  const uint16_t* minimum;  // likewise, or null: then there is one group, and the middle of the range is zero
  const float* bias;        // [rows], or null
};

enum OpKind { kNorm = 0, kLinear = 1, kRotate = 2, kAttend = 3, kActivate = 4, kScale = 5, kGather = 6 };

struct Op {
  int32_t kind;
  int32_t src, dst;            // buffers
  int32_t src_at, dst_at;      // first column
  int32_t width;               // columns
  int32_t a, b, c, d, e, f, g; // what each kind makes of them, below
  float x, y;
  const void* p;
  const void* q;
};

struct Step {
  int32_t tokens, drawing;         // tokens in the step, rows of which logits are wanted
  const int32_t* place;            // [tokens] where a token's key and value go in the arena
  const int32_t* base;             // [tokens] where its sequence begins there
  const int32_t* count;            // [tokens] how many keys it sees
  const int32_t* drawn;            // [drawing] rows of tokens
  const float* cosines;            // [tables][tokens][angles]
  const float* sines;
  int32_t angles;                  // of one table
  int32_t cache_float32;           // dtype of keys and values: float32, or bfloat16
  int64_t capacity;                // tokens of the arena
  void** keys;                     // per layer [kv_heads, capacity, head_dim]
  void** values;
  float** buffers;                 // each [tokens, its width]
  const int32_t* widths;
  int8_t* codes;                   // quantised activations [tokens, widest]
  float* code_scale;               // [tokens, widest / 32]
  float* code_sum;                 // likewise: scale times the sum of the codes
};

struct Share { int64_t begin, end; };

inline Share share(int64_t items, int thread, int threads) {
  return {items * thread / threads, items * (thread + 1) / threads};
}

// ---- quantised activations ---------------------------------------------------------------------------------------

void quantise(const float* x, int columns, int8_t* codes, float* scale, float* code_sum) {
  for (int block = 0; block < columns / kBlock; block++) {
    const float* in = x + block * kBlock;
    f16 low = load(in), high = load(in + 16);
    float part[kLanes];
    store(part, larger(absolute(low), absolute(high)));
    float largest = 0;
    for (int lane = 0; lane < kLanes; lane++) largest = part[lane] > largest ? part[lane] : largest;
    float factor = largest / 127.0f;
    // NaN must not be lost on the way: it spoils the scale.
    const float check = sum(low) + sum(high);
    if (!(check - check == 0.0f)) factor = check - check;
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    // The addition rounds to the nearest whole number.
    const i16 first = to_int(low * inverse + 12582912.0f - 12582912.0f);
    const i16 second = to_int(high * inverse + 12582912.0f - 12582912.0f);
    store_bytes(codes + block * kBlock, first);
    store_bytes(codes + block * kBlock + kLanes, second);
    scale[block] = factor;
    code_sum[block] = factor * (float)sum(first + second);
  }
}

// ---- products ----------------------------------------------------------------------------------------------------

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

inline f16 load_cached(const void* cache, int64_t at, bool wide) {
  return wide ? load((const float*)cache + at) : from_bfloat16((const uint16_t*)cache + at);
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

// Weights that stay row by row, because they are the table of embeddings too. 4 rows with M tokens, the sums in
// acc[row][token].
template <int M>
inline void row_sums(const Product& p, int64_t first, int rows, int token, f16* acc) {
  const Weight& w = *p.w;
  const bool wide = w.kind == kRowsFloat32;
  int64_t at[4];
  for (int row = 0; row < 4; row++) at[row] = (first + (row < rows ? row : 0)) * w.columns;
  for (int i = 0; i < 4 * M; i++) acc[i] = zeros();
  int column = 0;
#if defined(__AVX512BF16__)
  for (; !wide && column + 2 * kLanes <= w.columns; column += 2 * kLanes)
    for (int row = 0; row < 4; row++) {
      const uint16_t* weights = (const uint16_t*)w.data + at[row] + column;
      __builtin_prefetch(weights + kAhead / 2);
      const __m512bh loaded = (__m512bh)_mm512_loadu_si512(weights);
      for (int m = 0; m < M; m++)
        acc[row * M + m] = (f16)_mm512_dpbf16_ps(
            (__m512)acc[row * M + m], loaded,
            (__m512bh)_mm512_loadu_si512(p.pairs + (int64_t)(token + m) * p.width + column));
    }
#endif
  for (; column < w.columns; column += kLanes)
    for (int row = 0; row < 4; row++) {
      const f16 weights = load_cached(w.data, at[row] + column, wide);
      for (int m = 0; m < M; m++)
        acc[row * M + m] = fma16(weights, load(p.x + (token + m) * p.x_stride + column), acc[row * M + m]);
    }
}

template <int M>
void rows_with(const Product& p, int64_t first, int rows, int token, bool adds) {
  const Weight& w = *p.w;
  // As many rows as make 16 sums.
  constexpr int kRows = kLanes / M;
  for (int row = 0; row < rows; row += kRows) {
    const int some = rows - row < kRows ? rows - row : kRows;
    f16 acc[kLanes];
    for (int i = 0; i < kLanes; i++) acc[i] = zeros();
    for (int part = 0; part < some; part += 4)
      row_sums<M>(p, first + row + part, some - part, token, acc + part * M);
    float sums[kLanes];
    store(sums, sums_of_16(acc));
    for (int r = 0; r < some; r++)
      for (int m = 0; m < M; m++) {
        float* out = p.out + (token + m) * p.out_stride + first + row + r;
        const float value = sums[r * M + m] + (w.bias ? w.bias[first + row + r] : 0.0f);
        *out = adds ? *out + value : value;
      }
  }
}

void rows_of(const Product& p, int64_t begin, int64_t end, int tokens, bool adds) {
  for (int64_t block = begin; block < end; block++) {
    const int64_t first = block * kLanes;
    const int some = p.w->rows - first < kLanes ? (int)(p.w->rows - first) : kLanes;
    int token = 0;
    for (; token + 4 <= tokens; token += 4) rows_with<4>(p, first, some, token, adds);
    if (token + 2 <= tokens) {
      rows_with<2>(p, first, some, token, adds);
      token += 2;
    }
    if (token < tokens) rows_with<1>(p, first, some, token, adds);
  }
}

// ---- the other operations ----------------------------------------------------------------------------------------

// a: 0 RMS, 1 layer norm; b: pieces of `width` columns, each by itself; x: epsilon. p: weight, q: bias or null.
void norm_piece(const Op& op, const float* in, float* out) {
  const float* weight = (const float*)op.p;
  const float* bias = (const float*)op.q;
  f16 total = zeros(), squares = zeros();
  float mean = 0;
  if (op.a == 1) {
    for (int i = 0; i < op.width; i += kLanes) total += load(in + i);
    mean = sum(total) / op.width;
  }
  for (int i = 0; i < op.width; i += kLanes) {
    f16 centred = load(in + i) - mean;
    squares = fma16(centred, centred, squares);
  }
  const float factor = 1.0f / sqrtf(sum(squares) / op.width + op.x);
  for (int i = 0; i < op.width; i += kLanes) {
    f16 value = (load(in + i) - mean) * factor * load(weight + i);
    if (bias) value += load(bias + i);
    store(out + i, value);
  }
}

void norm_row(const Op& op, const float* in, float* out) {
  for (int piece = 0; piece < op.b; piece++) norm_piece(op, in + piece * op.width, out + piece * op.width);
}

// a: heads, b: columns from head to head, c: angles, d: 0 the first half turns against the second, 1 neighbours turn
// against each other; e: which table.
void rotate_row(const Op& op, const Step& step, int token, float* row) {
  const int64_t at = ((int64_t)op.e * step.tokens + token) * step.angles;
  const float* cosines = step.cosines + at;
  const float* sines = step.sines + at;
  for (int head = 0; head < op.a; head++) {
    float* x = row + op.src_at + head * op.b;
    for (int i = 0; i < op.c; i++) {
      const int one = op.d ? 2 * i : i, two = op.d ? 2 * i + 1 : i + op.c;
      const float low = x[one], high = x[two];
      x[one] = low * cosines[i] - high * sines[i];
      x[two] = high * cosines[i] + low * sines[i];
    }
  }
}

void write_cached(void* cache, int64_t at, const float* in, int head_dim, bool wide) {
  if (wide) {
    memcpy((float*)cache + at, in, sizeof(float) * head_dim);
    return;
  }
  for (int i = 0; i < head_dim; i++) ((uint16_t*)cache)[at + i] = to_bfloat16(in[i]);
}

inline f16 key_part(const void* keys, int64_t at, bool wide, const float* query, const uint16_t* pairs, int head_dim) {
  f16 dots = zeros();
#if defined(__AVX512BF16__)
  if (!wide && head_dim % 32 == 0) {
    const uint16_t* k = (const uint16_t*)keys + at;
    for (int i = 0; i < head_dim; i += 32)
      dots = (f16)_mm512_dpbf16_ps((__m512)dots, (__m512bh)_mm512_loadu_si512(k + i),
                                   (__m512bh)_mm512_loadu_si512(pairs + i));
    return dots;
  }
#endif
  for (int i = 0; i < head_dim; i += kLanes) dots = fma16(load_cached(keys, at + i, wide), load(query + i), dots);
  return dots;
}

// One token, H (at most 4) query heads that share a key head. Keys in blocks of 16, softmax as it goes
// (Milakov and Gimelshein 2018, arXiv:1805.02867).
template <int H>
void attend_heads(const float* const* query, const void* keys, const void* values, int64_t first, int count, int head_dim,
                  bool wide, float scaling, float* const* out) {
  constexpr int kMost = 256 / kLanes;
  f16 acc[H][kMost];
  uint16_t pairs[H][256];
  float largest[H], total[H];
  const int parts = head_dim / kLanes;
  for (int h = 0; h < H; h++) {
    largest[h] = -INFINITY;
    total[h] = 0;
    for (int part = 0; part < parts; part++) acc[h][part] = zeros();
    for (int i = 0; i < head_dim; i++) pairs[h][i] = to_bfloat16(query[h][i]);
  }
  for (int key = 0; key < count; key += kLanes) {
    const int some = count - key < kLanes ? count - key : kLanes;
    float weights[H][kLanes];
    for (int h = 0; h < H; h++) {
      f16 dots[kLanes];
      for (int j = 0; j < some; j++)
        dots[j] = key_part(keys, (first + key + j) * head_dim, wide, query[h], pairs[h], head_dim);
      for (int j = some; j < kLanes; j++) dots[j] = zeros();
      float scores[kLanes];
      store(scores, sums_of_16(dots) * scaling);
      float highest = largest[h];
      for (int j = 0; j < some; j++) highest = scores[j] > highest ? scores[j] : highest;
      if (highest > largest[h]) {
        const float less = first_lane(exponential(splat(largest[h] - highest)));
        total[h] *= less;
        for (int part = 0; part < parts; part++) acc[h][part] *= less;
        largest[h] = highest;
      }
      store(weights[h], exponential(load(scores) - highest));
      for (int j = some; j < kLanes; j++) weights[h][j] = 0;
      total[h] += sum(load(weights[h]));
    }
    for (int part = 0; part < parts; part++) {
      f16 mixed[H];
      for (int h = 0; h < H; h++) mixed[h] = acc[h][part];
      for (int j = 0; j < some; j++) {
        const f16 v = load_cached(values, (first + key + j) * head_dim + part * kLanes, wide);
        for (int h = 0; h < H; h++) mixed[h] = fma16(v, splat(weights[h][j]), mixed[h]);
      }
      for (int h = 0; h < H; h++) acc[h][part] = mixed[h];
    }
  }
  for (int h = 0; h < H; h++)
    for (int part = 0; part < parts; part++) store(out[h] + part * kLanes, acc[h][part] / total[h]);
}

// a: query heads, b: key heads, c: head_dim, d: columns from query head to query head, e: likewise of keys and values,
// f: layer, g: sliding window or 0. src_at: first query column, dst_at: first column of the result.
// x: scaling. width: first key column; p holds the first value column.
void attend_token(const Op& op, const Step& step, int token, int first_head, int heads, const float* row, float* out) {
  const int per_key = op.a / op.b;
  const int key_head = first_head / per_key;
  const int64_t seen = step.count[token];
  const int64_t skipped = op.g && seen > op.g ? seen - op.g : 0;
  const int64_t first = (int64_t)key_head * step.capacity + step.base[token] + skipped;
  const float* query[4];
  float* result[4];
  for (int h = 0; h < heads; h++) {
    query[h] = row + op.src_at + (int64_t)(first_head + h) * op.d;
    result[h] = out + op.dst_at + (int64_t)(first_head + h) * op.c;
  }
  const void* keys = step.keys[op.f];
  const void* values = step.values[op.f];
  const int count = (int)(seen - skipped);
  const bool wide = step.cache_float32;
  switch (heads) {
    case 1: return attend_heads<1>(query, keys, values, first, count, op.c, wide, op.x, result);
    case 2: return attend_heads<2>(query, keys, values, first, count, op.c, wide, op.x, result);
    case 3: return attend_heads<3>(query, keys, values, first, count, op.c, wide, op.x, result);
    default: return attend_heads<4>(query, keys, values, first, count, op.c, wide, op.x, result);
  }
}

// a: 0 silu(gate) * up, gate at src_at and up at b; 1 gelu (tanh form).
void activate_row(const Op& op, const float* in, float* out) {
  for (int i = 0; i < op.width; i += kLanes) {
    const f16 gate = load(in + op.src_at + i);
    if (op.a == 0) {
      store(out + op.dst_at + i, gate / (1.0f + exponential(-gate)) * load(in + op.b + i));
    } else {
      // tanh(z) = 1 - 2 / (e^2z + 1)
      const f16 z = 0.7978845608028654f * (gate + 0.044715f * gate * gate * gate);
      store(out + op.dst_at + i, 0.5f * gate * (2.0f - 2.0f / (exponential(z * 2.0f) + 1.0f)));
    }
  }
}

inline void barrier() {
#if defined(_OPENMP)
#pragma omp barrier
#endif
}

// p: Weight[a], their results beside each other from dst_at on; b: added to what is there.
void linear(const Op& op, const Step& step, int tokens, int thread, int threads) {
  const Weight* weights = (const Weight*)op.p;
  const float* x = step.buffers[op.src] + op.src_at;
  const int64_t x_stride = step.widths[op.src];
  const int kind = weights[0].kind;
  const Share own = share(tokens, thread, threads);
  if (kind == kInt8 || kind == kInt4) {
    for (int64_t token = own.begin; token < own.end; token++)
      quantise(x + token * x_stride, op.width, step.codes + token * op.width,
               step.code_scale + token * (op.width / kBlock), step.code_sum + token * (op.width / kBlock));
    barrier();
  } else if (kind == kBfloat16 || kind == kRowsBfloat16) {
    uint16_t* pairs = (uint16_t*)step.code_scale;
    for (int64_t token = own.begin; token < own.end; token++)
      for (int column = 0; column < op.width; column++)
        pairs[token * op.width + column] = to_bfloat16(x[token * x_stride + column]);
    barrier();
  }
  int64_t all = 0;
  const bool by_row = kind == kRowsBfloat16 || kind == kRowsFloat32;
  for (int i = 0; i < op.a; i++) all += (weights[i].rows + kLanes - 1) / kLanes;
  const Share mine = share(all, thread, threads);
  int64_t done = 0, column = op.dst_at;
  for (int i = 0; i < op.a; i++) {
    const Weight& w = weights[i];
    const int64_t items = (w.rows + kLanes - 1) / kLanes;
    const int64_t begin = mine.begin > done ? mine.begin - done : 0;
    const int64_t end = mine.end - done < items ? mine.end - done : items;
    Product product = {&w, x, x_stride, step.codes, step.code_scale, step.code_sum, (const uint16_t*)step.code_scale,
                       op.width, step.buffers[op.dst] + column, step.widths[op.dst]};
    if (begin < end) {
      if (by_row) rows_of(product, begin, end, tokens, op.b);
      else blocks_of(product, begin, end, tokens, op.b);
    }
    done += items;
    column += w.rows;
  }
}

void attend(const Op& op, const Step& step, int thread, int threads) {
  const float* src = step.buffers[op.src];
  const int64_t src_stride = step.widths[op.src], dst_stride = step.widths[op.dst];
  const int key_at = op.width, value_at = (int)(intptr_t)op.p;
  const Share own = share((int64_t)step.tokens * op.b, thread, threads);
  for (int64_t item = own.begin; item < own.end; item++) {
    const int token = (int)(item / op.b), head = (int)(item % op.b);
    const int64_t at = ((int64_t)head * step.capacity + step.place[token]) * op.c;
    const float* row = src + token * src_stride;
    write_cached(step.keys[op.f], at, row + key_at + (int64_t)head * op.e, op.c, step.cache_float32);
    write_cached(step.values[op.f], at, row + value_at + (int64_t)head * op.e, op.c, step.cache_float32);
  }
  barrier();
  // Few tokens: each head is a piece of work, so that no thread waits. Many: heads that share keys go together.
  const int per_key = op.a / op.b;
  const int together = step.tokens * op.b < 8 * threads ? 1 : per_key % 4 == 0 ? 4 : per_key % 3 == 0 ? 3 : per_key % 2 == 0 ? 2 : 1;
  const int pieces = op.a / together;
  const int64_t work = (int64_t)step.tokens * pieces;
  // Later tokens see more: they are dealt out in turn.
  for (int64_t item = thread; item < work; item += threads) {
    const int token = (int)(item / pieces), piece = (int)(item % pieces);
    attend_token(op, step, token, piece * together, together, src + token * src_stride,
                 step.buffers[op.dst] + token * dst_stride);
  }
}

void run(const Op* ops, int count, const Step& step, int thread, int threads) {
  int tokens = step.tokens;
  for (int i = 0; i < count; i++) {
    const Op& op = ops[i];
    const float* src = step.buffers[op.src];
    float* dst = step.buffers[op.dst];
    const int64_t src_stride = step.widths[op.src], dst_stride = step.widths[op.dst];
    const Share own = share(tokens, thread, threads);
    switch (op.kind) {
      case kNorm:
        for (int64_t t = own.begin; t < own.end; t++)
          norm_row(op, src + t * src_stride + op.src_at, dst + t * dst_stride + op.dst_at);
        break;
      case kLinear: linear(op, step, tokens, thread, threads); break;
      case kRotate:
        for (int64_t t = own.begin; t < own.end; t++) rotate_row(op, step, (int)t, dst + t * dst_stride);
        break;
      case kAttend: attend(op, step, thread, threads); break;
      case kActivate:
        for (int64_t t = own.begin; t < own.end; t++) activate_row(op, src + t * src_stride, dst + t * dst_stride);
        break;
      case kScale:  // dst = x * src + y * dst
        for (int64_t t = own.begin; t < own.end; t++)
          for (int c = 0; c < op.width; c++) {
            float& out = dst[t * dst_stride + op.dst_at + c];
            out = op.x * src[t * src_stride + op.src_at + c] + (op.y != 0.0f ? op.y * out : 0.0f);
          }
        break;
      case kGather:  // from here on only the rows that draw
        tokens = step.drawing;
        for (int64_t t = share(tokens, thread, threads).begin; t < share(tokens, thread, threads).end; t++)
          memcpy(dst + t * dst_stride, src + step.drawn[t] * src_stride, sizeof(float) * op.width);
        break;
    }
    barrier();
  }
}

}  // namespace

API void glmbot_step(const Op* ops, int count, const Step* step, int threads) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  run(ops, count, *step, omp_get_thread_num(), omp_get_num_threads());
#else
  run(ops, count, *step, 0, 1);
#endif
}

// What the compiler was allowed to use, in words.
API const char* glmbot_features() {
  return ""
#if defined(__AVX512VNNI__)
      "avx512-vnni "
#elif defined(__AVX512F__)
      "avx512 "
#elif defined(GLMBOT_AVX2)
      "avx2 "
#endif
#if defined(__AVX512BF16__)
      "avx512-bf16 "
#endif
#if defined(_OPENMP)
      "openmp"
#endif
      ;
}
