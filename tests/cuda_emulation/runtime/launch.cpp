#include "emulation/launch.h"

#include <mutex>
#include <vector>

#include "block.h"
#include "guarded_memory.h"
#include "launch_state.h"
#include "races.h"
#include "settings.h"

namespace emulation {

Settings settings;
Counts counts;
std::string error, unchecked;
std::size_t most_dynamic_shared_bytes = 48 * 1024;

namespace {

bool running = false;
std::vector<std::uint32_t> blocks;  // of the launch, in the order in which they run

uint3 block_at(std::uint32_t number, const dim3& grid) {
  return {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
}

std::string text_of(const dim3& size) {
  return std::to_string(size.x) + " x " + std::to_string(size.y) + " x " + std::to_string(size.z);
}

// Why this cannot be launched; empty if it can.
std::string objection_to(const Configuration& c) {
  const std::uint64_t grid = std::uint64_t(c.grid.x) * c.grid.y * c.grid.z;
  const std::uint64_t threads = std::uint64_t(c.block.x) * c.block.y * c.block.z;
  if (grid == 0 || c.grid.x > 0x7fffffffu || c.grid.y > 65535 || c.grid.z > 65535) {
    return "a grid of " + text_of(c.grid) + " blocks is not allowed";
  }
  if (threads == 0 || threads > 1024 || c.block.z > 64) {
    return "a block of " + text_of(c.block) + " threads is not allowed";
  }
  if (c.shared_bytes > most_dynamic_shared_bytes) {
    return std::to_string(c.shared_bytes) + " bytes of dynamic shared memory are more than the " +
           std::to_string(most_dynamic_shared_bytes) + " allowed";
  }
  if (c.stream == nullptr) {
    return "it is launched on the default stream instead of PyTorch's current one";
  }
  return grid > 0xffffffffu ? "the emulation runs fewer than 2^32 blocks" : "";
}

void run_blocks(const Configuration& c, void (*body)(const void*), const void* argument) {
  arrange(blocks, c.grid.x * c.grid.y * c.grid.z);
  indices.block_size = c.block;
  indices.grid_size = c.grid;
  for (const std::uint32_t number : blocks) {
    indices.block = block_at(number, c.grid);
    races::begin_block();
    renew_dynamic_memory();
    block.run(c.block, body, argument);
    ++counts.blocks;
    counts.threads += c.block.x * c.block.y * c.block.z;
    if (!error.empty()) {
      return;
    }
  }
}

}  // namespace

void run_grid(const char* kernel, const Configuration& c, void (*body)(const void*), const void* argument) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  if (!unchecked.empty() && error.empty()) {
    error = "the launch of " + unchecked + " was not checked before the next one";
  }
  if (!error.empty()) {
    return;
  }
  unchecked = kernel;
  error = objection_to(c);
  if (error.empty()) {
    ++counts.launches;
    take_dynamic_memory(c.shared_bytes);
    races::begin_launch();
    guarded::begin_launch();
    running = true;
    run_blocks(c, body, argument);
    running = false;
    give_dynamic_memory_back();
  }
  if (!error.empty()) {
    error = "kernel " + unchecked + ": " + error;
  }
}

bool in_kernel() { return running && block.current() != nullptr; }

uint3 block_of_launch(std::uint32_t number) { return block_at(blocks[number], indices.grid_size); }

void fence() { races::stop_comparing_blocks(); }

}  // namespace emulation
