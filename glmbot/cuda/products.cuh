// Products of up to 64 rows with packed weights, each byte read once, and widening of what more rows are multiplied with.
//
// A block makes 16 columns of the result; its 8 warps share out the input's columns and add up in the end. Weights are
// the 16 rows of a tensor core's product, tokens its 8 columns. Which input column stands where in such a product is
// free, as long as weights and activations agree: each lane takes neighbouring columns, and so reads 16 bytes at a time.

// How weights are kept: as published, with a scale for each row, or with one for each run of columns; or as codes above
// 0 with a scale and a minimum for each group of columns.
enum Kind { kRows8, kRows4, kRuns8, kRuns4, kGroups8, kGroups4 };

struct Weights {
  const unsigned char* codes;
  const Bits* scale;
  const Bits* minimum;
  int rows, columns, groups;
};

template <int kind>
struct Form {
  static constexpr bool four = kind == kRows4 || kind == kRuns4 || kind == kGroups4;
  static constexpr bool published = kind != kGroups8 && kind != kGroups4;
  static constexpr bool scaled_after = kind == kRows8 || kind == kRows4;
  static constexpr int columns = four ? 32 : 16;  // of one lane at a time
  static constexpr int zero = !published ? 0 : four ? 8 : 128;
};

// Four codes, each a byte, less `zero`, as two pairs of activations; times scale plus minimum where there is a scale.
template <int kind>
static __device__ __forceinline__ void two_pairs(unsigned codes, Bits scale, Bits minimum, unsigned* out) {
#ifdef GLMBOT_BFLOAT16
  for (int i = 0; i < 2; i++) {
    float low = (float)(codes >> 16 * i & 255) - Form<kind>::zero;
    float high = (float)(codes >> (16 * i + 8) & 255) - Form<kind>::zero;
    if (!Form<kind>::scaled_after) {
      const float factor = from_half(scale), added = Form<kind>::published ? 0.0f : from_half(minimum);
      low = low * factor + added, high = high * factor + added;
    }
    out[i] = pair(narrow(low), narrow(high));
  }
#else
  // 0x6400 is 1024, whose last eight bits count by one.
  const unsigned middle = 0x64006400u + Form<kind>::zero * 0x00010001u;
  out[0] = subtract_halves(bytes_of(codes, 0x64646464u, 0x4140u), middle);
  out[1] = subtract_halves(bytes_of(codes, 0x64646464u, 0x4342u), middle);
  if (!Form<kind>::scaled_after) {
    const unsigned factor = pair(scale, scale), added = Form<kind>::published ? 0u : pair(minimum, minimum);
    out[0] = fuse_halves(out[0], factor, added);
    out[1] = fuse_halves(out[1], factor, added);
  }
#endif
}

// What one lane reads of a row at once: 16 bytes, which become `columns` / 2 pairs.
template <int kind>
static __device__ __forceinline__ void pairs_of(Four codes, Bits scale, Bits minimum, unsigned* out) {
#pragma unroll
  for (int word = 0; word < 4; word++) {
    unsigned it = codes.x[word];
    if (Form<kind>::four) {
      if (Form<kind>::published) it ^= 0x88888888u;
      const unsigned low = it & 0x0f0f0f0fu, high = it >> 4 & 0x0f0f0f0fu;
      const unsigned even = Form<kind>::published ? high : low, odd = Form<kind>::published ? low : high;
      two_pairs<kind>(bytes_of(even, odd, 0x5140u), scale, minimum, out + 4 * word);
      two_pairs<kind>(bytes_of(even, odd, 0x7362u), scale, minimum, out + 4 * word + 2);
    } else {
      two_pairs<kind>(Form<kind>::published ? it ^ 0x80808080u : it, scale, minimum, out + 2 * word);
    }
  }
}

// The pairs of one row from a column on.
template <int kind>
static __device__ __forceinline__ void read_pairs(const Weights& weights, int row, int column, unsigned* out) {
  const long long at = (long long)row * weights.columns + column;
  const Four codes = *(const Four*)(weights.codes + (Form<kind>::four ? at / 2 : at));
  Bits scale = 0, minimum = 0;
  if (!Form<kind>::scaled_after) {
    const long long group = (long long)row * weights.groups + column / (weights.columns / weights.groups);
    scale = weights.scale[group];
    if (!Form<kind>::published) minimum = weights.minimum[group];
  }
  pairs_of<kind>(codes, scale, minimum, out);
}

// What becomes of a sum: its activation where that is one (see `activate`), plus `factor` times what `other` has there,
// plus what is there already.
struct Ending {
  const float* bias;
  const Act* other;
  int other_stride, biased, adds, activation;
  float factor;
};

template <int kind, int tiles, class Out>
static __device__ void product(const Act* src, Out* dst, Weights weights, Ending ending, int tokens, int src_stride,
                               int dst_stride) {
  constexpr int columns = Form<kind>::columns, pairs = columns / 2;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quarter = lane % 4;
  const int first = blockIdx.x * 16;
  float sums[tiles][4];
  for (int tile = 0; tile < tiles; tile++)
    for (int i = 0; i < 4; i++) sums[tile][i] = 0;
  for (int at = warp * 4 * columns; at < weights.columns; at += 8 * 4 * columns) {
    const int column = at + quarter * columns;
    const bool there = column < weights.columns;
    unsigned upper[pairs], lower[pairs];
    for (int i = 0; i < pairs; i++) upper[i] = lower[i] = 0;
    if (there && first + line < weights.rows) read_pairs<kind>(weights, first + line, column, upper);
    if (there && first + line + 8 < weights.rows) read_pairs<kind>(weights, first + line + 8, column, lower);
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
      const int token = tile * 8 + line;
      const bool seen = there && token < tokens;
      const Four* row = (const Four*)(src + (long long)token * src_stride + column);
#pragma unroll
      for (int part = 0; part < pairs / 4; part++) {
        Four acts = {{0, 0, 0, 0}};
        if (seen) acts = row[part];
        const int i = 4 * part;
        const unsigned one[4] = {upper[i], lower[i], upper[i + 1], lower[i + 1]};
        const unsigned two[4] = {upper[i + 2], lower[i + 2], upper[i + 3], lower[i + 3]};
        multiply(sums[tile], one, acts.x[0], acts.x[1]);
        multiply(sums[tile], two, acts.x[2], acts.x[3]);
      }
    }
  }
  __shared__ float parts[8][16][tiles * 8];
  for (int tile = 0; tile < tiles; tile++)
    for (int i = 0; i < 4; i++) parts[warp][line + i / 2 * 8][tile * 8 + 2 * quarter + i % 2] = sums[tile][i];
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * tiles * 8; i += 256) {
    const int token = i / 16, row = i % 16;
    if (token >= tokens || first + row >= weights.rows) continue;
    float total = 0;
    for (int part = 0; part < 8; part++) total += parts[part][row][token];
    if (Form<kind>::scaled_after) total *= from_half(weights.scale[first + row]);
    if (ending.biased) total += ending.bias[first + row];
    if (ending.activation >= 0) total = activated(total, ending.activation, 0);
    if (ending.factor != 0)
      total += ending.factor * load(ending.other + (long long)token * ending.other_stride + first + row);
    Out* to = dst + (long long)token * dst_stride + first + row;
    store(to, ending.adds ? total + load(to) : total);
  }
}

// out: [rows, columns], the weights as they are multiplied on any device.
template <int kind>
static __device__ void widen_rows(Weights weights, Act* out) {
  constexpr int columns = Form<kind>::columns;
  const int row = blockIdx.x;
  for (int column = threadIdx.x * columns; column < weights.columns; column += 256 * columns) {
    unsigned pairs[columns / 2];
    read_pairs<kind>(weights, row, column, pairs);
    unsigned* to = (unsigned*)(out + (long long)row * weights.columns + column);
    for (int i = 0; i < columns / 2; i++) {
      unsigned made = pairs[i];
      if (Form<kind>::scaled_after) {
        const float factor = from_half(weights.scale[row]);
        made = pair(narrow(widen((Bits)made) * factor), narrow(widen((Bits)(made >> 16)) * factor));
      }
      to[i] = made;
    }
  }
}

#define PRODUCT(name, kind, tiles, OUT, out)                                                                          \
  extern "C" __global__ void __launch_bounds__(256) product_##name##_##tiles##out(                                    \
      const Act* src, OUT* dst, const unsigned char* codes, const Bits* scale, const Bits* minimum, const float* bias, \
      const Act* other, int tokens, int rows, int columns, int groups, int src_stride, int dst_stride,                \
      int other_stride, int biased, int adds, int activation, double factor) {                                        \
    product<kind, tiles>(src, dst, Weights{codes, scale, minimum, rows, columns, groups},                             \
                         Ending{bias, other, other_stride, biased, adds, activation, (float)factor}, tokens,          \
                         src_stride, dst_stride);                                                                     \
  }
#define PRODUCTS(name, kind)                                                                                          \
  PRODUCT(name, kind, 1, Act, a)                                                                                      \
  PRODUCT(name, kind, 1, float, f)                                                                                    \
  PRODUCT(name, kind, 4, Act, a)                                                                                      \
  PRODUCT(name, kind, 4, float, f)                                                                                    \
  PRODUCT(name, kind, 8, Act, a)                                                                                      \
  PRODUCT(name, kind, 8, float, f)                                                                                    \
  extern "C" __global__ void widen_##name(const unsigned char* codes, const Bits* scale, const Bits* minimum,         \
                                          Act* out, int rows, int columns, int groups) {                              \
    widen_rows<kind>(Weights{codes, scale, minimum, rows, columns, groups}, out);                                     \
  }
PRODUCTS(rows8, kRows8)
PRODUCTS(rows4, kRows4)
PRODUCTS(runs8, kRuns8)
PRODUCTS(runs4, kRuns4)
PRODUCTS(groups8, kGroups8)
PRODUCTS(groups4, kGroups4)

// By this name the compiler is asked for the whole file.
extern "C" __global__ void glmbot_products() {}
