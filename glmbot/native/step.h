// What glmbot/native/program.py hands over: weights, operations, and the tokens of one step.

#pragma once

#include <cstdint>

namespace {

enum WeightKind { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2, kInt4 = 3, kRowsBfloat16 = 4, kRowsFloat32 = 5 };

// ---- the step ----------------------------------------------------------------------------------------------------

struct Weight {
  int32_t kind, rows, columns, groups;  // groups of columns that share a scale; 0 when there are no scales
  const void* data;
  const uint16_t* scale;    // float16 [rows / 16][groups][16]
  const uint16_t* minimum;  // likewise, or null: then the middle of the range is zero, and there is one group, or of
                            // int8 one for each 16 columns
  const float* bias;        // [rows], or null
};

enum OpKind { kNorm = 0, kLinear = 1, kRotate = 2, kAttend = 3, kActivate = 4, kScale = 5, kGather = 6 };

struct Op {
  int32_t kind;
  int32_t src, dst;            // buffers
  int32_t src_at, dst_at;      // first column
  int32_t width;               // columns
  int32_t a, b, c, d, e, f, g; // what each kind makes of them, below
  float x, y;
  const void* p;
  const void* q;
};

struct Step {
  int32_t tokens, drawing;         // tokens in the step, rows of which logits are wanted
  const int32_t* place;            // [tokens] where a token's key and value go in the arena
  const int32_t* base;             // [tokens] where its sequence begins there
  const int32_t* count;            // [tokens] how many keys it sees
  const int32_t* drawn;            // [drawing] rows of tokens
  const float* cosines;            // [tables][tokens][angles]
  const float* sines;
  int32_t angles;                  // of one table
  int32_t cache_float32;           // dtype of keys and values: float32, or bfloat16
  int64_t capacity;                // tokens of the arena
  void** keys;                     // per layer [kv_heads, capacity, head_dim]
  void** values;
  float** buffers;                 // each [tokens, its width]
  const int32_t* widths;
  int8_t* codes;                   // quantised activations [tokens, widest]
  float* code_scale;               // [tokens, widest / 32]
  float* code_sum;                 // likewise: scale times the sum of the codes
};

}  // namespace
