// Products with weights that stay row by row.

#pragma once

#include "products.h"

namespace {

// Weights that stay row by row, because they are the table of embeddings too. 4 rows with M tokens, the sums in
// acc[row][token].
template <int M>
inline void row_sums(const Product& p, int64_t first, int rows, int token, f16* acc) {
  const Weight& w = *p.w;
  const bool wide = w.kind == kRowsFloat32;
  int64_t at[4];
  for (int row = 0; row < 4; row++) at[row] = (first + (row < rows ? row : 0)) * w.columns;
  for (int i = 0; i < 4 * M; i++) acc[i] = zeros();
  int column = 0;
#if defined(GLMBOT_AVX512) && defined(__AVX512BF16__)
  for (; !wide && column + 2 * kLanes <= w.columns; column += 2 * kLanes)
    for (int row = 0; row < 4; row++) {
      const uint16_t* weights = (const uint16_t*)w.data + at[row] + column;
      __builtin_prefetch(weights + kAhead / 2);
      const __m512bh loaded = (__m512bh)_mm512_loadu_si512(weights);
      for (int m = 0; m < M; m++)
        acc[row * M + m] = (f16)_mm512_dpbf16_ps(
            (__m512)acc[row * M + m], loaded,
            (__m512bh)_mm512_loadu_si512((const narrow*)p.narrow + (int64_t)(token + m) * p.width + column));
    }
#endif
  for (; column < w.columns; column += kLanes)
    for (int row = 0; row < 4; row++) {
      const f16 weights = load_either(w.data, at[row] + column, wide);
      for (int m = 0; m < M; m++)
        acc[row * M + m] = fma16(weights, load(p.x + (token + m) * p.x_stride + column), acc[row * M + m]);
    }
}

template <int M>
void rows_with(const Product& p, int64_t first, int rows, int token, bool adds) {
  const Weight& w = *p.w;
  // As many rows as make 16 sums.
  constexpr int kRows = kLanes / M;
  for (int row = 0; row < rows; row += kRows) {
    const int some = rows - row < kRows ? rows - row : kRows;
    f16 acc[kLanes];
    for (int i = 0; i < kLanes; i++) acc[i] = zeros();
    for (int part = 0; part < some; part += 4)
      row_sums<M>(p, first + row + part, some - part, token, acc + part * M);
    float sums[kLanes];
    store(sums, sums_of_16(acc));
    for (int r = 0; r < some; r++)
      for (int m = 0; m < M; m++) {
        float* out = p.out + (token + m) * p.out_stride + first + row + r;
        const float value = sums[r * M + m] + (w.bias ? w.bias[first + row + r] : 0.0f);
        *out = adds ? *out + value : value;
      }
  }
}

void rows_of(const Product& p, int64_t begin, int64_t end, int tokens, bool adds) {
  for (int64_t block = begin; block < end; block++) {
    const int64_t first = block * kLanes;
    const int some = p.w->rows - first < kLanes ? (int)(p.w->rows - first) : kLanes;
    int token = 0;
    for (; token + 4 <= tokens; token += 4) rows_with<4>(p, first, some, token, adds);
    if (token + 2 <= tokens) {
      rows_with<2>(p, first, some, token, adds);
      token += 2;
    }
    if (token < tokens) rows_with<1>(p, first, some, token, adds);
  }
}

}  // namespace
