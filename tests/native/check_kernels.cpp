// Products and attention of kernels.cpp against sums in double, for instruction sets that only an emulator has here:
// test_other_processors.py compiles this together with kernels.cpp. Prints what is wrong; ends with 1 then.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../../glmbot/native/kernels.cpp"

static uint32_t state = 1;
static float uniform() {
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / 8388608.0f - 1.0f;
}
static uint16_t half(float x) {  // of numbers from 2^-14 to 1
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (uint16_t)((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 0x3ff));
}
static float whole(uint16_t h) {
  const float size = ldexpf((float)(h & 0x3ff | 0x400), (h >> 10 & 31) - 25);
  return h & 0x8000 ? -size : size;
}
static int faults = 0;
static void expect(bool right, const char* what, int kind, double number) {
  if (right) return;
  printf("kind %d: %s (%g)\n", kind, what, number);
  faults++;
}

static void run_step(const Op& op, Step step, int tokens, int threads, std::vector<float>& in, std::vector<float>& out,
                     int in_width, int out_width) {
  float* buffers[] = {in.data(), out.data()};
  const int32_t widths[] = {in_width, out_width};
  std::vector<int8_t> codes((size_t)tokens * in_width);
  std::vector<float> scales((size_t)tokens * in_width), sums((size_t)tokens * in_width);
  step.tokens = tokens;
  step.buffers = buffers;
  step.widths = widths;
  step.codes = codes.data();
  step.code_scale = scales.data();
  step.code_sum = sums.data();
  glmbot_step(&op, 1, &step, threads);
}

static void check_product(int kind, bool grouped, int rows, int columns, int tokens) {
  const int blocks = (rows + 15) / 16, groups = grouped ? columns / 32 : 1;
  const bool integers = kind == kInt8 || kind == kInt4;
  std::vector<double> exact((size_t)blocks * 16 * columns);
  std::vector<uint8_t> data((size_t)blocks * 16 * columns * 4);
  std::vector<uint16_t> scale((size_t)blocks * 16 * groups), minimum(scale.size());
  for (size_t i = 0; i < scale.size(); i++) {
    scale[i] = half(0.01f + 0.005f * uniform());
    minimum[i] = half(-0.1f + 0.05f * uniform());
  }
  for (int row = 0; row < blocks * 16; row++)
    for (int column = 0; column < columns; column++) {
      const int64_t block = row / 16, lane = row % 16;
      const size_t group = (block * groups + (grouped ? column / 32 : 0)) * 16 + lane;
      double& value = exact[(size_t)row * columns + column];
      const float w = uniform();
      if (integers) {
        const int middle = kind == kInt8 ? 128 : 8, code = (int)((w + 1) * middle) % (2 * middle);
        if (kind == kInt8) data[block * 16 * columns + column / 4 * 64 + lane * 4 + column % 4] = (uint8_t)code;
        else data[block * 8 * columns + column / 8 * 64 + lane * 4 + column % 4] |= code << (column % 8 / 4 * 4);
        value = grouped ? code * (double)whole(scale[group]) + whole(minimum[group]) : (code - middle) * (double)whole(scale[group]);
      } else if (kind == kFloat32 || kind == kRowsFloat32) {
        const size_t at = kind == kFloat32 ? (size_t)(block * columns + column) * 16 + lane : (size_t)row * columns + column;
        memcpy(&data[4 * at], &w, 4);
        value = w;
      } else {
        const uint16_t narrow = to_bfloat16(w);
        const size_t at = kind == kBfloat16 ? ((size_t)block * columns + column / 2 * 2) * 16 + lane * 2 + column % 2 : (size_t)row * columns + column;
        memcpy(&data[2 * at], &narrow, 2);
        value = from_bfloat16(narrow);
      }
    }
  const Weight w = {kind, rows, columns, integers ? groups : 0, data.data(), scale.data(), grouped ? minimum.data() : nullptr, nullptr};
  Op op = {};
  op.kind = kLinear;
  op.dst = 1;
  op.width = columns;
  op.a = 1;
  op.p = &w;
  std::vector<float> in((size_t)tokens * columns), out((size_t)tokens * rows), again(out.size());
  for (float& x : in) x = uniform();
  run_step(op, {}, tokens, 1, in, out, columns, rows);
  const double noise = kind == kFloat32 || kind == kRowsFloat32 ? 1e-5 : 8e-3;
  double worst = 0;
  for (int token = 0; token < tokens; token++)
    for (int row = 0; row < rows; row++) {
      double sum = 0, size = 0;
      for (int column = 0; column < columns; column++) {
        const double product = exact[(size_t)row * columns + column] * in[(size_t)token * columns + column];
        sum += product;
        size += product * product;
      }
      const double error = fabs(out[(size_t)token * rows + row] - sum) / (sqrt(size) + 1e-9);
      worst = error > worst || error != error ? error : worst;
    }
  expect(worst < noise * 4, "a product is not the exact one", kind, worst);
  run_step(op, {}, tokens, 3, in, again, columns, rows);
  expect(out == again, "three threads make other bits", kind, 3);
  for (int token = 0; token < tokens; token++) {
    std::vector<float> one(in.begin() + (size_t)token * columns, in.begin() + (size_t)(token + 1) * columns), alone(rows);
    run_step(op, {}, 1, 2, one, alone, columns, rows);
    expect(!memcmp(alone.data(), &out[(size_t)token * rows], 4 * rows), "a row alone has other bits", kind, token);
  }
}

static void check_attention(int heads, int kv_heads, int head_dim, bool wide, int cached, int tokens) {
  const int capacity = cached + tokens, width = (heads + 2 * kv_heads) * head_dim, out_width = heads * head_dim;
  const size_t numbers = (size_t)kv_heads * capacity * head_dim;
  std::vector<float> keys(numbers), values(numbers), in((size_t)tokens * width), out((size_t)tokens * out_width), again(out.size());
  std::vector<uint16_t> narrow_keys(numbers), narrow_values(numbers);
  for (size_t i = 0; i < numbers; i++) {
    narrow_keys[i] = to_bfloat16(keys[i] = uniform());
    narrow_values[i] = to_bfloat16(values[i] = uniform());
  }
  for (float& x : in) x = 2 * uniform();
  std::vector<int32_t> place, base(tokens, 0), count;
  for (int token = 0; token < tokens; token++) {
    place.push_back(cached + token);
    count.push_back(cached + token + 1);
  }
  void* key_list[] = {wide ? (void*)keys.data() : narrow_keys.data()};
  void* value_list[] = {wide ? (void*)values.data() : narrow_values.data()};
  Step step = {};
  step.place = place.data();
  step.base = base.data();
  step.count = count.data();
  step.cache_float32 = wide;
  step.capacity = capacity;
  step.keys = key_list;
  step.values = value_list;
  Op op = {};
  op.kind = kAttend;
  op.dst = 1;
  op.width = heads * head_dim;
  op.p = (void*)(intptr_t)((heads + kv_heads) * head_dim);
  op.a = heads;
  op.b = kv_heads;
  op.c = op.d = op.e = head_dim;
  op.x = 0.125f;
  run_step(op, step, tokens, 1, in, out, width, out_width);
  double worst = 0;
  for (int token = 0; token < tokens; token++)
    for (int head = 0; head < heads; head++) {
      const size_t first = (size_t)(head / (heads / kv_heads)) * capacity;
      auto key = [&](size_t i) { return wide ? keys[i] : from_bfloat16(narrow_keys[i]); };
      auto value = [&](size_t i) { return wide ? values[i] : from_bfloat16(narrow_values[i]); };
      std::vector<double> weights;
      double total = 0;
      for (int k = 0; k < count[token]; k++) {
        double dot = 0;
        for (int i = 0; i < head_dim; i++) dot += (double)in[(size_t)token * width + head * head_dim + i] * key((first + k) * head_dim + i);
        weights.push_back(exp(dot * 0.125));
        total += weights.back();
      }
      for (int i = 0; i < head_dim; i++) {
        double mixed = 0;
        for (int k = 0; k < count[token]; k++) mixed += weights[k] / total * value((first + k) * head_dim + i);
        const double error = fabs(mixed - out[(size_t)token * out_width + head * head_dim + i]);
        worst = error > worst || error != error ? error : worst;
      }
    }
  expect(worst < (wide ? 2e-5 : 3e-2), "attention is not the exact one", head_dim, worst);
  run_step(op, step, tokens, 3, in, again, width, out_width);
  expect(out == again, "attention by three threads makes other bits", head_dim, 3);
}

int main() {
  for (int kind = kFloat32; kind <= kRowsFloat32; kind++)
    for (int grouped = 0; grouped < (kind == kInt8 || kind == kInt4 ? 2 : 1); grouped++)
      for (int tokens = 1; tokens <= 9; tokens++) check_product(kind, grouped, 37, 96 + 32 * (tokens % 3), tokens);
  for (int wide = 0; wide < 2; wide++)
    for (int head_dim = 16; head_dim <= 128; head_dim *= 2) check_attention(6, 2, head_dim, wide, 21, 7);
  printf("%s: %d faults\n", glmbot_features(), faults);
  return faults ? 1 : 0;
}
