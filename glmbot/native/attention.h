// Attention. Rows, which are query heads of tokens, that see the same keys go through them together: keys and values
// are widened once for all. Each row has its own sums in the order of its keys, whatever rows are beside it.

#pragma once

#include "elementwise.h"

namespace {

constexpr int kMostRows = 16;
constexpr int kWidestHead = 256;
// Parts of 16 columns of which a row's sums stay in registers.
#if defined(__AVX2__) || defined(__aarch64__)
constexpr int kParts = 4;
#else
constexpr int kParts = 2;
#endif

struct Row {
  const float* query;
  float* out;
  int count;  // keys that it sees
};

void write_cached(void* cache, int64_t at, const float* in, int head_dim, bool wide) {
  if (wide) {
    memcpy((float*)cache + at, in, sizeof(float) * head_dim);
    return;
  }
  for (int i = 0; i < head_dim; i++) ((uint16_t*)cache)[at + i] = to_bfloat16(in[i]);
}

// The keys and values of one token, from its row to their place in the cache.
void store_keys(const Op& op, const Step& step, int token, const float* row) {
  const int key_at = op.width, value_at = (int)(intptr_t)op.p;
  for (int head = 0; head < op.b; head++) {
    const int64_t at = ((int64_t)head * step.capacity + step.place[token]) * op.c;
    write_cached(step.keys[op.f], at, row + key_at + (int64_t)head * op.e, op.c, step.cache_float32);
    write_cached(step.values[op.f], at, row + value_at + (int64_t)head * op.e, op.c, step.cache_float32);
  }
}

// `count` cached vectors as float32: in place, or widened into `room`.
const float* widened(const void* cached, int64_t at, int count, int head_dim, bool wide, float* room) {
  if (wide) return (const float*)cached + at;
  const uint16_t* from = (const uint16_t*)cached + at;
  for (int i = 0; i < count * head_dim; i += kLanes) store(room + i, from_bfloat16(from + i));
  return room;
}

// P parts of a query with 16 keys, added to `dots` where these are not the first.
template <int P>
inline void add_dots(const float* query, const float* keys, int some, int head_dim, bool first, f16* dots) {
  f16 part[P];
  for (int p = 0; p < P; p++) part[p] = load(query + p * kLanes);
  for (int j = 0; j < some; j++) {
    f16 dot = first ? zeros() : dots[j];
    for (int p = 0; p < P; p++) dot = fma16(load(keys + j * head_dim + p * kLanes), part[p], dot);
    dots[j] = dot;
  }
}

// A query's products with up to 16 keys.
inline f16 scores_of(const float* query, const uint16_t* narrow, const float* keys, const uint16_t* narrow_keys, int some,
                     int head_dim) {
  f16 dots[kLanes];
  for (int j = some; j < kLanes; j++) dots[j] = zeros();
#if defined(GLMBOT_AVX512) && defined(__AVX512BF16__)
  if (narrow_keys && head_dim % 32 == 0) {
    for (int j = 0; j < some; j++) {
      __m512 dot = _mm512_setzero_ps();
      for (int i = 0; i < head_dim; i += 32)
        dot = _mm512_dpbf16_ps(dot, (__m512bh)_mm512_loadu_si512(narrow_keys + j * head_dim + i),
                               (__m512bh)_mm512_loadu_si512(narrow + i));
      dots[j] = (f16)dot;
    }
    return sums_of_16(dots);
  }
#else
  (void)narrow, (void)narrow_keys;
#endif
  int at = 0;
  for (; at + kParts * kLanes <= head_dim; at += kParts * kLanes)
    add_dots<kParts>(query + at, keys + at, some, head_dim, at == 0, dots);
  for (; at < head_dim; at += kLanes) add_dots<1>(query + at, keys + at, some, head_dim, at == 0, dots);
  return sums_of_16(dots);
}

// out = less * out + the sum of P parts of the values by weight.
template <int P>
inline void add_values(const float* values, const float* weights, int some, int head_dim, float less, float* out) {
  f16 acc[P];
  for (int p = 0; p < P; p++) acc[p] = load(out + p * kLanes) * less;
  for (int j = 0; j < some; j++) {
    const f16 weight = splat(weights[j]);
    for (int p = 0; p < P; p++) acc[p] = fma16(load(values + j * head_dim + p * kLanes), weight, acc[p]);
  }
  for (int p = 0; p < P; p++) store(out + p * kLanes, acc[p]);
}

// Keys in blocks of 16, softmax as it goes (Milakov and Gimelshein 2018, arXiv:1805.02867). `first`: of the keys and
// values, in tokens. cap: what no score comes up to (Gemma 2, arXiv:2408.00118), or 0.
void attend_rows(const Row* rows, int n, const void* keys, const void* values, int64_t first, int head_dim, bool wide,
                 float scaling, float cap) {
  alignas(64) float key_room[kLanes * kWidestHead], value_room[kLanes * kWidestHead], acc[kMostRows][kWidestHead];
  uint16_t narrow[kMostRows][kWidestHead];
  float largest[kMostRows], total[kMostRows];
  int longest = 0;
  for (int r = 0; r < n; r++) {
    largest[r] = -INFINITY;
    total[r] = 0;
    for (int i = 0; i < head_dim; i += kLanes) store(acc[r] + i, zeros());
#if defined(GLMBOT_AVX512) && defined(__AVX512BF16__)
    for (int i = 0; i < head_dim; i++) narrow[r][i] = to_bfloat16(rows[r].query[i]);
#endif
    longest = rows[r].count > longest ? rows[r].count : longest;
  }
  for (int key = 0; key < longest; key += kLanes) {
    const int there = longest - key < kLanes ? longest - key : kLanes;
    const int64_t at = (first + key) * head_dim;
    const float* block = widened(keys, at, there, head_dim, wide, key_room);
    const float* seen = widened(values, at, there, head_dim, wide, value_room);
    const uint16_t* narrow_block = wide ? nullptr : (const uint16_t*)keys + at;
    for (int r = 0; r < n; r++) {
      const int some = rows[r].count - key < there ? rows[r].count - key : there;
      if (some <= 0) continue;
      f16 scores = scores_of(rows[r].query, narrow[r], block, narrow_block, some, head_dim) * scaling;
      if (cap != 0.0f) scores = cap * tanh16(scores * (1.0f / cap));
      float weights[kLanes];
      store(weights, scores);
      for (int j = some; j < kLanes; j++) weights[j] = -INFINITY;
      const float highest = greatest(load(weights));
      float less = 1.0f;
      if (highest > largest[r]) {
        less = first_lane(exponential(splat(largest[r] - highest)));
        total[r] *= less;
        largest[r] = highest;
      }
      store(weights, exponential(scores - largest[r]));
      for (int j = some; j < kLanes; j++) weights[j] = 0;
      total[r] += sum(load(weights));
      int part = 0;
      for (; part + kParts * kLanes <= head_dim; part += kParts * kLanes)
        add_values<kParts>(seen + part, weights, some, head_dim, less, acc[r] + part);
      for (; part < head_dim; part += kLanes) add_values<1>(seen + part, weights, some, head_dim, less, acc[r] + part);
    }
  }
  for (int r = 0; r < n; r++)
    for (int i = 0; i < head_dim; i += kLanes) store(rows[r].out + i, load(acc[r] + i) / total[r]);
}

// Query heads that are computed together: they share a key head.
inline int heads_together(const Op& op) {
  const int per_key = op.a / op.b;
  return per_key % 4 == 0 ? 4 : per_key % 3 == 0 ? 3 : per_key % 2 == 0 ? 2 : 1;
}

// Of the tokens [begin, end), `heads_together` query heads from first_head on.
// a: query heads, b: key heads, c: head_dim, d: columns from query head to query head, e: likewise of keys and values,
// f: layer, g: sliding window or 0. src_at: first query column, dst_at: first column of the result.
// x: scaling, y: cap. width: first key column; p holds the first value column.
void attend_tokens(const Op& op, const Step& step, int begin, int end, int first_head) {
  const int heads = heads_together(op);
  const int64_t key_head = first_head / (op.a / op.b);
  Row rows[kMostRows];
  for (int token = begin; token < end;) {
    const int64_t seen = step.count[token];
    const int64_t skipped = op.g && seen > op.g ? seen - op.g : 0;
    int n = 0;
    // Tokens of one sequence see the same first key, as long as no window moves it.
    const int leader = token;
    do {
      const float* row = step.buffers[op.src] + token * (int64_t)step.widths[op.src] + op.src_at;
      float* out = step.buffers[op.dst] + token * (int64_t)step.widths[op.dst] + op.dst_at;
      for (int h = first_head; h < first_head + heads; h++)
        rows[n++] = {row + (int64_t)h * op.d, out + (int64_t)h * op.c, (int)(step.count[token] - skipped)};
      token++;
    } while (token < end && n + heads <= kMostRows && step.base[token] == step.base[leader] && !skipped &&
             !(op.g && step.count[token] > op.g));
    attend_rows(rows, n, step.keys[op.f], step.values[op.f], key_head * step.capacity + step.base[leader] + skipped,
                op.c, step.cache_float32, op.x, op.y);
  }
}

}  // namespace
