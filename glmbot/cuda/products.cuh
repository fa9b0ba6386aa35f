// Products of up to 64 rows with packed weights, each byte read once, and widening of what more rows are multiplied with.
//
// A block makes 16 columns of the result; its 8 warps share out the input's columns and add up in the end. Weights are
// the 16 rows of a tensor core's product, tokens its 8 columns. Which input column stands where in such a product is
// free, as long as weights and activations agree: each lane takes neighbouring columns, and so reads 16 bytes at a time.

// How weights are kept: as floats like the activations; as published, with a scale for each row, or with one for each
// run of columns; or as codes above 0 with a scale and a minimum for each group of columns.
enum Kind { kFloat, kRows8, kRows4, kRuns8, kRuns4, kGroups8, kGroups4 };

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
  static constexpr int columns = kind == kFloat ? 8 : four ? 32 : 16;  // of one lane at a time
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

// What one lane reads of a row at once.
struct Piece {
  Four codes;
  Bits scale, minimum;
};

// One row of the weights. Past the last there is the last again, whose results are nobody's.
template <int kind>
struct Line {
  const unsigned char* codes;
  const Bits* scale;
  const Bits* minimum;
  int columns, pieces;  // of a group, how many pieces

  __device__ __forceinline__ Line(const Weights& weights, int row) {
    row = row < weights.rows ? row : weights.rows - 1;
    const long long at = (long long)row * weights.columns;
    codes = weights.codes + (kind == kFloat ? 2 * at : Form<kind>::four ? at / 2 : at);
    scale = weights.scale + (long long)row * weights.groups;
    minimum = weights.minimum + (long long)row * weights.groups;
    columns = weights.columns, pieces = weights.columns / weights.groups / Form<kind>::columns;
  }

  // Past the last column there is what weighs nothing.
  __device__ __forceinline__ Piece read(int column) const {
    Piece piece = {{{0, 0, 0, 0}}, 0, 0};
    if (column >= columns) return piece;
    piece.codes = read_once(codes + (kind == kFloat ? 2 * column : Form<kind>::four ? column / 2 : column));
    if constexpr (kind != kFloat && !Form<kind>::scaled_after) {
      const unsigned number = (unsigned)column / Form<kind>::columns, group = pieces == 1 ? number : number / pieces;
      piece.scale = scale[group];
      if (!Form<kind>::published) piece.minimum = minimum[group];
    }
    return piece;
  }
};

// Pairs (0, 1), (2, 3), (4, 5), (6, 7) of eight columns as pairs (0, 4), (1, 5), (2, 6), (3, 7), and back.
static __device__ __forceinline__ void cross(unsigned* x) {
  const unsigned even = bytes_of(x[0], x[2], 0x5410u), odd = bytes_of(x[0], x[2], 0x7632u);
  x[2] = bytes_of(x[1], x[3], 0x5410u), x[3] = bytes_of(x[1], x[3], 0x7632u);
  x[0] = even, x[1] = odd;
}
static __device__ __forceinline__ void uncross(unsigned* x) {
  const unsigned low = bytes_of(x[0], x[1], 0x5410u), high = bytes_of(x[0], x[1], 0x7632u);
  x[1] = bytes_of(x[2], x[3], 0x5410u), x[3] = bytes_of(x[2], x[3], 0x7632u);
  x[0] = low, x[2] = high;
}

// Eight codes of 4 bits as crossed pairs, which takes the fewest instructions: each half of the word has one of a pair.
template <int kind>
static __device__ __forceinline__ void crossed_pairs(unsigned codes, Bits scale, Bits minimum, unsigned* out) {
  // As published, the even column is in the high nibble, and 8 is added by turning the sign.
  constexpr int even = Form<kind>::published ? 1 : 0;
#ifdef GLMBOT_BFLOAT16
  for (int i = 0; i < 4; i++) {
    const unsigned nibbles = codes >> (i / 2 * 8 + (i % 2 == even ? 0 : 4));
    float low = (float)(nibbles & 15), high = (float)(nibbles >> 16 & 15);
    if (Form<kind>::published) low = (float)((nibbles & 15) ^ 8) - 8, high = (float)((nibbles >> 16 & 15) ^ 8) - 8;
    if (!Form<kind>::scaled_after) {
      const float factor = from_half(scale), added = Form<kind>::published ? 0.0f : from_half(minimum);
      low = low * factor + added, high = high * factor + added;
    }
    out[i] = pair(narrow(low), narrow(high));
  }
#else
  constexpr unsigned flip = Form<kind>::published ? 0x64086408u : 0x64006400u;
  constexpr unsigned flip_high = Form<kind>::published ? 0x64806480u : 0x64006400u;
  const unsigned last = codes >> 8;
  // 1024 and 64, or 1032 and 72; a sixteenth is 0x2c00.
  constexpr unsigned middle = Form<kind>::published ? 0x64086408u : 0x64006400u;
  constexpr unsigned sixteenth = 0x2c002c00u, middle_high = Form<kind>::published ? 0xd480d480u : 0xd400d400u;
  unsigned low[2] = {cut_and_flip<0x000f000fu, flip>(codes), cut_and_flip<0x000f000fu, flip>(last)};
  unsigned high[2] = {cut_and_flip<0x00f000f0u, flip_high>(codes), cut_and_flip<0x00f000f0u, flip_high>(last)};
#pragma unroll
  for (int i = 0; i < 2; i++) {
    out[2 * i + even] = subtract_halves(low[i], middle);
    out[2 * i + 1 - even] = fuse_halves(high[i], sixteenth, middle_high);
  }
  if (!Form<kind>::scaled_after) {
    const unsigned factor = pair(scale, scale), added = Form<kind>::published ? 0u : pair(minimum, minimum);
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = fuse_halves(out[i], factor, added);
  }
#endif
}

// Eight neighbouring weights of a piece as four pairs of activations, which are crossed where they have 4 bits.
template <int kind>
static __device__ __forceinline__ void pairs_of(const Piece& piece, int part, unsigned* out) {
  if constexpr (kind == kFloat) {
    for (int i = 0; i < 4; i++) out[i] = piece.codes.x[i];
  } else if constexpr (Form<kind>::four) {
    crossed_pairs<kind>(piece.codes.x[part], piece.scale, piece.minimum, out);
  } else {
    const unsigned flip = Form<kind>::published ? 0x80808080u : 0;
    two_pairs<kind>(piece.codes.x[2 * part] ^ flip, piece.scale, piece.minimum, out);
    two_pairs<kind>(piece.codes.x[2 * part + 1] ^ flip, piece.scale, piece.minimum, out + 2);
  }
}

// Adds the products of a lane's pieces of `sets` times 16 rows, of the rows `line` and `line` + 8 of each, with what
// `acts`, which point at its first column, have of each token. mine: whether the first of them is one.
template <int kind, int sets, int tiles>
static __device__ __forceinline__ void add_pieces(const Act* const* acts, bool mine, int column,
                                                  const Piece (*pieces)[2], float (*sums)[tiles][4]) {
#pragma unroll
  for (int part = 0; part < Form<kind>::columns / 8; part++) {
    unsigned upper[sets][4], lower[sets][4];
#pragma unroll
    for (int set = 0; set < sets; set++) {
      pairs_of<kind>(pieces[set][0], part, upper[set]);
      pairs_of<kind>(pieces[set][1], part, lower[set]);
    }
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
      Four four = {{0, 0, 0, 0}};
      // With few tokens most lanes have none, and do not load the cache with what nobody wants.
      if (tiles > 1 || mine) four = *(const Four*)(acts[tile] + column + 8 * part);
      if (Form<kind>::four) cross(four.x);
#pragma unroll
      for (int set = 0; set < sets; set++) {
        const unsigned one[4] = {upper[set][0], lower[set][0], upper[set][1], lower[set][1]};
        const unsigned two[4] = {upper[set][2], lower[set][2], upper[set][3], lower[set][3]};
        multiply(sums[set][tile], one, four.x[0], four.x[1]);
        multiply(sums[set][tile], two, four.x[2], four.x[3]);
      }
    }
  }
}

template <int kind, int tiles, int sets, class Out>
static __device__ void product(const Act* src, Out* dst, Weights weights, Ending ending, int tokens, int src_stride,
                               int dst_stride) {
  // As many bytes are under way as memory needs to be kept busy, whatever a block has of sets.
  constexpr int ahead = sets == 1 ? 4 : 2, whole = Form<kind>::columns * 4 * 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quarter = lane % 4;
  const int first = blockIdx.x * 16 * sets, begin = (warp * 4 + quarter) * Form<kind>::columns;
  // Weights are nobody's result: they are on their way while the kernel before ends.
  Piece pieces[ahead][sets][2];
#pragma unroll
  for (int i = 0; i < ahead; i++)
#pragma unroll
    for (int each = 0; each < 2 * sets; each++)
      pieces[i][each / 2][each % 2] = Line<kind>(weights, first + 8 * each + line).read(begin + i * whole);
  float scales[sets], biases[sets];
#pragma unroll
  for (int set = 0; set < sets; set++) {
    const int out = first + 16 * set + threadIdx.x % 16;
    scales[set] = Form<kind>::scaled_after && out < weights.rows ? from_half(weights.scale[out]) : 1.0f;
    biases[set] = ending.biased && out < weights.rows ? ending.bias[out] : 0.0f;
  }
  // Past the last token there is the last again, whose results are nobody's.
  const Act* acts[tiles];
#pragma unroll
  for (int tile = 0; tile < tiles; tile++) {
    const int token = tile * 8 + line;
    acts[tile] = src + (long long)(token < tokens ? token : tokens - 1) * src_stride;
  }
  wait_for_others();
  float sums[sets][tiles][4];
#pragma unroll
  for (int i = 0; i < sets * tiles * 4; i++) (&sums[0][0][0])[i] = 0;
  for (int at = 0; at < weights.columns; at += ahead * whole) {
    const bool more = at + ahead * whole < weights.columns;
#pragma unroll
    for (int i = 0; i < ahead; i++) {
      const int column = begin + at + i * whole;
      add_pieces<kind, sets, tiles>(acts, line < tokens, column < weights.columns ? column : 0, pieces[i], sums);
      if (!more) continue;
#pragma unroll
      for (int each = 0; each < 2 * sets; each++)
        pieces[i][each / 2][each % 2] = Line<kind>(weights, first + 8 * each + line).read(column + ahead * whole);
    }
  }
  // Not before: blocks that wait would take the place of blocks that work.
  let_others_begin();
  __shared__ float parts[8][16][tiles * 8];
#pragma unroll
  for (int set = 0; set < sets; set++) {
    if (set) __syncthreads();
    for (int tile = 0; tile < tiles; tile++)
      for (int i = 0; i < 4; i++)
        parts[warp][line + i / 2 * 8][tile * 8 + 2 * quarter + i % 2] = sums[set][tile][i];
    __syncthreads();
    const int row = threadIdx.x % 16, out = first + 16 * set + row;
    for (int token = threadIdx.x / 16; token < tokens; token += 16) {
      if (out >= weights.rows) break;
      float total = 0;
      for (int part = 0; part < 8; part++) total += parts[part][row][token];
      finish(ending, total * scales[set] + biases[set], dst + (long long)token * dst_stride + out, token, out);
    }
  }
}

// out: [rows, columns], the weights as they are multiplied on any device. A lane widens eight neighbours at a time, and
// a block four times as many as it has lanes.
template <int kind>
static __device__ void widen_rows(Weights weights, Act* out) {
  constexpr int columns = Form<kind>::columns, parts = columns / 8;
  const unsigned eights = weights.columns / 8, all = weights.rows * eights;
  let_others_begin();
  wait_for_others();
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const unsigned at = (blockIdx.x * 4 + i) * 256 + threadIdx.x;
    if (at >= all) return;
    const int row = at / eights, eight = at % eights, part = eight % parts;
    Piece piece = Line<kind>(weights, row).read(eight / parts * columns);
    if (Form<kind>::four) {
      for (int word = 1; word < 4; word++)
        if (part == word) piece.codes.x[0] = piece.codes.x[word];
    } else if (parts == 2 && part) {
      piece.codes.x[0] = piece.codes.x[2], piece.codes.x[1] = piece.codes.x[3];
    }
    Four made;
    pairs_of<kind>(piece, 0, made.x);
    if (Form<kind>::four) uncross(made.x);
    if (Form<kind>::scaled_after) {
      const float factor = from_half(weights.scale[row]);
      for (int j = 0; j < 4; j++)
        made.x[j] = pair(narrow(widen((Bits)made.x[j]) * factor), narrow(widen((Bits)(made.x[j] >> 16)) * factor));
    }
    *(Four*)(out + 8ull * at) = made;
  }
}

#define PRODUCT(name, kind, tiles, sets, OUT, out)                                                                    \
  extern "C" __global__ void __launch_bounds__(256) product_##name##_##tiles##x##sets##out(                           \
      const Act* src, OUT* dst, const unsigned char* codes, const Bits* scale, const Bits* minimum, const float* bias, \
      const Act* other, int tokens, int rows, int columns, int groups, int src_stride, int dst_stride,                \
      int other_stride, int biased, int adds, int activation, double factor) {                                        \
    product<kind, tiles, sets>(src, dst, Weights{codes, scale, minimum, rows, columns, groups},                       \
                               Ending{bias, other, other_stride, biased, adds, activation, (float)factor}, tokens,    \
                               src_stride, dst_stride);                                                               \
  }
#define BOTH(name, kind, tiles, sets)       \
  PRODUCT(name, kind, tiles, sets, Act, a)  \
  PRODUCT(name, kind, tiles, sets, float, f)
#define PRODUCTS(name, kind)                                                                                          \
  BOTH(name, kind, 1, 1)                                                                                              \
  BOTH(name, kind, 4, 1)                                                                                              \
  BOTH(name, kind, 4, 2)                                                                                              \
  BOTH(name, kind, 4, 3)                                                                                              \
  BOTH(name, kind, 8, 1)                                                                                              \
  BOTH(name, kind, 8, 2)                                                                                              \
  extern "C" __global__ void widen_##name(const unsigned char* codes, const Bits* scale, const Bits* minimum,         \
                                          Act* out, int rows, int columns, int groups) {                              \
    widen_rows<kind>(Weights{codes, scale, minimum, rows, columns, groups}, out);                                     \
  }

// A model has one or two of these forms, and no other is compiled.
#if defined(GLMBOT_FLOAT)
PRODUCTS(float, kFloat)
#elif defined(GLMBOT_ROWS8)
PRODUCTS(rows8, kRows8)
#elif defined(GLMBOT_ROWS4)
PRODUCTS(rows4, kRows4)
#elif defined(GLMBOT_RUNS8)
PRODUCTS(runs8, kRuns8)
#elif defined(GLMBOT_RUNS4)
PRODUCTS(runs4, kRuns4)
#elif defined(GLMBOT_GROUPS8)
PRODUCTS(groups8, kGroups8)
#elif defined(GLMBOT_GROUPS4)
PRODUCTS(groups4, kGroups4)
#endif

// By this name the compiler is asked for the whole file.
extern "C" __global__ void glmbot_products() {}
