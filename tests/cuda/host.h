// A card on the CPU, for tests: what kernels ask of a machine, and launches of them. The threads of a block are fibers,
// one block runs at a time. What is undefined on a card is an error here: threads of a block at different barriers, lanes
// of a warp that don't compute together; and what is shared by a block is NaN until it is written.

#include <csetjmp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include <ucontext.h>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("block_shared")))
#define __syncthreads() host::wait_for_block(__LINE__)

struct Dimensions {
  unsigned x, y, z;
};
static Dimensions threadIdx, blockIdx, blockDim, gridDim;

typedef unsigned short Bits;

// The compiler's linker gives these names to the ends of the section.
extern char __start_block_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_block_shared[] __attribute__((weak, visibility("hidden")));

namespace host {
constexpr int kMostThreads = 256, kWarp = 32, kStackBytes = 1 << 16;
enum Waits { kReady, kForBlock, kForWarp, kDone };
enum Together { kLane, kMultiply };

// What a lane brings to what a warp does together.
struct Brought {
  Together what;
  int distance;
  float value;
  float* sums;
  const unsigned* a;
  unsigned b[2];
};

struct Fiber {
  jmp_buf place;
  Waits waits;
  int line;
  Brought brought;
};

static Fiber fibers[kMostThreads];
static char stacks[kMostThreads][kStackBytes] __attribute__((aligned(64)));
static ucontext_t started, starter;
static int begun = 0, running = 0;
static jmp_buf scheduler;
static void (*body)(void**);
static void** arguments;
static char said[160];

static __attribute__((noinline)) void leave(Waits waits) {
  fibers[running].waits = waits;
  if (!_setjmp(fibers[running].place)) _longjmp(scheduler, 1);
}

static void wait_for_block(int line) {
  fibers[running].line = line;
  leave(kForBlock);
}

static void live() {
  // Its first turn only makes its stack.
  if (!_setjmp(fibers[running].place)) swapcontext(&started, &starter);
  for (;;) {
    body(arguments);
    leave(kDone);
  }
}

static void begin_fibers(int threads) {
  for (; begun < threads; begun++) {
    running = begun;
    getcontext(&started);
    started.uc_stack.ss_sp = stacks[begun];
    started.uc_stack.ss_size = kStackBytes;
    started.uc_link = nullptr;
    makecontext(&started, live, 0);
    swapcontext(&starter, &started);
  }
}

static __attribute__((noinline)) void resume(int thread) {
  running = thread;
  threadIdx = {(unsigned)thread, 0, 0};
  if (!_setjmp(scheduler)) _longjmp(fibers[thread].place, 1);
}

static float value_of(Bits bits) {
#ifdef GLMBOT_BFLOAT16
  const unsigned wide = (unsigned)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
#else
  _Float16 value;
  memcpy(&value, &bits, 2);
  return (float)value;
#endif
}

static float half_of(unsigned pair, int which) { return value_of((Bits)(pair >> 16 * which)); }

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": a is 16 x 16, b 16 x 8, sums 16 x 8.
static void multiply_warp(Fiber* lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kWarp; lane++) {
    const Brought& it = lanes[lane].brought;
    const int group = lane / 4, quarter = lane % 4;
    for (int i = 0; i < 8; i++)
      a[group + (i / 2 % 2 ? 8 : 0)][quarter * 2 + i % 2 + (i >= 4 ? 8 : 0)] = half_of(it.a[i / 2], i % 2);
    for (int i = 0; i < 4; i++) b[quarter * 2 + i % 2 + (i >= 2 ? 8 : 0)][group] = half_of(it.b[i / 2], i % 2);
  }
  for (int lane = 0; lane < kWarp; lane++)
    for (int i = 0; i < 4; i++) {
      const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
      lanes[lane].brought.sums[i] += sum;
    }
}

static bool do_together(Fiber* lanes) {
  const Brought first = lanes[0].brought;
  for (int lane = 0; lane < kWarp; lane++) {
    const Brought& it = lanes[lane].brought;
    if (lanes[lane].waits != kForWarp || it.what != first.what || it.distance != first.distance) {
      snprintf(said, sizeof said, "lanes of a warp do not compute together");
      return false;
    }
  }
  if (first.what == kMultiply) {
    multiply_warp(lanes);
  } else {
    float values[kWarp];
    for (int lane = 0; lane < kWarp; lane++) values[lane] = lanes[lane].brought.value;
    for (int lane = 0; lane < kWarp; lane++) lanes[lane].brought.value = values[lane ^ first.distance];
  }
  for (int lane = 0; lane < kWarp; lane++) lanes[lane].waits = kReady;
  return true;
}

// Until all of the warp's lanes wait for their block, or are done.
static bool run_warp(Fiber* lanes, bool backwards) {
  for (;;) {
    bool together = false;
    for (int i = 0; i < kWarp; i++) {
      Fiber& lane = lanes[backwards ? kWarp - 1 - i : i];
      if (lane.waits == kReady) resume((int)(&lane - fibers));
      together |= lane.waits == kForWarp;
    }
    if (!together) return true;
    if (!do_together(lanes)) return false;
  }
}

static bool run_block(int threads, bool backwards) {
  memset(__start_block_shared, 0xff, __stop_block_shared - __start_block_shared);
  for (int i = 0; i < threads; i++) fibers[i].waits = kReady;
  for (;;) {
    for (int warp = 0; warp < threads / kWarp; warp++)
      if (!run_warp(fibers + kWarp * (backwards ? threads / kWarp - 1 - warp : warp), backwards)) return false;
    for (int i = 0; i < threads; i++) {
      if (fibers[i].waits == fibers[0].waits && (fibers[i].waits == kDone || fibers[i].line == fibers[0].line)) continue;
      snprintf(said, sizeof said, "threads wait at different barriers: lines %d and %d, or have ended", fibers[0].line,
               fibers[i].line);
      return false;
    }
    if (fibers[0].waits == kDone) return true;
    for (int i = 0; i < threads; i++) fibers[i].waits = kReady;
  }
}

// Returns what is wrong, or nothing. backwards: whether the last block and the last thread come first, as they may.
static const char* launch(void (*kernel)(void**), const unsigned* grid, int threads, void** given, bool backwards) {
  if (threads > kMostThreads || threads % kWarp) return "so many threads a block may not have";
  gridDim = {grid[0], grid[1], grid[2]}, blockDim = {(unsigned)threads, 1, 1};
  body = kernel, arguments = given;
  begin_fibers(threads);
  const unsigned all = grid[0] * grid[1] * grid[2];
  for (unsigned i = 0; i < all; i++) {
    const unsigned at = backwards ? all - 1 - i : i;
    blockIdx = {at % grid[0], at / grid[0] % grid[1], at / grid[0] / grid[1]};
    if (!run_block(threads, backwards)) {
      begun = 0;  // Some wait in the middle of their work for ever.
      return said;
    }
  }
  return nullptr;
}

// One letter for each parameter: p for an address, i for an int, d for a double.
template <class T>
constexpr char letter_of(T) { return 'i'; }
template <class T>
constexpr char letter_of(T*) { return 'p'; }
constexpr char letter_of(double) { return 'd'; }

template <class... Taken>
static const char* parameters_of(void (*)(Taken...)) {
  static const char letters[] = {letter_of(Taken{})..., 0};
  return letters;
}

template <class... Taken, std::size_t... number>
static void call(void (*kernel)(Taken...), void** given, std::index_sequence<number...>) {
  kernel(*(Taken*)given[number]...);
}
template <class... Taken>
static void call(void (*kernel)(Taken...), void** given) {
  call(kernel, given, std::index_sequence_for<Taken...>{});
}
}  // namespace host

static float from_half(Bits bits) {
  _Float16 value;
  memcpy(&value, &bits, 2);
  return (float)value;
}

static float widen(Bits bits) { return host::value_of(bits); }

static Bits narrow(float value) {
#ifdef GLMBOT_BFLOAT16
  unsigned bits;
  memcpy(&bits, &value, 4);
  if (value != value) return 0x7fff;
  return (Bits)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#else
  const _Float16 made = (_Float16)value;
  Bits bits;
  memcpy(&bits, &made, 2);
  return bits;
#endif
}

// PTX ISA, "prmt": the bytes of `low` are 0 to 3, those of `high` 4 to 7.
static unsigned bytes_of(unsigned low, unsigned high, unsigned which) {
  const unsigned long long all = low | (unsigned long long)high << 32;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) out |= (unsigned)(all >> 8 * (which >> 4 * i & 7) & 255) << 8 * i;
  return out;
}

// In double a product of two float16 is exact, and what is rounded to float16 in the end is rounded once.
static unsigned fuse_halves(unsigned a, unsigned b, unsigned c) {
  unsigned out = 0;
  for (int i = 0; i < 2; i++) {
    const double sum = (double)from_half((Bits)(a >> 16 * i)) * from_half((Bits)(b >> 16 * i)) + from_half((Bits)(c >> 16 * i));
    const _Float16 made = (_Float16)sum;
    Bits bits;
    memcpy(&bits, &made, 2);
    out |= (unsigned)bits << 16 * i;
  }
  return out;
}
static unsigned subtract_halves(unsigned a, unsigned b) { return fuse_halves(b, 0xbc00bc00u, a); }

static float from_lane(float value, int distance) {
  host::Brought& mine = host::fibers[host::running].brought;
  mine = {host::kLane, distance, value, nullptr, nullptr, {0, 0}};
  host::leave(host::kForWarp);
  return host::fibers[threadIdx.x].brought.value;
}

static void multiply(float* sums, const unsigned* a, unsigned b0, unsigned b1) {
  host::fibers[host::running].brought = {host::kMultiply, 0, 0, sums, a, {b0, b1}};
  host::leave(host::kForWarp);
}

#define KERNEL(name)                                                                                               \
  extern "C" const char* parameters_##name() { return host::parameters_of(name); }                                 \
  extern "C" const char* launch_##name(const unsigned* grid, int threads, void** given, int backwards) {           \
    return host::launch([](void** taken) { host::call(name, taken); }, grid, threads, given, backwards != 0);      \
  }
