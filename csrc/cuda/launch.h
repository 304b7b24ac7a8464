// What every kernel launch needs.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdint>

namespace vod {

constexpr int kThreads = 256;

inline unsigned int blocks_for(int64_t work) {
  return static_cast<unsigned int>(std::min<int64_t>((work + kThreads - 1) / kThreads, 1 << 30));
}

}  // namespace vod

// Steps through `count` items with all threads of a one-dimensional launch; 64-bit, so that no map is too large.
#define VOD_EACH(item, count)                                                               \
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < (count); \
       item += static_cast<int64_t>(blockDim.x) * gridDim.x)
