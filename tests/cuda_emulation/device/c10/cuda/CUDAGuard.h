#pragma once

#include "cuda_runtime.h"

#include <c10/core/Device.h>

#include <optional>

namespace c10::cuda {

// Every tensor is on the CPU: what counts is that there is a guard where the stream is asked for.
class CUDAGuard {
 public:
  explicit CUDAGuard(c10::Device) { ::emulation::enter_device(); }
  ~CUDAGuard() { ::emulation::leave_device(); }
  CUDAGuard(const CUDAGuard&) = delete;
  CUDAGuard& operator=(const CUDAGuard&) = delete;
};

class OptionalCUDAGuard {
 public:
  explicit OptionalCUDAGuard(std::optional<c10::Device> device) {
    if (device) {
      guard_.emplace(*device);
    }
  }

 private:
  std::optional<CUDAGuard> guard_;
};

}  // namespace c10::cuda
