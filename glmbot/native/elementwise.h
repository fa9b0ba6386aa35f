// Operations on one token's row.

#pragma once

#include "step.h"
#include "vectors.h"

namespace {

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

// dst = x * src + y * dst
void scale_row(const Op& op, const float* src, float* dst) {
  for (int c = 0; c < op.width; c++) dst[c] = op.x * src[c] + (op.y != 0.0f ? op.y * dst[c] : 0.0f);
}

// a: 0 silu(gate) * up, gate at src_at and up at b; 1 gelu (tanh form); 2 up * gelu(gate) (erf form), up at src_at
// and gate at b.
void activate_row(const Op& op, const float* in, float* out) {
  for (int i = 0; i < op.width; i += kLanes) {
    const f16 gate = load(in + op.src_at + i);
    if (op.a == 0) {
      store(out + op.dst_at + i, gate / (1.0f + exponential(-gate)) * load(in + op.b + i));
    } else if (op.a == 2) {
      for (int lane = i; lane < i + kLanes; lane++) {
        const float x = in[op.b + lane];
        out[op.dst_at + lane] = in[op.src_at + lane] * 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
      }
    } else {
      // tanh(z) = 1 - 2 / (e^2z + 1)
      const f16 z = 0.7978845608028654f * (gate + 0.044715f * gate * gate * gate);
      store(out + op.dst_at + i, 0.5f * gate * (2.0f - 2.0f / (exponential(z * 2.0f) + 1.0f)));
    }
  }
}

}  // namespace
