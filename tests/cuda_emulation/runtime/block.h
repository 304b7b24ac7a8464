// The threads of the block that runs: who waits for what, and who is next.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "emulation/launch.h"
#include "emulation/threads.h"
#include "emulation/warps.h"
#include "fiber.h"

namespace emulation {

constexpr unsigned int kLanes = 32;

struct Thread {
  enum class State { unstarted, ready, at_barrier, at_warp, done };
  State state = State::unstarted;
  uint3 index{};
  std::uint32_t number = 0;  // in the block: x fastest, then y, then z
  Fiber* fiber = nullptr;
  WarpRequest request{};  // what it waits for; of a block's barrier only the predicate (as value) and the place
  std::uint64_t result = 0;
  std::uint64_t steps = 0;  // memory accesses since it last waited
  // For the search for races: how many synchronisations of its warp each lane had behind it, as far as it knows.
  std::array<std::uint32_t, kLanes> known{};
  std::uint32_t clock() const { return known[number % kLanes]; }
};

class Block {
 public:
  void run(const dim3& size, void (*body)(const void*), const void* argument);

  Thread* current() { return current_; }
  std::uint32_t phase() const { return phase_; }  // barriers passed
  // The running thread waits, and goes on when a barrier or its warp lets it.
  void wait(Thread::State state, const WarpRequest& request);
  // The running thread ends here, and the launch with it.
  [[noreturn]] void fail(const std::string& message);
  // Lets the lanes go on that take part in the request of `thread`, if all of them are there.
  void try_exchange(Thread& thread);
  std::string describe(const uint3& thread_index, const uint3& block_index) const;

 private:
  static void enter_fiber();
  void run_threads(Fiber& fiber);
  Thread* next_ready();
  Thread* next_unstarted();
  void finish(Thread& thread);
  bool open_barrier();
  void report_deadlock();
  Fiber* idle_fiber();

  std::vector<Thread> threads_;
  std::vector<std::uint32_t> round_;  // the order of this round
  std::size_t position_ = 0;          // in the round
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Thread* current_ = nullptr;
  void (*body_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  std::uint32_t phase_ = 0, live_ = 0;
};
extern Block block;

}  // namespace emulation
