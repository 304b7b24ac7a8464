// The functions that g++ -fsanitize=thread calls, for each access of the translated sources. They are those of a thread
// sanitizer by name; none is linked. Host code of the same files calls them too, and is passed over.
#include <cstddef>
#include <cstdint>

#include "block.h"
#include "emulation/atomics.h"
#include "launch_state.h"
#include "races.h"
#include "settings.h"

namespace emulation {
namespace {

using races::Kind;

bool is_private(const void* address) {
  const auto offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(&indices);
  return Fiber::holds(address) || offset < sizeof(indices);
}

void note(const void* address, std::size_t bytes, Kind kind, bool scalar, const void* code) {
  if (in_kernel() && !is_private(address)) {
    races::note_access(address, bytes, kind, scalar, code);
  }
}

}  // namespace

void note_atomic(const void* address, unsigned int bytes, const void* code) {
  ++counts.atomics;
  note(address, bytes, Kind::atomic, true, code);
}

}  // namespace emulation

using emulation::note;
using emulation::races::Kind;

#define CODE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* address, std::size_t bytes) { note(address, bytes, Kind::read, false, CODE); }
void __tsan_write_range(void* address, std::size_t bytes) { note(address, bytes, Kind::write, false, CODE); }

#define ACCESSES(bytes)                                                                                       \
  void __tsan_read##bytes(void* address) { note(address, bytes, Kind::read, true, CODE); }                    \
  void __tsan_write##bytes(void* address) { note(address, bytes, Kind::write, true, CODE); }                  \
  void __tsan_unaligned_read##bytes(void* address) { note(address, bytes, Kind::read, false, CODE); }         \
  void __tsan_unaligned_write##bytes(void* address) { note(address, bytes, Kind::write, false, CODE); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

// std::atomic in PyTorch's headers comes here: done as it would be without a sanitizer.
#define ATOMIC_UPDATE(bits, type, operation)                                                        \
  type __tsan_atomic##bits##_##operation(volatile type* address, type value, int) {                 \
    return __atomic_##operation(address, value, __ATOMIC_SEQ_CST);                                  \
  }
#define ATOMIC_COMPARE(bits, type, strength, weak)                                                  \
  int __tsan_atomic##bits##_compare_exchange_##strength(                                            \
      volatile type* address, type* expected, type value, int, int) {                               \
    return __atomic_compare_exchange_n(address, expected, value, weak, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define ATOMICS(bits, type)                                                                         \
  type __tsan_atomic##bits##_load(const volatile type* address, int) {                              \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                 \
  void __tsan_atomic##bits##_store(volatile type* address, type value, int) {                       \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                 \
  type __tsan_atomic##bits##_exchange(volatile type* address, type value, int) {                    \
    return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);                                   \
  }                                                                                                 \
  ATOMIC_UPDATE(bits, type, fetch_add)                                                              \
  ATOMIC_UPDATE(bits, type, fetch_sub)                                                              \
  ATOMIC_UPDATE(bits, type, fetch_and)                                                              \
  ATOMIC_UPDATE(bits, type, fetch_or)                                                               \
  ATOMIC_UPDATE(bits, type, fetch_xor)                                                              \
  ATOMIC_UPDATE(bits, type, fetch_nand)                                                             \
  ATOMIC_COMPARE(bits, type, strong, false)                                                         \
  ATOMIC_COMPARE(bits, type, weak, true)
ATOMICS(8, std::uint8_t)
ATOMICS(16, std::uint16_t)
ATOMICS(32, std::uint32_t)
ATOMICS(64, std::uint64_t)

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

}  // extern "C"
