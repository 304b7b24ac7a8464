// Shared memory of a block. translate.py writes the uses of this:
//   __shared__ T name[n];         ->  static T name[n]; and a SharedVariable that knows where it is
//   extern __shared__ T name[];   ->  T* const name = emulation::dynamic_shared<T>();
// One block runs at a time, so a static array serves all of them; each block finds garbage in it, not what the block
// before left.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

class SharedVariable {
 public:
  constexpr SharedVariable(const char* name, const void* address, std::size_t bytes)
      : name_(name), address_(address), bytes_(bytes) {}
  void enter();  // every thread that comes to the declaration

 private:
  const char* name_;
  const void* address_;
  std::size_t bytes_;
  std::uint32_t block_ = 0;  // the block that entered last
};

void* dynamic_shared_memory();

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(dynamic_shared_memory());
}

}  // namespace emulation
