// Attention of a whole step over the arena: softmax as it goes (Milakov and Gimelshein 2018, arXiv:1805.02867), a
// sequence's keys shared out among blocks (Flash-Decoding, https://pytorch.org/blog/flash-decoding/) whose sums
// `join_splits` adds up.
//
// A block has the queries of up to `most` rows: the heads of `tile` neighbouring tokens that read one key head. Tokens
// that see the same sequence go through its keys together. How many splits there are depends on the number of tokens
// alone, never on how much they see, so that one launch serves all steps of that size.

constexpr int kWidest = 256;  // columns of a head
constexpr int kPad = 32;      // keeps lanes that read different keys off the same banks

struct Seen {
  const Act* keys;
  const Act* values;
  int first, last;  // of the keys that this block goes through
};

template <int most>
struct Room {
  float queries[most][kWidest];
  Act keys[32 * (128 + kPad)];
  Act values[32 * 128];
  float weights[most][32];
  float largest[most], total[most], less[most];
  int from[most], to[most];
};

// One block of keys: scores, their softmax so far, and the values added to `acc`.
template <int most>
static __device__ void take_keys(Room<most>& room, const Seen& seen, int key, int head_dim, int at_once, int rows,
                                 float scaling, float cap, float acc[2][most]) {
  const int thread = threadIdx.x, lanes = 128 / at_once, apart = head_dim + kPad;
  const int there = seen.last - key < at_once ? seen.last - key : at_once;
  const int pieces = head_dim / 8;
  for (int i = thread; i < at_once * pieces; i += 128) {
    const int row = i / pieces, piece = i % pieces;
    Four one = {{0, 0, 0, 0}}, two = {{0, 0, 0, 0}};
    if (row < there) {
      one = ((const Four*)(seen.keys + (long long)(key + row) * head_dim))[piece];
      two = ((const Four*)(seen.values + (long long)(key + row) * head_dim))[piece];
    }
    *(Four*)(room.keys + row * apart + piece * 8) = one;
    *(Four*)(room.values + row * head_dim + piece * 8) = two;
  }
  __syncthreads();
  float dots[most];
  for (int r = 0; r < most; r++) dots[r] = 0;
  const int mine = thread / lanes;
  for (int piece = thread % lanes; piece < pieces; piece += lanes) {
    float part[8];
    for (int i = 0; i < 8; i++) part[i] = load(room.keys + mine * apart + piece * 8 + i);
#pragma unroll
    for (int r = 0; r < most; r++)
      if (r < rows)
        for (int i = 0; i < 8; i++) dots[r] += part[i] * room.queries[r][piece * 8 + i];
  }
#pragma unroll
  for (int r = 0; r < most; r++) {
    if (r >= rows) break;
    for (int distance = 1; distance < lanes; distance <<= 1) dots[r] += from_lane(dots[r], distance);
    if (thread % lanes == 0) {
      float score = dots[r] * scaling;
      if (cap != 0.0f) score = cap * tanhf(score / cap);
      const int number = key + mine;
      room.weights[r][mine] = number >= room.from[r] && number < room.to[r] && mine < there ? score : -INFINITY;
    }
  }
  __syncthreads();
  for (int r = thread / 32; r < rows; r += 4) {
    const int lane = thread % 32;
    const float score = lane < at_once ? room.weights[r][lane] : -INFINITY;
    const float before = room.largest[r], largest = fmaxf(before, greatest_of_warp(score));
    const float weight = score == -INFINITY ? 0.0f : expf(score - largest);
    const float total = sum_of_warp(weight);
    if (lane < at_once) room.weights[r][lane] = weight;
    if (lane == 0) {
      const float less = before == -INFINITY ? 0.0f : expf(before - largest);
      room.less[r] = less;
      room.total[r] = room.total[r] * less + total;
      room.largest[r] = largest;
    }
  }
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int column = thread + 128 * half;
    if (column >= head_dim) break;
    for (int r = 0; r < rows; r++) acc[half][r] *= room.less[r];
    for (int j = 0; j < there; j++) {
      const float value = load(room.values + j * head_dim + column);
#pragma unroll
      for (int r = 0; r < most; r++)
        if (r < rows) acc[half][r] += room.weights[r][j] * value;
    }
  }
  __syncthreads();
}

template <int most>
static __device__ void attend(const Act* src, Act* dst, float* partial, const int* bases, const int* counts,
                              const Act* keys, const Act* values, int src_stride, int dst_stride, int query_at,
                              int query_stride, int tokens, int tile, int capacity, int heads, int kv_heads,
                              int head_dim, int window, float scaling, float cap) {
  __shared__ Room<most> room;
  const int thread = threadIdx.x, splits = gridDim.x, per_key = heads / kv_heads;
  const int parts = gridDim.y / kv_heads, kv_head = blockIdx.y / parts, share = (per_key + parts - 1) / parts;
  const int first_head = kv_head * per_key + blockIdx.y % parts * share;
  const int end_head = (kv_head + 1) * per_key;
  const int together = end_head - first_head < share ? end_head - first_head : share;
  if (together <= 0) return;
  const int at_once = head_dim > 128 ? 16 : 32;
  const int end = ((int)blockIdx.z + 1) * tile < tokens ? ((int)blockIdx.z + 1) * tile : tokens;
  for (int leader = blockIdx.z * tile; leader < end;) {
    int after = leader, low = 0x7fffffff, high = 0;
    while (after < end && bases[after] == bases[leader]) {
      const int skipped = window && counts[after] > window ? counts[after] - window : 0;
      low = skipped < low ? skipped : low;
      high = counts[after] > high ? counts[after] : high;
      after++;
    }
    const int rows = (after - leader) * together;
    __syncthreads();
    for (int r = thread; r < rows; r += 128) {
      const int count = counts[leader + r / together];
      room.from[r] = window && count > window ? count - window : 0;
      room.to[r] = count;
      room.largest[r] = -INFINITY;
      room.total[r] = 0;
    }
    for (int i = thread; i < rows * head_dim; i += 128) {
      const int r = i / head_dim, column = i % head_dim;
      const Act* row = src + (long long)(leader + r / together) * src_stride + query_at;
      room.queries[r][column] = load(row + (long long)(first_head + r % together) * query_stride + column);
    }
    __syncthreads();
    float acc[2][most];
    for (int r = 0; r < most; r++) acc[0][r] = acc[1][r] = 0;
    const int whole = ((high - low + splits - 1) / splits + 31) / 32 * 32;
    const long long at = ((long long)kv_head * capacity + bases[leader]) * head_dim;
    Seen seen = {keys + at, values + at, low + (int)blockIdx.x * whole, 0};
    seen.last = seen.first + whole < high ? seen.first + whole : high;
    for (int key = seen.first; key < seen.last; key += at_once)
      take_keys<most>(room, seen, key, head_dim, at_once, rows, scaling, cap, acc);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int column = thread + 128 * half;
      if (column >= head_dim) break;
#pragma unroll
      for (int r = 0; r < most; r++) {
        if (r >= rows) break;
        const long long token = leader + r / together;
        const int head = first_head + r % together;
        if (splits == 1) {
          store(dst + token * dst_stride + head * head_dim + column, acc[half][r] / room.total[r]);
          continue;
        }
        float* to = partial + ((token * heads + head) * splits + blockIdx.x) * (head_dim + 2);
        to[2 + column] = acc[half][r];
        if (column == 0) to[0] = room.largest[r], to[1] = room.total[r];
      }
    }
    leader = after;
  }
}

#define ATTEND(most)                                                                                                  \
  extern "C" __global__ void __launch_bounds__(128) attend_##most(                                                    \
      const Act* src, Act* dst, float* partial, const int* bases, const int* counts, const Act* keys,                 \
      const Act* values, int src_stride, int dst_stride, int query_at, int query_stride, int tokens, int tile,        \
      int capacity, int heads, int kv_heads, int head_dim, int window, double scaling, double cap) {                  \
    attend<most>(src, dst, partial, bases, counts, keys, values, src_stride, dst_stride, query_at, query_stride,      \
                 tokens, tile, capacity, heads, kv_heads, head_dim, window, (float)scaling, (float)cap);              \
  }
ATTEND(1)
ATTEND(4)
ATTEND(16)

// One block for each head of each token. partial: [tokens, heads, splits, head_dim + 2]: largest score, total, sums.
extern "C" __global__ void join_splits(const float* partial, Act* dst, int dst_stride, int splits, int head_dim) {
  const int heads = gridDim.x;
  partial += ((long long)blockIdx.y * heads + blockIdx.x) * splits * (head_dim + 2);
  float largest = -INFINITY, total = 0;
  for (int split = 0; split < splits; split++) largest = fmaxf(largest, partial[split * (head_dim + 2)]);
  for (int split = 0; split < splits; split++) {
    const float* part = partial + split * (head_dim + 2);
    if (part[1] > 0) total += part[1] * expf(part[0] - largest);
  }
  for (int column = threadIdx.x; column < head_dim; column += blockDim.x) {
    float sum = 0;
    for (int split = 0; split < splits; split++) {
      const float* part = partial + split * (head_dim + 2);
      if (part[1] > 0) sum += part[2 + column] * expf(part[0] - largest);
    }
    store(dst + (long long)blockIdx.y * dst_stride + blockIdx.x * head_dim + column, sum / total);
  }
}

// By this name the compiler is asked for the whole file.
extern "C" __global__ void glmbot_attention() {}
