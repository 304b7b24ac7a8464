// Kernels and launches with a fault each: the emulation must show it. All work on 64 numbers.
#include "exported.h"

namespace {

constexpr int kSize = 64;

__global__ void missing_barrier_kernel(const int* in, int* out) {
  __shared__ int values[kSize];
  values[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = values[kSize - 1 - threadIdx.x];
}

// The barrier after the reading is missing: a fast thread overwrites what a slow one has still to read.
__global__ void missing_second_barrier_kernel(const int* in, int* out) {
  __shared__ int values[kSize];
  int value = in[threadIdx.x];
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = value;
    __syncthreads();
    value += values[(threadIdx.x + 1) % kSize];
  }
  out[threadIdx.x] = value;
}

__global__ void missing_warp_barrier_kernel(const int* in, int* out) {
  __shared__ int values[kSize];
  values[threadIdx.x] = in[threadIdx.x];
  __ballot_sync(0xffffffffu, 1);  // meets, but does not order memory
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

__global__ void lost_update_kernel(int* out) { *out += 1; }

__global__ void racing_blocks_kernel(int* out) { out[threadIdx.x] = blockIdx.x; }

__global__ void order_of_arrival_kernel(int* out, int* next) { out[atomicAdd(next, 1)] = threadIdx.x; }

__global__ void unwritten_shared_kernel(int* out) {
  __shared__ int values[kSize];
  if (threadIdx.x < kSize - 1) {
    values[threadIdx.x] = 1;
  }
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void two_barriers_kernel(int* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void half_a_warp_kernel(int* out) {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

__global__ void foreign_mask_kernel(int* out) { out[threadIdx.x] = __shfl_sync(0xffu, 1, 0); }

__global__ void absent_lane_kernel(const int* in, int* out) {
  if (threadIdx.x % 32 < 31) {
    out[threadIdx.x] = in[threadIdx.x] + __shfl_down_sync(0x7fffffffu, in[threadIdx.x], 1);
  }
}

__global__ void waiting_block_kernel(int* out) {
  if (blockIdx.x == gridDim.x - 1) {
    atomicExch(out, 1);
  } else if (blockIdx.x == 0) {
    while (atomicAdd(out, 0) == 0) {
    }
  }
}

__global__ void misaligned_kernel(const int* in, int* out) {
  *reinterpret_cast<long long*>(out + 1) = *reinterpret_cast<const long long*>(in + 2);
}

__global__ void beyond_shared_kernel(int* out) {
  extern __shared__ int values[];
  values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void plain_kernel(int* out) { out[threadIdx.x] = 1; }

}  // namespace

EXPORTED void missing_barrier(const int* in, int* out) { missing_barrier_kernel<<<1, kSize, 0, STREAM>>>(in, out); }
EXPORTED void missing_second_barrier(const int* in, int* out) {
  missing_second_barrier_kernel<<<1, kSize, 0, STREAM>>>(in, out);
}
EXPORTED void missing_warp_barrier(const int* in, int* out) {
  missing_warp_barrier_kernel<<<1, kSize, 0, STREAM>>>(in, out);
}
EXPORTED void lost_update(const int*, int* out) { lost_update_kernel<<<1, kSize, 0, STREAM>>>(out); }
EXPORTED void racing_blocks(const int*, int* out) { racing_blocks_kernel<<<3, kSize, 0, STREAM>>>(out); }
EXPORTED void order_of_arrival(const int*, int* out) {
  int next = 0;
  order_of_arrival_kernel<<<1, kSize, 0, STREAM>>>(out, &next);
}
EXPORTED void unwritten_shared(const int*, int* out) { unwritten_shared_kernel<<<1, kSize, 0, STREAM>>>(out); }
EXPORTED void two_barriers(const int*, int* out) { two_barriers_kernel<<<1, kSize, 0, STREAM>>>(out); }
EXPORTED void half_a_warp(const int*, int* out) { half_a_warp_kernel<<<1, 32, 0, STREAM>>>(out); }
EXPORTED void foreign_mask(const int*, int* out) { foreign_mask_kernel<<<1, 32, 0, STREAM>>>(out); }
EXPORTED void absent_lane(const int* in, int* out) { absent_lane_kernel<<<1, kSize, 0, STREAM>>>(in, out); }
EXPORTED void waiting_block(const int*, int* out) { waiting_block_kernel<<<2, 1, 0, STREAM>>>(out); }
EXPORTED void misaligned(const int* in, int* out) { misaligned_kernel<<<1, 1, 0, STREAM>>>(in, out); }
EXPORTED void beyond_shared(const int*, int* out) { beyond_shared_kernel<<<1, kSize, 63 * 4, STREAM>>>(out); }

EXPORTED void no_blocks(const int*, int* out) { plain_kernel<<<0, kSize, 0, STREAM>>>(out); }
EXPORTED void too_many_threads(const int*, int* out) { plain_kernel<<<1, dim3(32, 33), 0, STREAM>>>(out); }
EXPORTED void too_much_shared_memory(const int*, int* out) { plain_kernel<<<1, kSize, 49 * 1024, STREAM>>>(out); }
EXPORTED void default_stream(const int*, int* out) { plain_kernel<<<1, kSize>>>(out); }
EXPORTED void unchecked_launch(const int*, int* out) {
  plain_kernel<<<1, kSize, 0, STREAM>>>(out);
  plain_kernel<<<1, kSize, 0, STREAM>>>(out);
}
