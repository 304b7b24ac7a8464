// Atomic operations, for the types that CUDA has them for. One thread runs at a time, so plain arithmetic does it.
#pragma once

namespace emulation {

void note_atomic(const void* address, unsigned int bytes, const void* code);  // for the search for races

}  // namespace emulation

// `result` is computed from `old` and `value`.
#define EMULATION_ATOMIC(name, type, result)                                                             \
  __attribute__((no_sanitize_thread, noinline)) inline type name(type* address, type value) {            \
    emulation::note_atomic(address, sizeof(type), __builtin_return_address(0));                          \
    const type old = *address;                                                                           \
    *address = (result);                                                                                 \
    return old;                                                                                          \
  }
#define EMULATION_ATOMIC_COMPARE_AND_SWAP(type)                                                          \
  __attribute__((no_sanitize_thread, noinline)) inline type atomicCAS(type* address, type compare, type value) { \
    emulation::note_atomic(address, sizeof(type), __builtin_return_address(0));                          \
    const type old = *address;                                                                           \
    *address = old == compare ? value : old;                                                             \
    return old;                                                                                          \
  }
#define EMULATION_ATOMIC_INTEGERS(type)                          \
  EMULATION_ATOMIC(atomicAdd, type, old + value)                 \
  EMULATION_ATOMIC(atomicExch, type, value)                      \
  EMULATION_ATOMIC(atomicMin, type, value < old ? value : old)   \
  EMULATION_ATOMIC(atomicMax, type, value > old ? value : old)   \
  EMULATION_ATOMIC(atomicAnd, type, old & value)                 \
  EMULATION_ATOMIC(atomicOr, type, old | value)                  \
  EMULATION_ATOMIC(atomicXor, type, old ^ value)                 \
  EMULATION_ATOMIC_COMPARE_AND_SWAP(type)

EMULATION_ATOMIC_INTEGERS(int)
EMULATION_ATOMIC_INTEGERS(unsigned int)
EMULATION_ATOMIC_INTEGERS(unsigned long long)
EMULATION_ATOMIC(atomicMin, long long, value < old ? value : old)
EMULATION_ATOMIC(atomicMax, long long, value > old ? value : old)
EMULATION_ATOMIC(atomicAnd, long long, old & value)
EMULATION_ATOMIC(atomicOr, long long, old | value)
EMULATION_ATOMIC(atomicXor, long long, old ^ value)
EMULATION_ATOMIC(atomicAdd, float, old + value)
EMULATION_ATOMIC(atomicAdd, double, old + value)
EMULATION_ATOMIC(atomicExch, float, value)
EMULATION_ATOMIC(atomicSub, int, old - value)
EMULATION_ATOMIC(atomicSub, unsigned int, old - value)
EMULATION_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)
EMULATION_ATOMIC(atomicDec, unsigned int, old == 0 || old > value ? value : old - 1)
EMULATION_ATOMIC_COMPARE_AND_SWAP(unsigned short)

#undef EMULATION_ATOMIC
#undef EMULATION_ATOMIC_COMPARE_AND_SWAP
#undef EMULATION_ATOMIC_INTEGERS
