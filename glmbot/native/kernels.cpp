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

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

#define API extern "C" __attribute__((visibility("default")))

namespace {

typedef float f16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t u16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t b16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));

constexpr int kLanes = 16;   // output rows in a block
constexpr int kBlock = 32;   // columns that share one scale of the quantised activations
constexpr int kTile = 8;     // tokens that share one reading of the weights
constexpr int kAhead = 4096; // bytes of weights that are asked for before they are needed

enum WeightKind { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2, kInt4 = 3, kRowsBfloat16 = 4, kRowsFloat32 = 5 };

inline f16 splat(float x) { return f16{} + x; }
inline f16 load(const float* p) { return *(const f16*)p; }
inline void store(float* p, f16 v) { *(f16*)p = v; }

inline f16 from_bfloat16(const uint16_t* p) {
  return (f16)(__builtin_convertvector(*(const h16*)p, u16) << 16);
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
// The sum of a register, in an order of its own that never changes.
inline float sum(f16 v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; lane++) part[lane] += part[lane + half];
  return part[0];
}
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
inline f16 smaller(f16 a, f16 b) { return a < b ? a : b; }
inline f16 larger(f16 a, f16 b) { return a > b ? a : b; }

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
  i16 power = (__builtin_convertvector(n, i16) + 127) << 23;
  return p * (f16)power;
}

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
    f16 size_low = low < 0.0f ? -low : low, size_high = high < 0.0f ? -high : high;
    float part[kLanes];
    store(part, larger(size_low, size_high));
    float largest = 0;
    for (int lane = 0; lane < kLanes; lane++) largest = part[lane] > largest ? part[lane] : largest;
    float factor = largest / 127.0f;
    // NaN must not be lost on the way: it spoils the scale.
    const float check = sum(low) + sum(high);
    if (!(check - check == 0.0f)) factor = check - check;
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    // The addition rounds to the nearest whole number.
    const i16 first = __builtin_convertvector(low * inverse + 12582912.0f - 12582912.0f, i16);
    const i16 second = __builtin_convertvector(high * inverse + 12582912.0f - 12582912.0f, i16);
    *(b16*)(codes + block * kBlock) = __builtin_convertvector(first, b16);
    *(b16*)(codes + block * kBlock + kLanes) = __builtin_convertvector(second, b16);
    const i16 both = first + second;
    int total = 0;
    for (int lane = 0; lane < kLanes; lane++) total += both[lane];
    scale[block] = factor;
    code_sum[block] = factor * (float)total;
  }
}

// ---- products ----------------------------------------------------------------------------------------------------

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

// R blocks of 16 rows with M tokens. Sums of integers are exact; the float sum runs over blocks of 32 columns.
template <int kBits, bool kGrouped, int R, int M>
void integer_tile(const Weight& w, int row_block, const int8_t* codes, const float* scale, const float* code_sum,
                  int width, float* out, int64_t out_stride) {
  const int blocks = w.columns / kBlock;
  const int64_t bytes = (int64_t)w.columns * kLanes * kBits / 8;
  const uint8_t* data = (const uint8_t*)w.data + row_block * bytes;
  const int per_group = kGrouped ? blocks / w.groups : blocks;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = f16{};
  f16 factor[R], low[R];
  for (int r = 0; r < R; r++) factor[r] = low[r] = f16{};
  for (int block = 0; block < blocks; block++) {
    if (kGrouped && block % per_group == 0) {
      for (int r = 0; r < R; r++) {
        const int64_t at = ((int64_t)(row_block + r) * w.groups + block / per_group) * kLanes;
        factor[r] = from_float16(w.scale + at);
        low[r] = from_float16(w.minimum + at);
      }
    }
    for (int r = 0; r < R; r++) {
      codes64 weights[8];
      const uint8_t* ahead = data + r * bytes + (int64_t)block * kBlock * kLanes * kBits / 8 + kAhead;
      for (int line = 0; line < kBits; line++) __builtin_prefetch(ahead + 64 * line);
      load_block<kBits>(data + r * bytes + (int64_t)block * kBlock * kLanes * kBits / 8, weights);
      for (int m = 0; m < M; m++) {
        const int8_t* a = codes + (int64_t)m * width + block * kBlock;
        i16 first = {}, second = {};
        for (int part = 0; part < 8; part += 2) {
          first = dot4(first, weights[part], a + 4 * part);
          second = dot4(second, weights[part + 1], a + 4 * part + 4);
        }
        const int at = m * (width / kBlock) + block;
        f16 whole = __builtin_convertvector(first + second, f16);
        if (kGrouped) {
          acc[r][m] = fma16(low[r], splat(code_sum[at]), fma16(whole, factor[r] * scale[at], acc[r][m]));
        } else {
          const f16 middle = splat((kBits == 8 ? -128.0f : -8.0f) * code_sum[at]);
          acc[r][m] += fma16(whole, splat(scale[at]), middle);
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
  u16 both = *(const u16*)weights;
  acc = fma16((f16)(both << 16), splat(from_bfloat16(activations[0])), acc);
  return fma16((f16)(both & 0xffff0000u), splat(from_bfloat16(activations[1])), acc);
}
#endif

// activations: bfloat16 [M, width].
template <int R, int M>
void bfloat16_tile(const Weight& w, int row_block, const uint16_t* activations, int width, float* out,
                   int64_t out_stride) {
  const int64_t block = (int64_t)w.columns * kLanes;
  const uint16_t* data = (const uint16_t*)w.data + row_block * block;
  f16 acc[R][M];
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = f16{};
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
  for (int r = 0; r < R; r++) for (int m = 0; m < M; m++) acc[r][m] = f16{};
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
    case 4: return tile<R, 4>(p, row_block, token, out);
    case 5: return tile<R, 5>(p, row_block, token, out);
    case 6: return tile<R, 6>(p, row_block, token, out);
    case 7: return tile<R, 7>(p, row_block, token, out);
    default: return tile<R, 8>(p, row_block, token, out);
  }
}

// out[token][rows of the block] (+)= product + bias, for the row blocks [begin, end) of one weight.
void blocks_of(const Product& p, int64_t begin, int64_t end, int tokens, bool adds) {
  const Weight& w = *p.w;
  float part[kTile * kLanes * 4];
  const bool whole = w.kind == kInt8 || w.kind == kInt4;
  for (int64_t block = begin; block < end;) {
    // Integers: one block at a time reads memory in one stream. Floats: several, as each waits for its last sum.
    const int wanted = whole ? (tokens == 2 ? 2 : 1) : tokens <= 2 ? 4 : tokens <= 4 ? 2 : 1;
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
  for (int i = 0; i < 4 * M; i++) acc[i] = f16{};
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
    for (int i = 0; i < kLanes; i++) acc[i] = f16{};
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
  f16 total = {}, squares = {};
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
  f16 dots = {};
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
    for (int part = 0; part < parts; part++) acc[h][part] = f16{};
    for (int i = 0; i < head_dim; i++) pairs[h][i] = to_bfloat16(query[h][i]);
  }
  for (int key = 0; key < count; key += kLanes) {
    const int some = count - key < kLanes ? count - key : kLanes;
    float weights[H][kLanes];
    for (int h = 0; h < H; h++) {
      f16 dots[kLanes];
      for (int j = 0; j < some; j++)
        dots[j] = key_part(keys, (first + key + j) * head_dim, wide, query[h], pairs[h], head_dim);
      for (int j = some; j < kLanes; j++) dots[j] = f16{};
      float scores[kLanes];
      store(scores, sums_of_16(dots) * scaling);
      float highest = largest[h];
      for (int j = 0; j < some; j++) highest = scores[j] > highest ? scores[j] : highest;
      if (highest > largest[h]) {
        const float less = exponential(splat(largest[h] - highest))[0];
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
#elif defined(__AVX2__)
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
