// Operations on one token's row: norms, activations, sums, the rows that draw, and turning heads by their positions.
// Sums are float32 whatever the rows are. Python's numbers arrive as int and double.

template <class In, class Out>
static __device__ void norm(const In* src, Out* dst, const float* weight, const float* bias, int src_stride,
                            int dst_stride, int at, int width, int biased, int centred, double eps) {
  // One block for each piece of a row; in place where src is dst, so each thread rewrites what it read itself.
  src += (long long)blockIdx.y * src_stride + at + blockIdx.x * width;
  dst += (long long)blockIdx.y * dst_stride + at + blockIdx.x * width;
  float mean = 0, squares = 0;
  if (centred) {
    for (int i = threadIdx.x; i < width; i += 256) mean += load(src + i);
    mean = sum_of_block(mean) / width;
  }
  for (int i = threadIdx.x; i < width; i += 256) {
    const float apart = load(src + i) - mean;
    squares += apart * apart;
  }
  const float factor = 1.0f / sqrtf(sum_of_block(squares) / width + (float)eps);
  for (int i = threadIdx.x; i < width; i += 256)
    store(dst + i, (load(src + i) - mean) * factor * weight[i] + (biased ? bias[i] : 0.0f));
}

// dst = activation(what is at gate_at) * what is at other_at, or alone where that is below 0. kinds: 0 SiLU, 1 GELU by
// tanh, 2 GELU by erf, 3 the square of what is above 0, 4 the cap.
template <class In, class Out>
static __device__ void activate(const In* src, Out* dst, int src_stride, int dst_stride, int gate_at, int other_at,
                                int width, int kind, double most) {
  const int i = blockIdx.x * 256 + threadIdx.x;
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
  if (i >= width) return;
  Out* to = dst + (long long)blockIdx.y * dst_stride + i;
  const float made = (float)factor * load(src + (long long)blockIdx.y * src_stride + i);
  store(to, keeps != 0 ? made + (float)keeps * load(to) : made);
}

template <class In, class Out>
static __device__ void gather(const In* src, Out* dst, const int* drawn, int src_stride, int dst_stride, int width) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < width)
    store(dst + (long long)blockIdx.y * dst_stride + i, load(src + (long long)drawn[blockIdx.y] * src_stride + i));
}

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

// Of one token's row, `count` rotations, each six numbers: first column, heads, columns from head to head, angles,
// whether neighbours turn against each other, and the table. They touch different columns.
static __device__ void turn_row(Act* row, const int* turns, int count, const float* cosines, const float* sines,
                                int angles, int token, int tokens) {
  for (int turn = 0; turn < count; turn++) {
    const int* it = turns + 6 * turn;
    const long long at = ((long long)it[5] * tokens + token) * angles;
    for (int i = threadIdx.x; i < it[1] * it[3]; i += blockDim.x) {
      const int head = i / it[3], angle = i % it[3];
      Act* x = row + it[0] + head * it[2];
      Act* one = x + (it[4] ? 2 * angle : angle);
      Act* two = x + (it[4] ? 2 * angle + 1 : angle + it[3]);
      const float low = load(one), high = load(two), cosine = cosines[at + angle], sine = sines[at + angle];
      store(one, low * cosine - high * sine);
      store(two, high * cosine + low * sine);
    }
  }
}

extern "C" __global__ void turn(Act* rows, int stride, const int* turns, int count, const float* cosines,
                                const float* sines, int angles) {
  turn_row(rows + (long long)blockIdx.x * stride, turns, count, cosines, sines, angles, blockIdx.x, gridDim.x);
}

// Turns a token's heads, and puts its keys and values into the arena.
extern "C" __global__ void turn_and_keep(Act* rows, int stride, const int* turns, int count, const float* cosines,
                                         const float* sines, int angles, const int* places, Act* keys, Act* values,
                                         int capacity, int kv_heads, int head_dim, int key_at, int value_at,
                                         int kv_stride) {
  Act* row = rows + (long long)blockIdx.x * stride;
  turn_row(row, turns, count, cosines, sines, angles, blockIdx.x, gridDim.x);
  __syncthreads();
  const long long place = places[blockIdx.x];
  for (int i = threadIdx.x; i < kv_heads * head_dim; i += blockDim.x) {
    const int head = i / head_dim, column = i % head_dim;
    const long long at = ((long long)head * capacity + place) * head_dim + column;
    keys[at] = row[key_at + head * kv_stride + column];
    values[at] = row[value_at + head * kv_stride + column];
  }
}

// By this name the compiler is asked for the whole file.
extern "C" __global__ void glmbot_rows() {}
