// Attention.

#pragma once

#include "step.h"
#include "vectors.h"

namespace {

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
  for (int i = 0; i < head_dim; i += kLanes) dots = fma16(load_either(keys, at + i, wide), load(query + i), dots);
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
        const f16 v = load_either(values, (first + key + j) * head_dim + part * kLanes, wide);
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
void attend_token(const Op& op, const Step& step, int token, int first_head, int heads) {
  const float* row = step.buffers[op.src] + token * (int64_t)step.widths[op.src];
  float* out = step.buffers[op.dst] + token * (int64_t)step.widths[op.dst];
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

}  // namespace
