#pragma once

#include "cuda_runtime.h"

#include <stdexcept>

#define C10_CUDA_KERNEL_LAUNCH_CHECK() ::emulation::check_launch()
#define C10_CUDA_CHECK(expression)                                             \
  do {                                                                         \
    const cudaError_t emulation_error = (expression);                          \
    if (emulation_error != cudaSuccess) {                                      \
      throw std::runtime_error(cudaGetErrorString(emulation_error));           \
    }                                                                          \
  } while (false)
