// Activations as bytes.

#pragma once

#include "vectors.h"

namespace {

constexpr int kBlock = 32;  // columns that share one scale of the quantised activations, and one sum of the codes

// Of 16 blocks what is largest in each; of those of a run of blocks, what is largest in all.
inline void extents_of(const float* x, int blocks, int run, float* extents) {
  f16 parts[kLanes];
  for (int b = 0; b < kLanes; b++) {
    const float* in = x + b * kBlock;
    parts[b] = b < blocks ? larger(absolute(load(in)), absolute(load(in + kLanes))) : zeros();
  }
  // Nothing is divided by zero, nor by what makes infinity of it.
  store(extents, larger(greatest_of_16(parts), splat(1e-36f)));
  for (int b = 0; run > 1 && b < blocks; b += run) {
    float most = extents[b];
    for (int i = b + 1; i < b + run; i++) most = extents[i] > most ? extents[i] : most;
    for (int i = b; i < b + run; i++) extents[i] = most;
  }
}

// What a product wants to know of the codes of each block: their sum times the scale, as float32; their sum times what
// int8 weights count from, or int4 ones, as int32; or the sums of its two halves, as int16.
enum Sums { kScaled, kFromMiddle8, kFromMiddle4, kOfHalves };

// run: columns whose scale is the same, 32 or 256; with 256 the last run is whole, too.
void quantise(const float* x, int columns, int run, Sums wanted, int8_t* codes, float* scale, void* code_sum) {
  const int all = columns / kBlock;
  for (int block = 0; block < all; block += kLanes, x += kLanes * kBlock, codes += kLanes * kBlock) {
    const int blocks = all - block < kLanes ? all - block : kLanes;
    float extents[kLanes], inverse[kLanes], factors[kLanes], times_scale[kLanes];
    int32_t whole[kLanes];
    extents_of(x, blocks, run / kBlock, extents);
    store(inverse, splat(127.0f) / load(extents));
    f16 parts[kLanes], seconds[kLanes];
    for (int b = 0; b < kLanes; b++) {
      parts[b] = seconds[b] = zeros();
      if (b >= blocks) continue;
      // The addition rounds to the nearest whole number.
      const f16 first = load(x + b * kBlock) * inverse[b] + 12582912.0f - 12582912.0f;
      const f16 second = load(x + b * kBlock + kLanes) * inverse[b] + 12582912.0f - 12582912.0f;
      store_bytes(codes + b * kBlock, to_int(first));
      store_bytes(codes + b * kBlock + kLanes, to_int(second));
      parts[b] = first + second;
      seconds[b] = second;
    }
    // Whole numbers, so that their order is nothing; NaN and infinity become NaN, and spoil the scale.
    const f16 sums = sums_of_16(parts), factor = load(extents) / 127.0f + (sums - sums);
    store(factors, factor);
    store(times_scale, factor * sums);
    if (wanted == kOfHalves) {
      // The first half is the low one: -2032 to 2032 of either.
      const f16 second = sums_of_16(seconds);
      store_whole(whole, to_int(sums - second));
      for (int b = 0; b < kLanes; b++) whole[b] &= 0xffff;
      int32_t above[kLanes];
      store_whole(above, to_int(second));
      for (int b = 0; b < kLanes; b++) whole[b] |= (int32_t)((uint32_t)above[b] << 16);
    } else {
      store_whole(whole, to_int(sums * (wanted == kFromMiddle8 ? -128.0f : -8.0f)));
    }
    memcpy(scale + block, factors, sizeof(float) * blocks);
    memcpy((float*)code_sum + block, wanted == kScaled ? (void*)times_scale : (void*)whole, sizeof(float) * blocks);
  }
}

}  // namespace
