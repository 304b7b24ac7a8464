// Kernels without a fault, for what the emulation knows of CUDA: their results must be right in every order.
#include "exported.h"

namespace {

constexpr int kThreads = 128;
constexpr unsigned int kAll = 0xffffffffu;
__constant__ float weights[2] = {1.0f, 0.5f};

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int offset = warpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_down_sync(kAll, value, offset);
  }
  return value;
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kSize) sum_kernel(const T* __restrict__ in, T* __restrict__ out, int n) {
  __shared__ T partial[kSize / 32], total;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const T sum = warp_sum(i < n ? __ldg(in + i) : T(0));
  if (threadIdx.x % 32 == 0) {
    partial[threadIdx.x / 32] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    total = 0;
    for (T value : partial) {
      total += value;
    }
    out[blockIdx.x] = total;
  }
}

// Threads beyond the end return before the barrier, which waits for the others only.
__global__ void reverse_kernel(const int* in, int* out, int n) {
  extern __shared__ __align__(16) int line[];
  if (threadIdx.x >= n) {
    return;
  }
  line[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = line[n - 1 - threadIdx.x];
}

__global__ void number_kernel(long long* out) {
  const dim3 size = blockDim, grid = gridDim;
  const unsigned int block = (blockIdx.z * grid.y + blockIdx.y) * grid.x + blockIdx.x;
  const unsigned int thread = (threadIdx.z * size.y + threadIdx.y) * size.x + threadIdx.x;
  const unsigned int i = block * size.x * size.y * size.z + thread;
  out[i] = i;
}

__global__ void count_kernel(
    const int* in, int n, int* counts, float* sum, double* square, unsigned long long* largest) {
  __shared__ int here[8];
  if (threadIdx.x < 8) {
    here[threadIdx.x] = 0;
  }
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
    atomicAdd(&here[in[i] % 8], 1);
    atomicAdd(sum, static_cast<float>(in[i]));
    atomicAdd(square, static_cast<double>(in[i]) * in[i]);
    atomicMax(largest, static_cast<unsigned long long>(in[i]));
  }
  __syncthreads();
  if (threadIdx.x < 8) {
    atomicAdd(counts + threadIdx.x, here[threadIdx.x]);
  }
}

__global__ void scale_kernel(const float4* __restrict__ in, float4* __restrict__ out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    const float4 v = __ldg(in + i);
    out[i] = make_float4(
        weights[0] * v.x, weights[1] * v.y, fminf(max(v.z, -1.0f), min(v.w, 1.0f)), rsqrtf(__expf(2 * v.w)));
  }
}

// Inclusive sums over groups of 8 lanes, a butterfly, a broadcast, and the lanes of odd values.
__global__ void lanes_kernel(const int* in, int* scanned, int* summed, int* first, unsigned int* odd) {
  const int t = threadIdx.x, value = in[t];
  int scan = value, sum = value;
  for (int offset = 1; offset < 8; offset *= 2) {
    const int before = __shfl_up_sync(kAll, scan, offset, 8);
    scan += t % 8 >= offset ? before : 0;
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    sum += __shfl_xor_sync(kAll, sum, mask);
  }
  scanned[t] = scan;
  summed[t] = sum;
  first[t] = __shfl_sync(kAll, value, 0);
  odd[t] = __ballot_sync(kAll, value & 1) | (__activemask() >> t % 32 & 1 ? 0 : kAll);
}

// The lanes of a half agree among themselves; the last lanes have returned and are not waited for.
__global__ void halves_kernel(int* out, int* agreed) {
  const int t = threadIdx.x;
  if (t >= 24) {
    return;
  }
  const unsigned int half = t < 16 ? 0x0000ffffu : 0xffff0000u;
  const int any = t < 16 ? __any_sync(half, t == 3) : __any_sync(half, t == 3);
  out[t] = 2 * any + __all_sync(half, t < 16);
  agreed[t] = __syncthreads_count(t % 2) + 100 * __syncthreads_or(t == 5) + 1000 * __syncthreads_and(t < 23);
}

// Neighbours in a warp exchange values by shared memory.
__global__ void neighbours_kernel(const int* in, int* out) {
  __shared__ int values[kThreads];
  values[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

// The block that comes last adds up what the others have left.
__global__ void last_block_kernel(const float* in, float* partial, unsigned int* done, float* out) {
  partial[blockIdx.x] = in[blockIdx.x];
  __threadfence();
  if (atomicInc(done, gridDim.x) == gridDim.x - 1) {
    float sum = 0;
    for (unsigned int block = 0; block < gridDim.x; ++block) {
      sum += partial[block];
    }
    *out = sum;
  }
}

}  // namespace

EXPORTED void sums(const float* in, float* out, int n) {
  sum_kernel<float, kThreads><<<(n + kThreads - 1) / kThreads, kThreads, 0, STREAM>>>(in, out, n);
}
EXPORTED void reversed(const int* in, int* out, int n) {
  reverse_kernel<<<1, kThreads, n * sizeof(int), STREAM>>>(in, out, n);
}
EXPORTED void numbers(long long* out) {
  number_kernel<<<dim3(3, 2, 4), dim3(5, 2, 3), 0, STREAM>>>(out);
}
EXPORTED void counted(const int* in, int n, int* counts, float* sum, double* square, unsigned long long* largest) {
  count_kernel<<<3, 64, 0, STREAM>>>(in, n, counts, sum, square, largest);
}
EXPORTED void scaled(const float* in, float* out, int n) {
  scale_kernel<<<dim3((n + 31) / 32), dim3(32), 0, STREAM>>>(
      reinterpret_cast<const float4*>(in), reinterpret_cast<float4*>(out), n);
}
EXPORTED void lanes(const int* in, int* scanned, int* summed, int* first, unsigned int* odd) {
  lanes_kernel<<<1, 64, 0, STREAM>>>(in, scanned, summed, first, odd);
}
EXPORTED void halves(int* out, int* agreed) { halves_kernel<<<1, 32, 0, STREAM>>>(out, agreed); }
EXPORTED void neighbours(const int* in, int* out) { neighbours_kernel<<<1, kThreads, 0, STREAM>>>(in, out); }
EXPORTED void last_block(const float* in, float* partial, unsigned int* done, float* out) {
  last_block_kernel<<<5, 1, 0, STREAM>>>(in, partial, done, out);
}
EXPORTED void two_checked_launches(int* out) {
  reverse_kernel<<<1, 1, sizeof(int), STREAM>>>(out, out + 1, 1);
  if (cudaGetLastError() == cudaSuccess) {
    reverse_kernel<<<1, 1, sizeof(int), STREAM>>>(out + 1, out + 2, 1);
  }
}
