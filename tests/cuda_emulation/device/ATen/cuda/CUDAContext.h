#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#define AT_CUDA_CHECK(expression) C10_CUDA_CHECK(expression)

namespace at::cuda {

using c10::cuda::CUDAGuard;
using c10::cuda::CUDAStream;
using c10::cuda::getCurrentCUDAStream;

inline const cudaDeviceProp* getCurrentDeviceProperties() {
  static const cudaDeviceProp properties;
  return &properties;
}

}  // namespace at::cuda
