// Attention. Rows, which are query heads of tokens, that see the same keys go through them together: keys and values
// are widened once for all. Each row has its own sums in the order of its keys, whatever rows are beside it.

#pragma once

#include "elementwise.h"

namespace {

constexpr int kMostRows = 24;
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
inline f16 scores_of(const float* query, const float* keys, int some, int head_dim) {
  f16 dots[kLanes];
  for (int j = some; j < kLanes; j++) dots[j] = zeros();
  int at = 0;
  for (; at + kParts * kLanes <= head_dim; at += kParts * kLanes)
    add_dots<kParts>(query + at, keys + at, some, head_dim, at == 0, dots);
  for (; at < head_dim; at += kLanes) add_dots<1>(query + at, keys + at, some, head_dim, at == 0, dots);
  return sums_of_16(dots);
}

// A row's softmax, as it goes from block to block (Milakov and Gimelshein 2018, arXiv:1805.02867).
struct Softmax {
  float largest = -INFINITY, total = 0;

  // Makes weights of the scores of K times 16 keys, of which the row sees `some`. Returns by what the sums of earlier
  // blocks are to be multiplied. cap: what no score comes up to (Gemma 2, arXiv:2408.00118), or 0.
  template <int K>
  float weigh(float* scores, int some, float scaling, float cap) {
    f16 highest = splat(-INFINITY);
    for (int k = 0; k < K; k++) {
      f16 score = load(scores + k * kLanes) * scaling;
      if (cap != 0.0f) score = cap * tanh16(score * (1.0f / cap));
      store(scores + k * kLanes, score);
      highest = larger(highest, lanes_until(some - k * kLanes, score, -INFINITY));
    }
    const float most = greatest(highest);
    float less = 1.0f;
    if (most > largest) {
      less = first_lane(exponential(splat(largest - most)));
      total *= less;
      largest = most;
    }
    f16 added = zeros();
    for (int k = 0; k < K; k++) {
      const f16 weight = lanes_until(some - k * kLanes, exponential(load(scores + k * kLanes) - largest), 0.0f);
      store(scores + k * kLanes, weight);
      added = added + weight;
    }
    total += sum(added);
    return less;
  }
};

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

// Keys in blocks of 16. `first`: of the keys and values, in tokens.
void attend_rows(const Row* rows, int n, const void* keys, const void* values, int64_t first, int head_dim, bool wide,
                 float scaling, float cap) {
  alignas(64) float key_room[kLanes * kWidestHead], value_room[kLanes * kWidestHead], acc[kMostRows][kWidestHead];
  Softmax softmax[kMostRows];
  int longest = 0;
  for (int r = 0; r < n; r++) {
    for (int i = 0; i < head_dim; i += kLanes) store(acc[r] + i, zeros());
    longest = rows[r].count > longest ? rows[r].count : longest;
  }
  for (int key = 0; key < longest; key += kLanes) {
    const int there = longest - key < kLanes ? longest - key : kLanes;
    const int64_t at = (first + key) * head_dim;
    const float* block = widened(keys, at, there, head_dim, wide, key_room);
    const float* seen = widened(values, at, there, head_dim, wide, value_room);
    for (int r = 0; r < n; r++) {
      const int some = rows[r].count - key < there ? rows[r].count - key : there;
      if (some <= 0) continue;
      float weights[kLanes];
      store(weights, scores_of(rows[r].query, block, some, head_dim));
      const float less = softmax[r].weigh<1>(weights, some, scaling, cap);
      int part = 0;
      for (; part + kParts * kLanes <= head_dim; part += kParts * kLanes)
        add_values<kParts>(seen + part, weights, some, head_dim, less, acc[r] + part);
      for (; part < head_dim; part += kLanes) add_values<1>(seen + part, weights, some, head_dim, less, acc[r] + part);
    }
  }
  for (int r = 0; r < n; r++)
    for (int i = 0; i < head_dim; i += kLanes) store(rows[r].out + i, load(acc[r] + i) / softmax[r].total);
}

}  // namespace
