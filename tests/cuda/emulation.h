// A GPU for tests: csrc/cuda/device.h takes this in place of CUDA where nvcc does not compile, and
// the kernels, as they ship, run on the processor.
//
// The threads of a block are fibers. One runs until it waits: for its warp, in an operation of the
// whole warp, or for the block, at a barrier. Which goes on next is drawn at random, if
// emulation_order has been given a seed, and so is the order of the blocks: results that depend on
// it are a race. A block or a warp whose threads wait for different things is an error, as is a
// thread that ends while others wait for it.
//
// Shared memory is as long as its type and new for each block, filled with 0xff: NaN, or an index
// far out of bounds. Copies in the background arrive when they are waited for, not before.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(...)
#define FASTSEL_SHARED(Type, name) Type& name = emulation::shared<Type>(emulation::kStaticShared)
#define FASTSEL_SHARED_OF_LAUNCH(Type, name) \
  Type& name = emulation::shared<Type>(emulation::device.launched_shared)

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr int kWarp = 32;
constexpr size_t kStack = size_t{128} << 10;
constexpr size_t kStaticShared = size_t{48} << 10;
constexpr size_t kMaxShared = size_t{163} << 10;  // of a block on an A100, if it asks

inline void fail(const std::string& what) { throw std::runtime_error("emulation: " + what); }

// A place to go on from. AddressSanitizer has to be told of every change of the stack.
struct Context {
  ucontext_t registers;
  const void* stack = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;

  void leave_for(Context& other) {
    announce(&fake_stack, other);
    swapcontext(&registers, &other.registers);
    arrive();
  }

  static void announce(void** save, const Context& other) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(save, other.stack, other.size);
#else
    (void)save, (void)other;
#endif
  }

  void arrive() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  }
};

// What a lane brings to an operation of its warp, and what computes the results for all lanes.
using Resolve = void (*)(void* const* lanes);

struct Copy {
  void* target;
  const void* source;  // null: zeros
  size_t size;
  int group;
};

enum class Wait { kNothing, kWarp, kBlock, kEnd };

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  unsigned thread = 0;
  Wait wait = Wait::kNothing;
  Resolve resolve = nullptr;
  void* argument = nullptr;
  std::vector<Copy> copies;
  int groups = 0;  // of copies, that have ended
};

struct Device {
  std::mt19937_64 random;
  bool shuffled = false;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::function<void()> body;
  Context scheduler;
  Fiber* running = nullptr;
  std::unique_ptr<char[]> shared;
  size_t shared_size = 0;
  size_t launched_shared = 0;
  std::string error;
};

inline Device device;

inline void wait(Wait reason) {
  Fiber& self = *device.running;
  self.wait = reason;
  self.context.leave_for(device.scheduler);
}

inline void thread_main() {
  device.running->context.arrive();
  try {
    device.body();
  } catch (const std::exception& error) {
    device.error = error.what();
  }
  Fiber& self = *device.running;
  if (!self.copies.empty()) device.error = "a thread ended with copies under way";
  self.wait = Wait::kEnd;
  Context::announce(nullptr, device.scheduler);
  setcontext(&device.scheduler.registers);
}

inline void resume(Fiber& fiber) {
  threadIdx.x = fiber.thread;
  fiber.wait = Wait::kNothing;
  device.running = &fiber;
  device.scheduler.leave_for(fiber.context);
  if (!device.error.empty()) fail(device.error);
}

// An operation of the whole warp: `resolve` sees every lane's argument, and may change it.
inline void meet_warp(Resolve resolve, void* argument) {
  device.running->resolve = resolve;
  device.running->argument = argument;
  wait(Wait::kWarp);
}

inline void run_block(unsigned threads) {
  device.shared.reset();
  std::vector<Fiber*> ready;
  for (unsigned t = 0; t < threads; ++t) {
    if (t == device.fibers.size()) device.fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *device.fibers[t];
    fiber.thread = t;
    fiber.wait = Wait::kNothing;
    fiber.copies.clear();
    fiber.groups = 0;
    fiber.context.stack = fiber.stack.get();
    fiber.context.size = kStack;
    fiber.context.fake_stack = nullptr;
    getcontext(&fiber.context.registers);
    fiber.context.registers.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.registers.uc_stack.ss_size = kStack;
    makecontext(&fiber.context.registers, thread_main, 0);
    ready.push_back(&fiber);
  }
  std::vector<unsigned> waiting(threads / kWarp);  // for their warp
  unsigned at_barrier = 0;
  unsigned ended = 0;
  while (ended < threads) {
    if (ready.empty()) {
      if (at_barrier < threads) fail("threads wait for others that do not come");
      for (unsigned t = 0; t < threads; ++t) ready.push_back(device.fibers[t].get());
      at_barrier = 0;
    }
    if (device.shuffled) std::swap(ready[device.random() % ready.size()], ready.back());
    Fiber& fiber = *ready.back();
    ready.pop_back();
    resume(fiber);
    if (fiber.wait == Wait::kEnd) ++ended;
    if (fiber.wait == Wait::kBlock) ++at_barrier;
    const unsigned warp = fiber.thread / kWarp;
    if (fiber.wait != Wait::kWarp || ++waiting[warp] < kWarp) continue;
    waiting[warp] = 0;
    void* lanes[kWarp];
    for (int i = 0; i < kWarp; ++i) {
      Fiber& lane = *device.fibers[warp * kWarp + i];
      if (lane.resolve != fiber.resolve) fail("lanes of a warp meet in different operations");
      lanes[i] = lane.argument;
      ready.push_back(&lane);
    }
    fiber.resolve(lanes);
  }
}

inline void run(dim3 grid, unsigned threads, size_t shared, std::function<void()> body) {
  if (shared > kMaxShared) fail("more shared memory than a block can have");
  device.launched_shared = shared;
  if (threads % kWarp != 0) fail("a block must consist of whole warps");
  device.body = std::move(body);
  device.error.clear();
  gridDim = grid;
  blockDim = dim3(threads);
  std::vector<uint64_t> blocks(static_cast<size_t>(grid.x) * grid.y);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = i;
  if (device.shuffled) std::shuffle(blocks.begin(), blocks.end(), device.random);
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  void* stack;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &device.scheduler.size);
  pthread_attr_destroy(&attributes);
  device.scheduler.stack = stack;
#endif
  for (const uint64_t block : blocks) {
    blockIdx = dim3(static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x));
    run_block(threads);
  }
}

template <class T>
T& shared(size_t size) {
  static_assert(std::is_trivial_v<T>, "shared memory starts out undefined");
  if (sizeof(T) > size) fail("a block has less shared memory than that");
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__, "as new[] aligns");
  if (!device.shared) {
    device.shared.reset(new char[sizeof(T)]);
    device.shared_size = sizeof(T);
    std::memset(device.shared.get(), 0xff, sizeof(T));
  }
  if (device.shared_size != sizeof(T)) fail("a kernel has one piece of shared memory");
  return *reinterpret_cast<T*>(device.shared.get());
}

// An exchange of values within a warp: Index says whose value a lane gets, given its own number.
template <class T>
struct Exchange {
  T value;
  int index;
  T result;
};

template <class T>
T exchange(T value, int index) {
  Exchange<T> mine{value, index, T{}};
  meet_warp(
      [](void* const* lanes) {
        for (int i = 0; i < kWarp; ++i) {
          auto* lane = static_cast<Exchange<T>*>(lanes[i]);
          lane->result = static_cast<Exchange<T>*>(lanes[lane->index])->value;
        }
      },
      &mine);
  return mine.result;
}

// A reduction over a warp.
template <class T, T (*combine)(T, T)>
T reduce(T value) {
  meet_warp(
      [](void* const* lanes) {
        T result = *static_cast<T*>(lanes[0]);
        for (int i = 1; i < kWarp; ++i) result = combine(result, *static_cast<T*>(lanes[i]));
        for (int i = 0; i < kWarp; ++i) *static_cast<T*>(lanes[i]) = result;
      },
      &value);
  return value;
}

inline void start_copy(Copy copy) {
  copy.group = device.running->groups;
  device.running->copies.push_back(copy);
}

inline unsigned larger(unsigned a, unsigned b) { return a > b ? a : b; }
inline unsigned smaller(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned both(unsigned a, unsigned b) { return a | b; }

inline void check(unsigned mask) {
  if (mask != 0xffffffffu) fail("an operation of a warp must be one of all its lanes");
}

inline int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::Wait::kBlock); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  emulation::check(mask);
  return emulation::exchange(value, source);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  emulation::check(mask);
  return emulation::exchange(value, emulation::lane() ^ lane_mask);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, int delta) {
  emulation::check(mask);
  const int lane = emulation::lane();
  return emulation::exchange(value, lane < delta ? lane : lane - delta);
}

inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  emulation::check(mask);
  return emulation::reduce<unsigned, emulation::larger>(value);
}

inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  emulation::check(mask);
  return emulation::reduce<unsigned, emulation::smaller>(value);
}

inline bool __any_sync(unsigned mask, bool value) { return __reduce_max_sync(mask, value) != 0; }

inline unsigned __ballot_sync(unsigned mask, bool value) {
  emulation::check(mask);
  return emulation::reduce<unsigned, emulation::both>(unsigned{value} << emulation::lane());
}

// No two threads run at once, so these need no more than to be in one piece.
template <class T>
T atomicAdd(T* target, T value) {
  const T before = *target;
  *target += value;
  return before;
}

template <class T>
T atomicMin(T* target, T value) {
  const T before = *target;
  *target = std::min(before, value);
  return before;
}

inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

template <class To, class From>
To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits for bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline long long __double_as_longlong(double x) { return bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return bit_cast<double>(x); }
inline float __uint_as_float(uint32_t x) { return bit_cast<float>(x); }

inline float __double2float_ru(double x) {
  const float nearest = static_cast<float>(x);
  return static_cast<double>(nearest) < x ? std::nextafter(nearest, INFINITY) : nearest;
}

namespace fastsel::cuda {

inline void copy_async(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(shared) % 16 != 0)
    emulation::fail("a copy of 16 bytes must be aligned to them");
  emulation::start_copy({shared, valid ? global : nullptr, 16, 0});
}

inline void copy_async(float* shared, const float* global) {
  emulation::start_copy({shared, global, sizeof(float), 0});
}

inline void end_copies() { ++emulation::device.running->groups; }

template <int Latest>
void wait_for_copies() {
  emulation::Fiber& self = *emulation::device.running;
  const auto later = std::stable_partition(
      self.copies.begin(), self.copies.end(),
      [&](const emulation::Copy& copy) { return copy.group < self.groups - Latest; });
  for (auto copy = self.copies.begin(); copy != later; ++copy) {
    if (copy->source != nullptr) {
      std::memcpy(copy->target, copy->source, copy->size);
    } else {
      std::memset(copy->target, 0, copy->size);
    }
  }
  self.copies.erase(self.copies.begin(), later);
}

inline void load_matrices(const void* row, uint32_t (&out)[4]) {
  struct Lane {
    const void* row;
    uint32_t out[4];
  } mine{row, {}};
  emulation::meet_warp(
      [](void* const* lanes) {
        for (int i = 0; i < emulation::kWarp; ++i) {
          for (int m = 0; m < 4; ++m) {
            const auto* source =
                static_cast<const char*>(static_cast<Lane*>(lanes[m * 8 + i / 4])->row);
            std::memcpy(&static_cast<Lane*>(lanes[i])->out[m], source + i % 4 * 4, 4);
          }
        }
      },
      &mine);
  std::memcpy(out, mine.out, sizeof out);
}

// The layout of mma.m16n8k32 with 8-bit integers, from the manual of PTX: of the lane 4 g + t,
// byte i of a[r] is row g + 8 (r % 2), column 4 t + i + 16 (r / 2); byte i of b[r] is row
// 4 t + i + 16 r, column g; sum r is row g + 8 (r / 2), column 2 t + r % 2.
inline void multiply_add(int32_t (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Lane {
    int32_t* sums;
    uint32_t a[4];
    uint32_t b[2];
  } mine{sums, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  emulation::meet_warp(
      [](void* const* lanes) {
        int8_t left[16][32];
        int8_t right[8][32];
        for (int lane = 0; lane < emulation::kWarp; ++lane) {
          const auto* own = static_cast<Lane*>(lanes[lane]);
          const int g = lane / 4;
          const int t = lane % 4;
          for (int r = 0; r < 4; ++r)
            std::memcpy(&left[g + r % 2 * 8][t * 4 + r / 2 * 16], &own->a[r], 4);
          for (int r = 0; r < 2; ++r) std::memcpy(&right[g][t * 4 + r * 16], &own->b[r], 4);
        }
        for (int lane = 0; lane < emulation::kWarp; ++lane) {
          for (int r = 0; r < 4; ++r) {
            int32_t& sum = static_cast<Lane*>(lanes[lane])->sums[r];
            const int8_t* x = left[lane / 4 + r / 2 * 8];
            const int8_t* y = right[lane % 4 * 2 + r % 2];
            for (int k = 0; k < 32; ++k) sum += x[k] * y[k];
          }
        }
      },
      &mine);
}

inline float half_to_float(uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const int fraction = bits & 0x3ff;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;  // inf and NaN never come in
}

template <size_t Bytes, class... Parameters, class... Arguments>
void launch_with(void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream,
                 Arguments... arguments) {
  emulation::run(grid, threads, Bytes, [&] { kernel(arguments...); });
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
            Arguments... arguments) {
  launch_with<0>(kernel, grid, threads, stream, arguments...);
}

}  // namespace fastsel::cuda

// Draws the order of blocks and threads from a seed from now on; 0: the last thread first.
extern "C" __attribute__((visibility("default"), used)) inline void emulation_order(uint64_t seed) {
  emulation::device.shuffled = seed != 0;
  emulation::device.random.seed(seed);
}
