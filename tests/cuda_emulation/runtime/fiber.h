// A stack of its own for each CUDA thread that waits.
#pragma once

#include <ucontext.h>

#include <cstddef>

namespace emulation {

class Fiber {
 public:
  // Runs `entry`, which must not return, on stack number `slot`.
  Fiber(unsigned int slot, void (*entry)());
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void enter();  // from the scheduler: until the fiber leaves
  void leave();  // from the fiber: back to the scheduler
  void started();  // the first thing that `entry` calls

  static bool holds(const void* address);  // whether an address is on the stack of any fiber

 private:
  ucontext_t own_, scheduler_;
  char* stack_;
  void* own_fake_stack_ = nullptr;  // these three are for the address sanitizer
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_bytes_ = 0;
};

}  // namespace emulation
