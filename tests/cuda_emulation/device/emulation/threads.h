// Which thread runs, and barriers of a block.
#pragma once

#include "vector_types.h"

namespace emulation {

struct Indices {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Indices indices;  // of the thread that runs

// Waits for all threads of the block that have not returned. Gives how many of them came with a predicate that holds.
int wait_for_block(bool predicate, const char* operation, const char* file, int line);

// Makes writes visible to other blocks: from here on in this launch, races between blocks are not looked for.
void fence();

}  // namespace emulation

inline constexpr const uint3& threadIdx = emulation::indices.thread;
inline constexpr const uint3& blockIdx = emulation::indices.block;
inline constexpr const dim3& blockDim = emulation::indices.block_size;
inline constexpr const dim3& gridDim = emulation::indices.grid_size;
inline constexpr int warpSize = 32;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulation::wait_for_block(true, "__syncthreads", file, line);
}
inline int __syncthreads_count(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulation::wait_for_block(predicate != 0, "__syncthreads_count", file, line);
}
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulation::wait_for_block(predicate != 0, "__syncthreads_or", file, line) > 0;
}
inline int __syncthreads_and(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return emulation::wait_for_block(predicate == 0, "__syncthreads_and", file, line) == 0;
}
inline void __threadfence() { emulation::fence(); }
inline void __threadfence_block() {}
