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

// tanh(z) = 1 - 2 / (e^2z + 1)
inline f16 tanh16(f16 z) { return 1.0f - 2.0f / (exponential(z * 2.0f) + 1.0f); }

// The tanh form: https://arxiv.org/abs/1606.08415
inline f16 gelu(f16 x) {
  const f16 z = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (2.0f - 2.0f / (exponential(z * 2.0f) + 1.0f));
}

inline float gelu_erf(float x) { return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f)); }

// Of the gate at src_at, or the only input there, and for products of what is at b: 0 silu(gate) * up, 1 gelu (tanh
// form), 2 up * gelu(gate) (erf form) with up at src_at and gate at b, 3 gelu(gate) * up (tanh form), 4 gelu (erf form),
// 5 the square of what is above 0, 6 x * tanh(it / x).
void activate_row(const Op& op, const float* in, float* out) {
  for (int i = 0; i < op.width; i += kLanes) {
    const f16 gate = load(in + op.src_at + i);
    float* to = out + op.dst_at + i;
    switch (op.a) {
      case 0: store(to, gate / (1.0f + exponential(-gate)) * load(in + op.b + i)); break;
      case 1: store(to, gelu(gate)); break;
      case 2:
        for (int lane = 0; lane < kLanes; lane++) {
          const float x = in[op.b + i + lane];
          to[lane] = in[op.src_at + i + lane] * 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
        }
        break;
      case 3: store(to, gelu(gate) * load(in + op.b + i)); break;
      case 4:
        for (int lane = 0; lane < kLanes; lane++) to[lane] = gelu_erf(in[op.src_at + i + lane]);
        break;
      case 5: {
        const f16 above = larger(gate, zeros());
        store(to, above * above);
        break;
      }
      default: store(to, op.x * tanh16(gate * (1.0f / op.x)));
    }
  }
}

}  // namespace
