// What kernels need of the device: CUDA's own functions, a launch, and the instructions that CUDA
// has no function for. Without nvcc, tests/cuda/emulation.h takes the place of all this, and the
// same kernels run on the processor.
//
// All of it works on sm_80 and everything later: mma.sync and cp.async, not wgmma and TMA, which
// change with every generation. docs/gpu.md tells what that costs.
#pragma once

#include "cuda/kernels.h"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// Shared memory of a block, by name and type: trivial types only, 48 KiB at most.
#define FASTSEL_SHARED(Type, name) __shared__ Type name

// The same of a kernel that is launched with so many bytes, as launch_with does: beyond 48 KiB too.
#define FASTSEL_SHARED_OF_LAUNCH(Type, name)            \
  extern __shared__ __align__(16) char launch_shared[]; \
  auto& name = *reinterpret_cast<Type*>(launch_shared)

namespace fastsel::cuda {

// Shared memory that a block may have without asking.
constexpr size_t kStaticShared = size_t{48} << 10;

// Copies 16 bytes, aligned, from global to shared memory in the background; zeros unless `valid`.
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
  const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

__device__ inline void copy_async(float* shared, const float* global) {
  const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(target), "l"(global) : "memory");
}

// Makes one group of the copies that this thread has started since it last did; it may be empty.
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for the copies of all groups of this thread but the latest ones.
template <int Latest>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Latest) : "memory");
}

// Four 8x16-byte matrices from shared memory: lane i gives the address of row i % 8 of matrix i / 8
// and gets bytes 4 (i % 4) .. of row i / 4 of each.
__device__ inline void load_matrices(const void* row, uint32_t (&out)[4]) {
  const auto source = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(source)
               : "memory");
}

// sums [16, 8] += a [16, 32] b [32, 8] in int8 with exact int32 sums, spread over the warp as
// mma.m16n8k32 has it: load_matrices gives `a`, and two `b`.
__device__ inline void multiply_add(int32_t (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline float half_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

inline void require_success(cudaError_t error) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
  }
}

template <size_t Bytes, class... Parameters, class... Arguments>
void launch_with(void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
                 Arguments... arguments) {
  if (Bytes > kStaticShared) {
    require_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(Bytes)));
  }
  kernel<<<grid, threads, Bytes, stream>>>(arguments...);
  require_success(cudaGetLastError());
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
            Arguments... arguments) {
  launch_with<0>(kernel, grid, threads, stream, arguments...);
}

}  // namespace fastsel::cuda

#else
#include "emulation.h"
#endif

namespace fastsel::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_id() { return static_cast<int>(threadIdx.x) / kWarp; }

__device__ inline int64_t smaller(int64_t a, int64_t b) { return b < a ? b : a; }
__device__ inline int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

// Numbers that are not negative order like their bits, as signed integers; every negative number
// stays below them.
__device__ inline void atomic_min(double* target, double value) {
  atomicMin(reinterpret_cast<long long*>(target), __double_as_longlong(value));
}

// Blocks for so much work, at least one.
inline unsigned blocks_for(int64_t work, int64_t per_block) {
  const int64_t blocks = (work + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks);
}

}  // namespace fastsel::cuda
