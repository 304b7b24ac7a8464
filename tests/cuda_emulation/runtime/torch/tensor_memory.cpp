// Tensors whose memory has margins, so that a kernel that reads or writes beyond them is caught.
#include <c10/core/CPUAllocator.h>

#include <cstring>

#include "guarded_memory.h"

namespace emulation {
namespace {

class GuardedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = bytes > 0 ? guarded::allocate(bytes, "a tensor") : nullptr;
    return {memory, memory, &give_back, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static void give_back(void* memory) {
    if (memory != nullptr) {
      guarded::give_back(memory);
    }
  }
};

GuardedAllocator guarded_allocator;
c10::Allocator* usual_allocator = nullptr;
constexpr std::uint8_t kHighest = 255;  // an allocator replaces one of no higher priority

}  // namespace

// From here on tensors on the CPU are allocated with margins, or as they were before.
extern "C" __attribute__((visibility("default"))) void emulation_guard_tensors(bool guard) {
  if (usual_allocator == nullptr) {
    usual_allocator = c10::GetCPUAllocator();
  }
  c10::SetCPUAllocator(guard ? &guarded_allocator : usual_allocator, kHighest);
}

}  // namespace emulation
