#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <stdexcept>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define IF_SANITIZED(...) __VA_ARGS__
#else
#define IF_SANITIZED(...)
#endif

namespace emulation {
namespace {

constexpr std::size_t kStacks = 1024;  // the largest block
constexpr std::size_t kStackBytes = 128 * 1024;

char* arena = nullptr;  // all stacks, one after the other, the lowest page of each out of bounds

char* stack_of(unsigned int slot) {
  if (arena == nullptr) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, kStacks * kStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
      throw std::runtime_error("emulation: no memory for the stacks of the threads");
    }
    arena = static_cast<char*>(memory);
  }
  char* stack = arena + slot * kStackBytes;
  mprotect(stack, 4096, PROT_NONE);
  return stack;
}

}  // namespace

Fiber::Fiber(unsigned int slot, void (*entry)()) : stack_(stack_of(slot)) {
  IF_SANITIZED(__asan_unpoison_memory_region(stack_ + 4096, kStackBytes - 4096);)
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_;
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = nullptr;
  makecontext(&own_, entry, 0);
}

void Fiber::enter() {
  IF_SANITIZED(void* fake_stack = nullptr; __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);)
  swapcontext(&scheduler_, &own_);
  IF_SANITIZED(__sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);)
}

void Fiber::started() {
  IF_SANITIZED(__sanitizer_finish_switch_fiber(nullptr, &scheduler_stack_, &scheduler_stack_bytes_);)
}

void Fiber::leave() {
  IF_SANITIZED(__sanitizer_start_switch_fiber(&own_fake_stack_, scheduler_stack_, scheduler_stack_bytes_);)
  swapcontext(&own_, &scheduler_);
  IF_SANITIZED(__sanitizer_finish_switch_fiber(own_fake_stack_, &scheduler_stack_, &scheduler_stack_bytes_);)
}

bool Fiber::holds(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(arena) < kStacks * kStackBytes;
}

}  // namespace emulation
