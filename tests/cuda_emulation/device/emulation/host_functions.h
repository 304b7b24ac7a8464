// The little of CUDA's host side that kernels' callers use. All memory is the CPU's and every call is done on return.
#pragma once

#include <cstddef>
#include <cstring>

#include "launch.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

struct cudaDeviceProp {
  int multiProcessorCount = 132, maxThreadsPerBlock = 1024, maxThreadsPerMultiProcessor = 2048, warpSize = 32;
  std::size_t sharedMemPerBlock = 48 * 1024, sharedMemPerBlockOptin = 227 * 1024;
};

#define cudaStreamPerThread (reinterpret_cast<cudaStream_t>(0x2))

cudaError_t cudaGetLastError();  // of the launch before, which is checked by this
const char* cudaGetErrorString(cudaError_t error);

namespace emulation {

void allow_dynamic_shared_memory(std::size_t bytes);  // for the launches that follow
void check_launch();                                  // throws std::runtime_error if the launch before failed
cudaStream_t current_stream();                        // throws unless a device guard is there
void enter_device();                                  // a device guard begins
void leave_device();

}  // namespace emulation

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int value) {
  emulation::allow_dynamic_shared_memory(value);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t) {
  std::memset(address, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
