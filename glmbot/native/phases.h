// A step as phases of pieces: operations on single rows run together, row by row, and products and attention are
// each a phase of their own. How a phase is cut decides nothing about the numbers.

#pragma once

#include <vector>

#include "attend.h"
#include "elementwise.h"
#include "quantise.h"
#include "row_products.h"

namespace {

constexpr int kPiecesEach = 6;                 // of a phase, for each thread
constexpr int64_t kMostBytes = 1 << 18;        // of weights in a piece
constexpr int64_t kMostProducts = 1 << 21;     // in a piece

struct Phase {
  enum Kind { kRows, kProducts, kHeads } kind;
  int begin, end;      // operations
  int tokens;
  int items, each;     // rows of tokens, blocks of 16 weight rows, or tokens with some heads: all, and in a piece
  const Op* prepared;  // the product whose activations these rows make ready, or null
};

struct Phases {
  const Op* ops;
  const Step* step;
  std::vector<Phase> list;
};

inline bool by_row(int kind) { return kind == kRowsBfloat16 || kind == kRowsFloat32; }
inline Sums sums_for(const Weight& w) {
  if (w.minimum) return kScaled;
  return w.groups > 1 ? kOfHalves : w.kind == kInt8 ? kFromMiddle8 : kFromMiddle4;
}
inline bool of_integers(int kind) { return kind == kInt8 || kind == kInt4; }
inline int64_t blocks(const Weight& w) { return (w.rows + kLanes - 1) / kLanes; }
inline int at_least_one(int64_t n) { return n < 1 ? 1 : (int)n; }

inline int64_t bytes_of_block(const Weight& w) {
  const int64_t numbers = (int64_t)w.columns * kLanes;
  if (w.kind == kInt4) return numbers / 2;
  if (w.kind == kInt8) return numbers;
  return w.kind == kFloat32 || w.kind == kRowsFloat32 ? 4 * numbers : 2 * numbers;
}

Phases phases_of(const Op* ops, int count, const Step& step, int threads) {
  Phases made = {ops, &step, {}};
  int tokens = step.tokens;
  // The phase of rows that is still open to more operations.
  auto rows = [&](int at) -> Phase& {
    if (made.list.empty() || made.list.back().kind != Phase::kRows || made.list.back().prepared)
      made.list.push_back({Phase::kRows, at, at, tokens, tokens, at_least_one(tokens / (4 * threads)), nullptr});
    return made.list.back();
  };
  for (int i = 0; i < count; i++) {
    const Op& op = ops[i];
    if (op.kind == kLinear) {
      const Weight* weights = (const Weight*)op.p;
      if (weights[0].kind != kFloat32 && weights[0].kind != kRowsFloat32) rows(i).prepared = &op;
      int64_t all = 0;
      for (int k = 0; k < op.a; k++) all += blocks(weights[k]);
      int64_t each = (all + kPiecesEach * threads - 1) / (kPiecesEach * threads);
      const int64_t most = kMostBytes / bytes_of_block(weights[0]);
      const int64_t products = kMostProducts / ((int64_t)kLanes * op.width * at_least_one(tokens));
      each = each < most ? each : most;
      each = each < products ? each : products;
      made.list.push_back({Phase::kProducts, i, i + 1, tokens, (int)all, at_least_one(each), nullptr});
    } else if (op.kind == kAttend) {
      rows(i).end = i + 1;
      // A piece is of some tokens: the rows that go together.
      const int most = kMostRows / heads_together(op), each = at_least_one(tokens / (8 * threads));
      made.list.push_back({Phase::kHeads, i, i + 1, tokens, tokens, each < most ? each : most, nullptr});
    } else {
      if (op.kind == kGather && (i == 0 || ops[i - 1].kind != kGather)) {  // it reads rows of others
        tokens = step.drawing;
        made.list.push_back({Phase::kRows, i, i, tokens, tokens, at_least_one(tokens / (4 * threads)), nullptr});
      }
      rows(i).end = i + 1;
    }
  }
  return made;
}

// For a product: what it makes of its input before it multiplies.
void prepare_row(const Op& op, const Step& step, int64_t token) {
  const float* x = step.buffers[op.src] + op.src_at + token * step.widths[op.src];
  const int64_t blocks = op.width / kBlock;
  if (of_integers(((const Weight*)op.p)->kind)) {
    quantise(x, op.width, op.c ? op.c : kBlock, sums_for(*(const Weight*)op.p), step.codes + token * op.width,
             step.code_scale + token * blocks, step.code_sum + token * blocks);
  } else {
    narrow* rounded = (narrow*)step.code_scale + token * op.width;
    for (int column = 0; column < op.width; column++) rounded[column] = to_narrow(x[column]);
  }
}

void row(const Op& op, const Step& step, int64_t token) {
  const float* src = step.buffers[op.src] + token * step.widths[op.src];
  float* dst = step.buffers[op.dst] + token * step.widths[op.dst];
  switch (op.kind) {
    case kNorm: return norm_row(op, src + op.src_at, dst + op.dst_at);
    case kRotate: return rotate_row(op, step, (int)token, dst);
    case kAttend: return store_keys(op, step, (int)token, src);
    case kActivate: return activate_row(op, src, dst);
    case kScale: return scale_row(op, src + op.src_at, dst + op.dst_at);
    case kGather:
      memcpy(dst, step.buffers[op.src] + step.drawn[token] * (int64_t)step.widths[op.src], sizeof(float) * op.width);
  }
}

// p: Weight[a], their results beside each other from dst_at on; b: added to what is there; c: columns that share a scale
// of the quantised activations, 32 or 256.
void products(const Op& op, const Step& step, int tokens, int64_t begin, int64_t end) {
  const Weight* weights = (const Weight*)op.p;
  int64_t done = 0, column = op.dst_at;
  for (int i = 0; i < op.a; i++) {
    const Weight& w = weights[i];
    const int64_t first = begin > done ? begin - done : 0;
    const int64_t last = end - done < blocks(w) ? end - done : blocks(w);
    const Product product = {&w, step.buffers[op.src] + op.src_at, step.widths[op.src], step.codes, step.code_scale,
                             step.code_sum, (const int32_t*)step.code_sum, step.code_scale, op.width,
                             step.buffers[op.dst] + column, step.widths[op.dst]};
    if (first < last) {
      if (by_row(w.kind)) rows_of(product, first, last, tokens, op.b);
      else blocks_of(product, first, last, tokens, op.b);
    }
    done += blocks(w);
    column += w.rows;
  }
}

int pieces(const void* of, int phase) {
  const Phases& all = *(const Phases*)of;
  const Phase& one = all.list[phase];
  const int cut = (one.items + one.each - 1) / one.each;
  return one.kind == Phase::kHeads ? cut * (all.ops[one.begin].a / heads_together(all.ops[one.begin])) : cut;
}

void compute(const void* of, int phase, int piece) {
  const Phases& all = *(const Phases*)of;
  const Phase& one = all.list[phase];
  const Step& step = *all.step;
  const Op& op = all.ops[one.begin];
  int number = piece, head = 0;
  if (one.kind == Phase::kHeads) {
    const int groups = op.a / heads_together(op);
    head = number % groups * heads_together(op);
    number /= groups;
  }
  const int begin = number * one.each;
  const int end = begin + one.each < one.items ? begin + one.each : one.items;
  if (one.kind == Phase::kProducts) {
    products(op, step, one.tokens, begin, end);
  } else if (one.kind == Phase::kHeads) {
    attend_tokens(op, step, begin, end, head);
  } else {
    for (int token = begin; token < end; token++) {
      for (int i = one.begin; i < one.end; i++) row(all.ops[i], step, token);
      if (one.prepared) prepare_row(*one.prepared, step, token);
    }
  }
}

}  // namespace
