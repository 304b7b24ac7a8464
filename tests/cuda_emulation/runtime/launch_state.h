// The launch that runs, and what was left of the one before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "emulation/vector_types.h"

namespace emulation {

extern std::string error;      // of the launch that runs or ran last; empty if there is none
extern std::string unchecked;  // the kernel that was launched last, until the launch is checked
extern std::size_t most_dynamic_shared_bytes;

bool in_kernel();                             // whether device code runs now
uint3 block_of_launch(std::uint32_t number);  // the index of the block that was run as number 0, 1, ...

// The dynamic shared memory of a launch: taken, filled with garbage for each block, given back.
void take_dynamic_memory(std::size_t bytes);
void renew_dynamic_memory();
void give_dynamic_memory_back();

}  // namespace emulation
