// Attention over keys and values of bfloat16 where an instruction multiplies pairs of them. For the scores a register
// holds a pair of columns of 16 keys, so that nothing is summed up over a register; for the results it holds 16 columns
// of a pair of values, and weights are rounded to bfloat16, too. What is read serves several rows. Each row has its own
// sums in the order of columns and keys, whatever rows are beside it.

#pragma once

#include "attention.h"

#if defined(GLMBOT_AVX512) && defined(__AVX512BF16__)
#define GLMBOT_PAIRS 1

namespace {

constexpr int kKeyRegisters = 4;
constexpr int kKeys = kKeyRegisters * kLanes;
constexpr int kRowsTogether = 6;  // times four sums in registers

// Scores of a row with a block of keys, and then their weights.
struct Block {
  alignas(64) float of_key[kKeys];
  alignas(64) uint16_t narrow[kKeys];
  int some;  // keys that the row sees
};

// Of 16 keys the 16 pairs of columns from `from` on, each pair's of all keys in one register. Keys from `some` on are
// zeros.
inline void turn(const uint16_t* from, int some, int head_dim, __m512i (*out)[kKeyRegisters]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i++) {
    a[i] = i < some ? _mm512_loadu_si512(from + i * head_dim) : _mm512_setzero_si512();
  }
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int k = 0; k < 2; k++) {
      a[i + 2 * k] = _mm512_unpacklo_epi64(b[i + k], b[i + k + 2]);
      a[i + 2 * k + 1] = _mm512_unpackhi_epi64(b[i + k], b[i + k + 2]);
    }
  // Now a[4 g + c] holds the pairs c, c + 4, c + 8 and c + 12 of the keys 4 g to 4 g + 3.
  for (int c = 0; c < 4; c++) {
    const __m512i even = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88), odd = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    const __m512i even_above = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
    const __m512i odd_above = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
    out[c][0] = _mm512_shuffle_i32x4(even, even_above, 0x88);
    out[4 + c][0] = _mm512_shuffle_i32x4(odd, odd_above, 0x88);
    out[8 + c][0] = _mm512_shuffle_i32x4(even, even_above, 0xdd);
    out[12 + c][0] = _mm512_shuffle_i32x4(odd, odd_above, 0xdd);
  }
}

// Values are needed when their weights are known, and the next keys after that: both are fetched meanwhile.
inline void fetch(const uint16_t* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 32) __builtin_prefetch(from + i, 0, 2);
}

// 16 numbers to bfloat16.
inline void round_off(const float* from, uint16_t* to) {
  _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)load(from)));
}

inline __m512bh pair_everywhere(const uint16_t* pair) {
  int32_t both;
  memcpy(&both, pair, 4);
  return (__m512bh)_mm512_set1_epi32(both);
}

// The products of R queries with a block of keys.
template <int R>
inline void block_scores(int rows, const uint16_t* queries, const __m512i (*turned)[kKeyRegisters],
                         int head_dim, Block* out) {
  if constexpr (R > 1)
    if (rows < R) return block_scores<R - 1>(rows, queries, turned, head_dim, out);
  __m512 sums[R][kKeyRegisters];
  for (int r = 0; r < R; r++)
    for (int k = 0; k < kKeyRegisters; k++) sums[r][k] = _mm512_setzero_ps();
  for (int pair = 0; pair < head_dim / 2; pair++)
    for (int r = 0; r < R; r++) {
      const __m512bh query = pair_everywhere(queries + r * head_dim + 2 * pair);
      for (int k = 0; k < kKeyRegisters; k++)
        sums[r][k] = _mm512_dpbf16_ps(sums[r][k], (__m512bh)turned[pair][k], query);
    }
  for (int r = 0; r < R; r++)
    for (int k = 0; k < kKeyRegisters; k++) store(out[r].of_key + k * kLanes, (f16)sums[r][k]);
}

// To the sums of R rows C times 32 columns of the values from `first` to `last`, by weight. first: even. Of each 32
// columns the sums lie as bytes are unpacked: `in_order` puts them right.
template <int R, int C>
inline void add_columns(const uint16_t* values, int head_dim, int first, int last, const Block* blocks, float* sums) {
  __m512 acc[R][2 * C];
  for (int r = 0; r < R; r++)
    for (int i = 0; i < 2 * C; i++) acc[r][i] = (__m512)load(sums + r * head_dim + i * kLanes);
  for (int j = first; j < last; j += 2) {
    const uint16_t* value = values + (int64_t)j * head_dim;
    __m512bh pair[2 * C];
    for (int c = 0; c < C; c++) {
      const __m512i one = _mm512_loadu_si512(value + 32 * c);
      // What comes after the last value is nobody's here: its weight is 0, and it may be anything.
      const __m512i two = j + 1 < last ? _mm512_loadu_si512(value + head_dim + 32 * c) : _mm512_setzero_si512();
      pair[2 * c] = (__m512bh)_mm512_unpacklo_epi16(one, two);
      pair[2 * c + 1] = (__m512bh)_mm512_unpackhi_epi16(one, two);
    }
    for (int r = 0; r < R; r++) {
      const __m512bh weights = pair_everywhere(blocks[r].narrow + j);
      for (int i = 0; i < 2 * C; i++) acc[r][i] = _mm512_dpbf16_ps(acc[r][i], pair[i], weights);
    }
  }
  for (int r = 0; r < R; r++)
    for (int i = 0; i < 2 * C; i++) store(sums + r * head_dim + i * kLanes, (f16)acc[r][i]);
}

inline void in_order(const float* sums, float factor, float* out) {
  const __m512 low = (__m512)load(sums), high = (__m512)load(sums + kLanes);
  const __m512 first = _mm512_shuffle_f32x4(low, high, 0x44), second = _mm512_shuffle_f32x4(low, high, 0xee);
  store(out, (f16)_mm512_shuffle_f32x4(first, first, 0xd8) / factor);
  store(out + kLanes, (f16)_mm512_shuffle_f32x4(second, second, 0xd8) / factor);
}

template <int R>
inline void add_values(int rows, const uint16_t* values, int head_dim, int first, int last, const Block* blocks,
                       float* sums) {
  if constexpr (R > 1)
    if (rows < R) return add_values<R - 1>(rows, values, head_dim, first, last, blocks, sums);
  int column = 0;
  for (; column + 64 <= head_dim; column += 64)
    add_columns<R, 2>(values + column, head_dim, first, last, blocks, sums + column);
  if (column < head_dim) add_columns<R, 1>(values + column, head_dim, first, last, blocks, sums + column);
}

// The weights of a row's block, once its scores are there; what was summed up before is made less where it must be.
inline void weigh(Block& block, Softmax& softmax, float* sums, int head_dim, float scaling, float cap) {
  const float less = softmax.weigh<kKeyRegisters>(block.of_key, block.some, scaling, cap);
  for (int k = 0; k < kKeys; k += kLanes) round_off(block.of_key + k, block.narrow + k);
  if (less != 1.0f)
    for (int column = 0; column < head_dim; column += kLanes) store(sums + column, load(sums + column) * less);
}

// Keys in blocks of 64, otherwise as attend_rows. head_dim: a multiple of 32.
void attend_pairs(const Row* rows, int n, const uint16_t* keys, const uint16_t* values, int64_t first, int head_dim,
                  float scaling, float cap) {
  __m512i turned[kWidestHead / 2][kKeyRegisters];
  // One row behind the other, without gaps: rows at the same places of a page would push each other out of the cache.
  alignas(64) float sums[kMostRows * kWidestHead];
  alignas(64) uint16_t queries[kMostRows * kWidestHead];
  Block blocks[kRowsTogether];
  Softmax softmax[kMostRows];
  int longest = 0;
  for (int r = 0; r < n; r++) {
    for (int i = 0; i < head_dim; i += kLanes) {
      round_off(rows[r].query + i, queries + r * head_dim + i);
      store(sums + r * head_dim + i, zeros());
    }
    longest = rows[r].count > longest ? rows[r].count : longest;
  }
  auto there = [&](int key) { return longest - key < kKeys ? longest - key : kKeys; };
  for (int key = 0; key < longest; key += kKeys) {
    const uint16_t* here = keys + (first + key) * head_dim;
    const uint16_t* seen = values + (first + key) * head_dim;
    fetch(seen, (int64_t)there(key) * head_dim);
    for (int k = 0; k < kKeyRegisters; k++)
      for (int column = 0; column < head_dim; column += 32)
        turn(here + (int64_t)k * kLanes * head_dim + column, there(key) - k * kLanes, head_dim,
             (__m512i(*)[kKeyRegisters])&turned[column / 2][k]);
    fetch(here + kKeys * head_dim, (int64_t)there(key + kKeys) * head_dim);
    for (int r = 0; r < n; r += kRowsTogether) {
      const int together = n - r < kRowsTogether ? n - r : kRowsTogether;
      block_scores<kRowsTogether>(together, queries + r * head_dim, turned, head_dim, blocks);
      int all = kKeys;  // pairs of keys that each of the rows sees
      for (int i = 0; i < together; i++) {
        const int left = rows[r + i].count - key;
        blocks[i].some = left < 0 ? 0 : left < kKeys ? left : kKeys;
        all = blocks[i].some < all ? blocks[i].some & ~1 : all;
        if (blocks[i].some) weigh(blocks[i], softmax[r + i], sums + (r + i) * head_dim, head_dim, scaling, cap);
      }
      add_values<kRowsTogether>(together, seen, head_dim, 0, all, blocks, sums + r * head_dim);
      for (int i = 0; i < together; i++)
        add_values<1>(1, seen, head_dim, all, blocks[i].some, blocks + i, sums + (r + i) * head_dim);
    }
  }
  for (int r = 0; r < n; r++)
    for (int i = 0; i < head_dim; i += 2 * kLanes) in_order(sums + r * head_dim + i, softmax[r].total, rows[r].out + i);
}

}  // namespace

#endif
