// Activations as bytes.

#pragma once

#include "vectors.h"

namespace {

constexpr int kBlock = 32;  // columns that share one scale of the quantised activations

void quantise(const float* x, int columns, int8_t* codes, float* scale, float* code_sum) {
  for (int block = 0; block < columns / kBlock; block++) {
    const float* in = x + block * kBlock;
    f16 low = load(in), high = load(in + 16);
    const float largest = greatest(larger(absolute(low), absolute(high)));
    float factor = largest / 127.0f;
    // NaN must not be lost on the way: it spoils the scale.
    const float check = sum(low + high);
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

}  // namespace
