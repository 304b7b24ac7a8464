// CUDA's host side, and the functions that emulator.py calls.
#include "emulation/host_functions.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "launch_state.h"
#include "settings.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

std::string last_message;
int device_guards = 0;

}  // namespace

cudaError_t cudaGetLastError() {
  last_message = std::exchange(emulation::error, "");
  emulation::unchecked.clear();
  return last_message.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : last_message.c_str(); }

namespace emulation {

void check_launch() {
  if (cudaGetLastError() != cudaSuccess) {
    throw std::runtime_error(last_message);
  }
}

void allow_dynamic_shared_memory(std::size_t bytes) { most_dynamic_shared_bytes = bytes; }

void enter_device() { ++device_guards; }

void leave_device() { --device_guards; }

cudaStream_t current_stream() {
  if (device_guards == 0) {
    throw std::runtime_error("emulation: the stream is asked for outside a CUDAGuard");
  }
  return cudaStreamPerThread;
}

// What went wrong in a launch that was not checked.
EXPORTED const char* emulation_take_error() {
  static std::string message;
  message = std::exchange(error, "");
  return message.c_str();
}

// The kernel that was launched last, if that launch was not checked.
EXPORTED const char* emulation_take_unchecked() {
  static std::string kernel;
  kernel = std::exchange(unchecked, "");
  return kernel.c_str();
}

EXPORTED void emulation_configure(int order, std::uint64_t seed, bool check_races) {
  settings = {static_cast<Order>(order), Random(seed), check_races};
}

// launches, blocks, threads, barriers, warp operations, atomics, accesses
EXPORTED const std::int64_t* emulation_counts() { return &counts.launches; }

}  // namespace emulation
