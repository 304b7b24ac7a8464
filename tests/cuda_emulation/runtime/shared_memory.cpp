#include "emulation/shared_memory.h"

#include <stdexcept>

#include "guarded_memory.h"
#include "launch_state.h"
#include "races.h"
#include "settings.h"

namespace emulation {
namespace {

void* dynamic_memory = nullptr;
std::size_t dynamic_bytes = 0;

void renew(const char* name, void* address, std::size_t bytes) {
  fill_with_garbage(address, bytes);
  if (settings.check_races) {
    races::forget(address, bytes, races::Access::unwritten);
    races::name_shared_memory(name, address, bytes);
  }
}

}  // namespace

void SharedVariable::enter() {
  if (block_ != races::current_block()) {
    block_ = races::current_block();
    renew(name_, const_cast<void*>(address_), bytes_);
  }
}

void take_dynamic_memory(std::size_t bytes) {
  dynamic_memory = guarded::allocate(bytes, "the dynamic shared memory");
  dynamic_bytes = bytes;
}

void renew_dynamic_memory() { renew("dynamic", dynamic_memory, dynamic_bytes); }

void give_dynamic_memory_back() {
  if (settings.check_races) {
    races::forget(dynamic_memory, dynamic_bytes, races::Access::open);
  }
  guarded::give_back(dynamic_memory);
  dynamic_memory = nullptr;
}

void* dynamic_shared_memory() {
  if (!in_kernel()) {
    throw std::runtime_error("emulation: extern __shared__ must be declared inside a kernel");
  }
  return dynamic_memory;
}

void fill_with_garbage(void* address, std::size_t bytes) {
  auto* byte = static_cast<unsigned char*>(address);
  for (std::size_t i = 0; i < bytes; ++i) {
    byte[i] = settings.order == Order::forward   ? 0x7f
              : settings.order == Order::reverse ? 0xff
                                                 : static_cast<unsigned char>(settings.random.next());
  }
}

}  // namespace emulation
