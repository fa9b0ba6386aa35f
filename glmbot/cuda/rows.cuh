// Operations on one token's row: norms, activations, sums, the rows that draw, and turning heads by their positions.
// Sums are float32 whatever the rows are. Python's numbers arrive as int and double.

// Elements of a piece that a thread keeps in its registers; what is wider is read again.
constexpr int kKept = 16;

template <class In, class Out>
static __device__ void norm(const In* src, Out* dst, const float* weight, const float* bias, int src_stride,
                            int dst_stride, int at, int width, int biased, int centred, double eps) {
  // One block for each piece of a row; in place where src is dst, so each thread rewrites what it read itself.
  src += (long long)blockIdx.y * src_stride + at + blockIdx.x * width;
  dst += (long long)blockIdx.y * dst_stride + at + blockIdx.x * width;
  let_others_begin();
  // Weights are nobody's result.
  float factors[kKept], added[kKept];
#pragma unroll
  for (int k = 0; k < kKept; k++) {
    const int i = threadIdx.x + 256 * k;
    factors[k] = i < width ? weight[i] : 0.0f;
    added[k] = biased && i < width ? bias[i] : 0.0f;
  }
  wait_for_others();
  float kept[kKept];
#pragma unroll
  for (int k = 0; k < kKept; k++) {
    const int i = threadIdx.x + 256 * k;
    kept[k] = i < width ? load(src + i) : 0.0f;
  }
  float mean = 0, squares = 0;
  if (centred) {
#pragma unroll
    for (int k = 0; k < kKept; k++) mean += kept[k];
    for (int i = threadIdx.x + 256 * kKept; i < width; i += 256) mean += load(src + i);
    mean = sum_of_block(mean) / width;
  }
#pragma unroll
  for (int k = 0; k < kKept; k++) {
    const float apart = threadIdx.x + 256 * k < width ? kept[k] - mean : 0.0f;
    squares += apart * apart;
  }
  for (int i = threadIdx.x + 256 * kKept; i < width; i += 256) {
    const float apart = load(src + i) - mean;
    squares += apart * apart;
  }
  const float factor = 1.0f / sqrtf(sum_of_block(squares) / width + (float)eps);
#pragma unroll
  for (int k = 0; k < kKept; k++) {
    const int i = threadIdx.x + 256 * k;
    if (i < width) store(dst + i, (kept[k] - mean) * factor * factors[k] + added[k]);
  }
  for (int i = threadIdx.x + 256 * kKept; i < width; i += 256)
    store(dst + i, (load(src + i) - mean) * factor * weight[i] + (biased ? bias[i] : 0.0f));
}

// dst = activation(what is at gate_at) * what is at other_at, or alone where that is below 0. kinds: 0 SiLU, 1 GELU by
// tanh, 2 GELU by erf, 3 the square of what is above 0, 4 the cap.
template <class In, class Out>
static __device__ void activate(const In* src, Out* dst, int src_stride, int dst_stride, int gate_at, int other_at,
                                int width, int kind, double most) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  let_others_begin();
  wait_for_others();
  if (i >= width) return;
  src += (long long)blockIdx.y * src_stride;
  float made = activated(load(src + gate_at + i), kind, (float)most);
  if (other_at >= 0) made *= load(src + other_at + i);
  store(dst + (long long)blockIdx.y * dst_stride + i, made);
}

// dst = factor * src + keeps * dst
template <class In, class Out>
static __device__ void scale(const In* src, Out* dst, int src_stride, int dst_stride, int width, double factor,
                             double keeps) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  let_others_begin();
  wait_for_others();
  if (i >= width) return;
  Out* to = dst + (long long)blockIdx.y * dst_stride + i;
  const float made = (float)factor * load(src + (long long)blockIdx.y * src_stride + i);
  store(to, keeps != 0 ? made + (float)keeps * load(to) : made);
}

template <class In, class Out>
static __device__ void gather(const In* src, Out* dst, const int* drawn, int src_stride, int dst_stride, int width) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  let_others_begin();
  wait_for_others();
  if (i < width)
    store(dst + (long long)blockIdx.y * dst_stride + i, load(src + (long long)drawn[blockIdx.y] * src_stride + i));
}

// What becomes of a product, see `finish`. A lane ends eight of its sums.
template <class Out>
static __device__ void end_product(const Act* src, Out* dst, Ending ending, int src_stride, int dst_stride, int width) {
  const int first = blockIdx.x * 8 * 256 + threadIdx.x;
  let_others_begin();
  wait_for_others();
  src += (long long)blockIdx.y * src_stride;
  dst += (long long)blockIdx.y * dst_stride;
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const int i = first + 256 * k;
    if (i < width) finish(ending, load(src + i) + (ending.biased ? ending.bias[i] : 0.0f), dst + i, blockIdx.y, i);
  }
}

#define END_PRODUCT(OUT, out)                                                                                         \
  extern "C" __global__ void end_##out(const Act* src, OUT* dst, const float* bias, const Act* other, int src_stride, \
                                       int dst_stride, int other_stride, int width, int biased, int adds,             \
                                       int activation, double factor) {                                               \
    end_product(src, dst, Ending{bias, other, other_stride, biased, adds, activation, (float)factor}, src_stride,     \
                dst_stride, width);                                                                                   \
  }
END_PRODUCT(Act, a)
END_PRODUCT(float, f)

#define FOR_ROWS(IN, OUT, in, out)                                                                                   \
  extern "C" __global__ void norm_##in##out(const IN* src, OUT* dst, const float* weight, const float* bias,         \
                                            int src_stride, int dst_stride, int at, int width, int biased,           \
                                            int centred, double eps) {                                               \
    norm(src, dst, weight, bias, src_stride, dst_stride, at, width, biased, centred, eps);                           \
  }                                                                                                                  \
  extern "C" __global__ void activate_##in##out(const IN* src, OUT* dst, int src_stride, int dst_stride, int gate_at, \
                                                int other_at, int width, int kind, double most) {                    \
    activate(src, dst, src_stride, dst_stride, gate_at, other_at, width, kind, most);                                \
  }                                                                                                                  \
  extern "C" __global__ void scale_##in##out(const IN* src, OUT* dst, int src_stride, int dst_stride, int width,     \
                                             double factor, double keeps) {                                          \
    scale(src, dst, src_stride, dst_stride, width, factor, keeps);                                                   \
  }                                                                                                                  \
  extern "C" __global__ void gather_##in##out(const IN* src, OUT* dst, const int* drawn, int src_stride,             \
                                              int dst_stride, int width) {                                           \
    gather(src, dst, drawn, src_stride, dst_stride, width);                                                          \
  }
FOR_ROWS(float, float, f, f)
FOR_ROWS(float, Act, f, a)
FOR_ROWS(Act, float, a, f)
FOR_ROWS(Act, Act, a, a)

// A rotation: first column, heads, columns from head to head, angles, whether neighbours turn against each other, and the
// table. What a step has of them touches different columns.
struct Turn {
  int at, heads, stride, angles, neighbours, table;
};

struct Turns {
  Turn each[4];
  int count;
};

// Of one head, which begins at a column of a row.
static __device__ void turn_head(Act* row, int column, int head_dim, const Turns& turns, const float* cosines,
                                 const float* sines, int angles, int token, int tokens) {
#pragma unroll
  for (int number = 0; number < 4; number++) {
    const Turn& it = turns.each[number];
    if (number >= turns.count) break;
    const int inside = it.at % head_dim, apart = column - (it.at - inside);
    if (apart < 0 || apart % it.stride || apart / it.stride >= it.heads) continue;
    const long long at = ((long long)it.table * tokens + token) * angles;
    for (int angle = threadIdx.x; angle < it.angles; angle += blockDim.x) {
      Act* x = row + column + inside;
      Act* one = x + (it.neighbours ? 2 * angle : angle);
      Act* two = x + (it.neighbours ? 2 * angle + 1 : angle + it.angles);
      const float low = load(one), high = load(two), cosine = cosines[at + angle], sine = sines[at + angle];
      store(one, low * cosine - high * sine);
      store(two, high * cosine + low * sine);
    }
  }
}

#define TURN(n) int at##n, int heads##n, int stride##n, int angles##n, int neighbours##n, int table##n
#define TURNED(n) {at##n, heads##n, stride##n, angles##n, neighbours##n, table##n}
#define TURNS TURN(0), TURN(1), TURN(2), TURN(3)
#define TURNED_ALL {{TURNED(0), TURNED(1), TURNED(2), TURNED(3)}, count}

// One row of blocks for each token; they share out the heads of `width` columns.
extern "C" __global__ void turn(Act* rows, int stride, int width, int head_dim, int count, const float* cosines,
                                const float* sines, int angles, TURNS) {
  const Turns turns = TURNED_ALL;
  let_others_begin();
  wait_for_others();
  for (int column = blockIdx.y * head_dim; column < width; column += gridDim.y * head_dim)
    turn_head(rows + (long long)blockIdx.x * stride, column, head_dim, turns, cosines, sines, angles, blockIdx.x,
              gridDim.x);
}

// Where the head of keys, or of values, that begins at a column goes in the arena; none at another column.
static __device__ Act* place_of(Act* arena, int column, int at, int kv_stride, int kv_heads, long long capacity,
                                int place, int head_dim) {
  const int apart = column - at;
  if (apart < 0 || apart % kv_stride || apart / kv_stride >= kv_heads) return nullptr;
  return arena + ((long long)(apart / kv_stride) * capacity + place) * head_dim;
}

// Turns a token's heads, and puts its keys and values into the arena.
extern "C" __global__ void turn_and_keep(Act* rows, int stride, int width, int count, const float* cosines,
                                         const float* sines, int angles, const int* places, Act* keys, Act* values,
                                         int capacity, int kv_heads, int head_dim, int key_at, int value_at,
                                         int kv_stride, TURNS) {
  const Turns turns = TURNED_ALL;
  let_others_begin();
  wait_for_others();
  Act* row = rows + (long long)blockIdx.x * stride;
  const int place = places[blockIdx.x];
  for (int column = blockIdx.y * head_dim; column < width; column += gridDim.y * head_dim) {
    turn_head(row, column, head_dim, turns, cosines, sines, angles, blockIdx.x, gridDim.x);
    Act* to = place_of(keys, column, key_at, kv_stride, kv_heads, capacity, place, head_dim);
    if (!to) to = place_of(values, column, value_at, kv_stride, kv_heads, capacity, place, head_dim);
    if (!to) continue;
    __syncthreads();
    for (int i = threadIdx.x; i < head_dim; i += blockDim.x) to[i] = row[column + i];
  }
}

// By this name the compiler is asked for the whole file.
extern "C" __global__ void glmbot_rows() {}
