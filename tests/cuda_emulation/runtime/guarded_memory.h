// Memory with a margin on each side that kernels must not touch: dynamic shared memory, and what tensors hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulation::guarded {

// Without the search for races there are no margins: the address sanitizer has its own.
void* allocate(std::size_t bytes, const char* name);
void give_back(void* memory);

// Forbids the margins of all that is allocated. For each launch, after races::begin_launch.
void begin_launch();

std::string describe_margin(std::uintptr_t address);

}  // namespace emulation::guarded
