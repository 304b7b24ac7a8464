#pragma once

#include "cuda_runtime.h"

template <typename T>
T gpuAtomicAdd(T* address, T value) {
  return atomicAdd(address, value);
}
template <typename T>
void gpuAtomicAddNoReturn(T* address, T value) {
  atomicAdd(address, value);
}
