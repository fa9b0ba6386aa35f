// Attention of a whole step over the arena: softmax as it goes (Milakov and Gimelshein 2018, arXiv:1805.02867), a
// sequence's keys shared out among blocks (Flash-Decoding, https://pytorch.org/blog/flash-decoding/), the last of which
// adds up what all have found.
//
// A block has the queries of up to `most` rows: the heads of `tile` neighbouring tokens that read one key head. Tokens
// that see the same sequence go through its keys together. How many splits there are depends on the number of tokens
// alone, never on how much they see, so that one launch serves all steps of that size.

constexpr int kWidest = 256;  // columns of a head
constexpr int kPad = 32;      // keeps lanes that read different keys off the same banks
constexpr int kLeast = 64;    // keys of a split, so that few keys are not shared out among many blocks

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

// What a thread has of the block of keys and values that comes next.
template <int pieces>
struct Next {
  Four keys[pieces], values[pieces];
};

template <int pieces>
static __device__ __forceinline__ void fetch(Next<pieces>& next, const Seen& seen, int key, int head_dim, int at_once) {
  const int each = head_dim / 8;
#pragma unroll
  for (int k = 0; k < pieces; k++) {
    const int i = threadIdx.x + 128 * k, row = i / each;
    next.keys[k] = next.values[k] = {{0, 0, 0, 0}};
    if (i >= at_once * each || key + row >= seen.last) continue;
    next.keys[k] = ((const Four*)(seen.keys + (long long)(key + row) * head_dim))[i % each];
    next.values[k] = ((const Four*)(seen.values + (long long)(key + row) * head_dim))[i % each];
  }
}

// One block of keys: scores, their softmax so far, and the values added to `acc`.
template <int most, int pieces_each>
static __device__ void take_keys(Room<most>& room, const Seen& seen, Next<pieces_each>& next, int key, int head_dim,
                                 int at_once, int rows, float scaling, float cap, float acc[2][most]) {
  const int thread = threadIdx.x, lanes = 128 / at_once, apart = head_dim + kPad;
  const int there = seen.last - key < at_once ? seen.last - key : at_once;
  const int pieces = head_dim / 8;
#pragma unroll
  for (int k = 0; k < pieces_each; k++) {
    const int i = thread + 128 * k;
    if (i >= at_once * pieces) break;
    *(Four*)(room.keys + i / pieces * apart + i % pieces * 8) = next.keys[k];
    *(Four*)(room.values + 8 * i) = next.values[k];
  }
  // The next block is on its way while this one is worked on.
  fetch(next, seen, key + at_once, head_dim, at_once);
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
#pragma unroll
    for (int r = 0; r < most; r++)
      if (r < rows) acc[half][r] *= room.less[r];
    for (int j = 0; j < there; j++) {
      const float value = load(room.values + j * head_dim + column);
#pragma unroll
      for (int r = 0; r < most; r++)
        if (r < rows) acc[half][r] += room.weights[r][j] * value;
    }
  }
  __syncthreads();
}

// Neighbouring tokens from `leader` on that see the same sequence, and the keys that they see, cut into `whole` for each
// split: `active` of the splits have any.
struct Span {
  int after, low, high, whole, active;
};

static __device__ Span span_of(const int* bases, const int* counts, int leader, int end, int window, int splits) {
  Span span = {leader, 0x7fffffff, 0, 0, 0};
  while (span.after < end && bases[span.after] == bases[leader]) {
    const int count = counts[span.after], skipped = window && count > window ? count - window : 0;
    span.low = skipped < span.low ? skipped : span.low;
    span.high = count > span.high ? count : span.high;
    span.after++;
  }
  const int length = span.high - span.low;
  span.whole = ((length + splits - 1) / splits + 31) / 32 * 32;
  if (span.whole < kLeast) span.whole = kLeast;
  span.active = (length + span.whole - 1) / span.whole;
  return span;
}

// What the splits of some heads of one token made, added up. partial: of each head [splits, head_dim + 2]: largest
// score, total, sums.
template <int most>
static __device__ void join(Room<most>& room, const float* partial, Act* dst, int heads, int splits, int active,
                            int head_dim) {
  const int thread = threadIdx.x, lane = thread % 32;
  __syncthreads();
  for (int head = thread / 32; head < heads; head += 4) {
    const float* part = partial + ((long long)head * splits + lane) * (head_dim + 2);
    const float score = lane < active ? read_fresh(part) : -INFINITY, sum = lane < active ? read_fresh(part + 1) : 0.0f;
    const float largest = greatest_of_warp(score);
    const float factor = score == -INFINITY ? 0.0f : expf(score - largest);
    const float total = sum_of_warp(factor * sum);
    room.weights[head][lane] = factor / total;
  }
  __syncthreads();
  for (int i = thread; i < heads * head_dim; i += 128) {
    const int head = i / head_dim, column = i % head_dim;
    const float* part = partial + (long long)head * splits * (head_dim + 2) + 2 + column;
    float sum = 0;
#pragma unroll 8
    for (int split = 0; split < active; split++) sum += read_fresh(part + split * (head_dim + 2)) * room.weights[head][split];
    store(dst + head * head_dim + column, sum);
  }
}

template <int most>
static __device__ void attend(const Act* src, Act* dst, float* partial, int* arrived, const int* bases,
                              const int* counts,
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
  int most_active = 0;
  const int end = ((int)blockIdx.z + 1) * tile < tokens ? ((int)blockIdx.z + 1) * tile : tokens;
  let_others_begin();
  // What a step's tokens see was there before its first kernel.
  Span span = span_of(bases, counts, blockIdx.z * tile, end, window, splits);
  wait_for_others();
  for (int leader = blockIdx.z * tile; leader < end;) {
    if (leader > (int)blockIdx.z * tile) span = span_of(bases, counts, leader, end, window, splits);
    const int after = span.after;
    most_active = span.active > most_active ? span.active : most_active;
    const int rows = (after - leader) * together;
    if ((int)blockIdx.x >= span.active) {
      leader = after;
      continue;
    }
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
    const long long at = ((long long)kv_head * capacity + bases[leader]) * head_dim;
    Seen seen = {keys + at, values + at, span.low + (int)blockIdx.x * span.whole, 0};
    seen.last = seen.first + span.whole < span.high ? seen.first + span.whole : span.high;
    Next<4> next;
    fetch(next, seen, seen.first, head_dim, at_once);
    for (int key = seen.first; key < seen.last; key += at_once)
      take_keys<most>(room, seen, next, key, head_dim, at_once, rows, scaling, cap, acc);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int column = thread + 128 * half;
      if (column >= head_dim) break;
#pragma unroll
      for (int r = 0; r < most; r++) {
        if (r >= rows) break;
        const long long token = leader + r / together;
        const int head = first_head + r % together;
        if (span.active == 1) {
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
  if (most_active <= 1) return;
  // The last of a token's splits adds all of them up.
  __shared__ int last;
  publish();
  __syncthreads();
  if (thread == 0) {
    int* count = arrived + blockIdx.z * gridDim.y + blockIdx.y;
    last = count_up(count) == splits - 1;
    if (last) *count = 0;
  }
  __syncthreads();
  if (!last) return;
  for (int leader = blockIdx.z * tile; leader < end;) {
    const Span span = span_of(bases, counts, leader, end, window, splits);
    for (int token = leader; span.active > 1 && token < span.after; token++)
      join<most>(room, partial + ((long long)token * heads + first_head) * splits * (head_dim + 2),
                 dst + (long long)token * dst_stride + first_head * head_dim, together, splits, span.active, head_dim);
    leader = span.after;
  }
}

#define ATTEND(most)                                                                                                  \
  extern "C" __global__ void __launch_bounds__(128) attend_##most(                                                    \
      const Act* src, Act* dst, float* partial, int* arrived, const int* bases, const int* counts, const Act* keys,   \
      const Act* values, int src_stride, int dst_stride, int query_at, int query_stride, int tokens, int tile,        \
      int capacity, int heads, int kv_heads, int head_dim, int window, double scaling, double cap) {                  \
    attend<most>(src, dst, partial, arrived, bases, counts, keys, values, src_stride, dst_stride, query_at, query_stride,      \
                 tokens, tile, capacity, heads, kv_heads, head_dim, window, (float)scaling, (float)cap);              \
  }
ATTEND(1)
ATTEND(4)
ATTEND(16)

// By this name the compiler is asked for the whole file.
extern "C" __global__ void glmbot_attention() {}
