// The search for data races. g++ -fsanitize=thread puts a call in front of each memory access of the device code; here
// the calls lead not to a thread sanitizer but to this record of who touched what since when.
//
// Two accesses of different threads to a byte, at least one of them a write and not both atomic, are a race unless
//   - they are of one block, and a barrier of the block lies between them, or
//   - they are of one warp, and a __syncwarp of both threads lies between them.
// Races between blocks are no longer looked for once a thread of the launch has called __threadfence.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation::races {

enum class Kind { read, write, atomic };

void begin_launch();
void begin_block();
std::uint32_t current_block();  // counts all blocks of all launches, from 1
void stop_comparing_blocks();

// What memory is: anyone's; shared memory that must be written before it is read; or nobody's.
enum class Access { open, unwritten, forbidden };

// From here on nobody has touched these bytes.
void forget(const void* address, std::size_t bytes, Access access);
// A variable in shared memory, for messages.
void name_shared_memory(const char* name, const void* address, std::size_t bytes);

// `scalar`: one number, and not an object that may have gaps. `code`: the address after the access, for messages.
void note_access(const void* address, std::size_t bytes, Kind kind, bool scalar, const void* code);

}  // namespace emulation::races
