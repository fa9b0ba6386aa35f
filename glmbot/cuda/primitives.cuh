// What the kernels ask of the machine. No header of CUDA's is needed, so that NVRTC finds all of it by itself; tests
// define GLMBOT_HOST and give these functions for the CPU.

#ifndef GLMBOT_HOST
#define INFINITY __int_as_float(0x7f800000)

typedef unsigned short Bits;

static __device__ __forceinline__ float from_half(Bits bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Of the activations, which are float16 or, with GLMBOT_BFLOAT16, bfloat16.
static __device__ __forceinline__ float widen(Bits bits) {
#ifdef GLMBOT_BFLOAT16
  return __int_as_float((int)bits << 16);
#else
  return from_half(bits);
#endif
}

static __device__ __forceinline__ Bits narrow(float value) {
  Bits bits;
#ifdef GLMBOT_BFLOAT16
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#endif
  return bits;
}

// Bytes of two words, by the four low nibbles of `which`.
static __device__ __forceinline__ unsigned bytes_of(unsigned low, unsigned high, unsigned which) {
  return __byte_perm(low, high, which);
}

// a - b and a * b + c of two float16 at once, rounded once.
static __device__ __forceinline__ unsigned subtract_halves(unsigned a, unsigned b) {
  unsigned out;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
static __device__ __forceinline__ unsigned fuse_halves(unsigned a, unsigned b, unsigned c) {
  unsigned out;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}

static __device__ __forceinline__ float from_lane(float value, int distance) {
  return __shfl_xor_sync(0xffffffffu, value, distance);
}

// sums[16 x 8] += a[16 x 16] * b[16 x 8] on the tensor cores; PTX ISA, "mma.m16n8k16". Turing has half of it.
static __device__ __forceinline__ void multiply(float* sums, const unsigned* a, unsigned b0, unsigned b1) {
#if defined(GLMBOT_BFLOAT16)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

// A kernel may be begun while the one before it still runs ("programmatic dependent launch" of the CUDA programming
// guide): before it reads or writes what that one has to do with, it waits for its end.
static __device__ __forceinline__ void wait_for_others() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
static __device__ __forceinline__ void let_others_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
#endif  // GLMBOT_HOST

// An element of a row of activations. A row of float32 is a float's.
struct Act {
  Bits bits;
};

struct alignas(16) Four {
  unsigned x[4];
};

// (x & mask) ^ flip in one instruction, which the compiler takes two for.
template <unsigned mask, unsigned flip>
static __device__ __forceinline__ unsigned cut_and_flip(unsigned x) {
#ifdef GLMBOT_HOST
  return (x & mask) ^ flip;
#else
  unsigned made;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(made) : "r"(x), "n"(mask), "n"(flip));
  return made;
#endif
}

#ifdef GLMBOT_HOST
static Four read_once(const void* at) { return *(const Four*)at; }
static float read_fresh(const float* at) { return *at; }
static void publish() {}
static int count_up(int* at) { return (*at)++; }
static void wait_for_others() {}
static void let_others_begin() {}
#else
// What another block has written in this launch, before it said so by `publish` and `count_up`.
static __device__ __forceinline__ float read_fresh(const float* at) { return __ldcg(at); }
static __device__ __forceinline__ void publish() { __threadfence(); }
static __device__ __forceinline__ int count_up(int* at) { return atomicAdd(at, 1); }

// What nobody reads a second time leaves the nearer cache to what is.
static __device__ __forceinline__ Four read_once(const void* at) {
  Four made;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(made.x[0]), "=r"(made.x[1]), "=r"(made.x[2]), "=r"(made.x[3])
               : "l"(at));
  return made;
}
#endif

static __device__ __forceinline__ float load(const float* at) { return *at; }
static __device__ __forceinline__ float load(const Act* at) { return widen(at->bits); }
static __device__ __forceinline__ void store(float* at, float value) { *at = value; }
static __device__ __forceinline__ void store(Act* at, float value) { at->bits = narrow(value); }
static __device__ __forceinline__ unsigned pair(Bits low, Bits high) { return low | (unsigned)high << 16; }

static __device__ __forceinline__ float sum_of_warp(float value) {
  for (int distance = 16; distance; distance >>= 1) value += from_lane(value, distance);
  return value;
}

static __device__ __forceinline__ float greatest_of_warp(float value) {
  for (int distance = 16; distance; distance >>= 1) value = fmaxf(value, from_lane(value, distance));
  return value;
}

// Of a block of 256 threads.
static __device__ float sum_of_block(float value) {
  __shared__ float parts[8];
  value = sum_of_warp(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < 8; i++) total += parts[i];
  return total;
}

// kinds: 0 SiLU, 1 GELU by tanh, 2 GELU by erf, 3 the square of what is above 0, 4 the cap.
static __device__ float activated(float x, int kind, float most) {
  switch (kind) {
    case 0: return x / (1.0f + expf(-x));
    case 1: return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    case 2: return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
    case 3: return x > 0 ? x * x : 0.0f;
    default: return most * tanhf(x / most);
  }
}

// What becomes of a sum with its bias: its activation where that is one (see `activate`), plus `factor` times what `other` has there,
// plus what is there already.
struct Ending {
  const float* bias;
  const Act* other;
  int other_stride, biased, adds, activation;
  float factor;
};

template <class Out>
static __device__ __forceinline__ void finish(const Ending& ending, float total, Out* to, int token, int out) {
  if (ending.activation >= 0) total = activated(total, ending.activation, 0);
  if (ending.factor != 0) total += ending.factor * load(ending.other + (long long)token * ending.other_stride + out);
  store(to, ending.adds ? total + load(to) : total);
}
