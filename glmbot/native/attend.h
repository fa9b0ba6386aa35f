// Which rows go through attention together, and by which way.

#pragma once

#include "attention_pairs.h"

namespace {

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
    const int64_t first = key_head * step.capacity + step.base[leader] + skipped;
#if defined(GLMBOT_PAIRS)
    if (!step.cache_float32 && op.c % 32 == 0) {
      attend_pairs(rows, n, (const uint16_t*)step.keys[op.f], (const uint16_t*)step.values[op.f], first, op.c, op.x, op.y);
      continue;
    }
#endif
    attend_rows(rows, n, step.keys[op.f], step.values[op.f], first, op.c, step.cache_float32, op.x, op.y);
  }
}

}  // namespace
