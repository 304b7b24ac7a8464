#include "block.h"

#include <algorithm>
#include <cstring>

#include "launch_state.h"
#include "settings.h"

namespace emulation {

Block block;
Indices indices{};

namespace {

std::string text_of(const uint3& i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

std::string place_of(const WarpRequest& request) {
  return std::string(request.operation) + " (" + request.file + ":" + std::to_string(request.line) + ")";
}

}  // namespace

std::string Block::describe(const uint3& thread_index, const uint3& block_index) const {
  return "thread " + text_of(thread_index) + " of block " + text_of(block_index);
}

// Runs in rounds. In a round each thread that can go on does so, in turn, until it waits or returns.
void Block::run(const dim3& size, void (*body)(const void*), const void* argument) {
  body_ = body;
  argument_ = argument;
  live_ = size.x * size.y * size.z;
  threads_.assign(live_, Thread());
  for (std::uint32_t number = 0; number < live_; ++number) {
    threads_[number].number = number;
    threads_[number].index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
    threads_[number].known[number % kLanes] = 1;
  }
  while (live_ > 0 && error.empty()) {
    arrange(round_, threads_.size());
    position_ = 0;
    bool moved = false;
    while (Thread* thread = next_ready()) {
      moved = true;
      current_ = thread;
      indices.thread = thread->index;
      if (thread->fiber == nullptr) {
        thread->fiber = idle_fiber();
      }
      thread->fiber->enter();
      current_ = nullptr;
      if (!error.empty()) {
        break;
      }
    }
    if (!moved && !open_barrier() && error.empty()) {
      report_deadlock();
    }
  }
  if (!error.empty()) {  // threads that have not returned are given up, with what is on their stacks
    idle_.clear();
    fibers_.clear();
  }
}

Thread* Block::next_ready() {
  for (; position_ < round_.size(); ++position_) {
    Thread& thread = threads_[round_[position_]];
    if (thread.state == Thread::State::unstarted || thread.state == Thread::State::ready) {
      ++position_;
      return &thread;
    }
  }
  return nullptr;
}

// The next of the round, if it has not begun: it needs no fiber of its own before it waits.
Thread* Block::next_unstarted() {
  Thread* next = next_ready();
  if (next != nullptr && next->state != Thread::State::unstarted) {
    --position_;
    return nullptr;
  }
  return next;
}

Fiber* Block::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(fibers_.size(), &Block::enter_fiber));
    idle_.push_back(fibers_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void Block::enter_fiber() {
  Fiber& fiber = *block.current_->fiber;
  fiber.started();
  for (;;) {
    block.run_threads(fiber);
    block.idle_.push_back(&fiber);
    fiber.leave();
  }
}

void Block::run_threads(Fiber& fiber) {
  while (current_ != nullptr) {
    current_->fiber = &fiber;
    indices.thread = current_->index;
    body_(argument_);
    finish(*current_);
    current_ = error.empty() ? next_unstarted() : nullptr;
  }
}

void Block::finish(Thread& thread) {
  thread.state = Thread::State::done;
  thread.fiber = nullptr;
  --live_;
  const std::uint32_t first = thread.number / kLanes * kLanes;
  for (std::uint32_t n = first; n < first + kLanes && n < threads_.size(); ++n) {
    if (threads_[n].state == Thread::State::at_warp) {
      try_exchange(threads_[n]);  // it may have waited for this thread only
    }
  }
}

void Block::wait(Thread::State state, const WarpRequest& request) {
  Thread& thread = *current_;
  thread.request = request;
  thread.state = state;
  thread.steps = 0;
  if (state == Thread::State::at_warp) {
    try_exchange(thread);
  }
  if (thread.state != Thread::State::ready) {
    thread.fiber->leave();
  }
}

void Block::fail(const std::string& message) {
  error = message + ", in " + describe(indices.thread, indices.block);
  for (;;) {
    current_->fiber->leave();
  }
}

void Block::try_exchange(Thread& asking) {
  const WarpRequest request = asking.request;
  const std::uint32_t first = asking.number / kLanes * kLanes;
  std::array<Thread*, kLanes> there{};  // by lane
  std::uint64_t ballot = 0;
  for (std::uint32_t lane = 0; lane < kLanes && first + lane < threads_.size(); ++lane) {
    Thread& thread = threads_[first + lane];
    if (!(request.mask >> lane & 1) || thread.state == Thread::State::done) {
      continue;
    }
    if (thread.state != Thread::State::at_warp || thread.request.kind != request.kind ||
        thread.request.mask != request.mask) {
      return;
    }
    there[lane] = &thread;
    ballot |= (thread.request.value != 0 ? std::uint64_t(1) : 0) << lane;
  }
  std::array<std::uint32_t, kLanes> known{};
  for (Thread* thread : there) {
    for (std::uint32_t lane = 0; thread != nullptr && lane < kLanes; ++lane) {
      known[lane] = std::max(known[lane], thread->known[lane]);
    }
  }
  for (Thread* thread : there) {
    if (thread == nullptr) {
      continue;
    }
    const unsigned int source = thread->request.source;
    if (request.kind == WarpRequest::Kind::ballot) {
      thread->result = ballot;
    } else if (source < kLanes && there[source] != nullptr) {
      thread->result = there[source]->request.value;
    } else {
      fill_with_garbage(&thread->result, sizeof(thread->result));
    }
    if (request.kind == WarpRequest::Kind::sync) {  // the others do not order memory
      thread->known = known;
      ++thread->known[thread->number % kLanes];
    }
    thread->state = Thread::State::ready;
  }
  ++counts.warp_operations;
}

// Lets all threads go on if all that have not returned wait at one barrier.
bool Block::open_barrier() {
  const Thread* first = nullptr;
  std::uint64_t count = 0;
  for (const Thread& thread : threads_) {
    if (thread.state == Thread::State::done) {
      continue;
    }
    if (thread.state != Thread::State::at_barrier) {
      return false;
    }
    first = first == nullptr ? &thread : first;
    if (thread.request.line != first->request.line || std::strcmp(thread.request.file, first->request.file) != 0) {
      error = "the threads of a block wait at different barriers: " + place_of(first->request) + " is where " +
              describe(first->index, indices.block) + " waits, " + place_of(thread.request) + " where " +
              describe(thread.index, indices.block) + " does";
      return false;
    }
    count += thread.request.value;
  }
  for (Thread& thread : threads_) {
    if (thread.state == Thread::State::at_barrier) {
      thread.result = count;
      thread.state = Thread::State::ready;
    }
  }
  ++phase_;
  ++counts.barriers;
  return true;
}

void Block::report_deadlock() {
  error = "deadlock: no thread of block " + text_of(indices.block) + " can go on";
  std::string last;
  for (const Thread& thread : threads_) {
    if (thread.state != Thread::State::done && place_of(thread.request) != last) {
      last = place_of(thread.request);
      error += "; thread " + text_of(thread.index) + " waits at " + last;
    }
  }
}

int wait_for_block(bool predicate, const char* operation, const char* file, int line) {
  block.wait(Thread::State::at_barrier, {WarpRequest::Kind::sync, 0, 0, predicate, operation, file, line});
  return static_cast<int>(block.current()->result);
}

unsigned int lane() { return block.current()->number % kLanes; }

std::uint64_t exchange(const WarpRequest& request) {
  if (!(request.mask >> lane() & 1)) {
    block.fail(place_of(request) + " is called by a lane that is not in its mask");
  }
  block.wait(Thread::State::at_warp, request);
  return block.current()->result;
}

}  // namespace emulation
