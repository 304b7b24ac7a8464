// Shuffles, votes and synchronisation among the 32 threads of a warp.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "threads.h"

namespace emulation {

struct WarpRequest {
  enum class Kind { sync, shuffle, ballot };
  Kind kind;
  unsigned int mask;   // the lanes that take part
  int source;          // shuffle: the lane to read
  std::uint64_t value; // shuffle: what others read here; ballot: the predicate
  const char* operation;
  const char* file;
  int line;
};

// Waits until all lanes of the mask that have not returned ask for the same kind with the same mask. Gives the value of
// the source lane, or the lanes whose predicate holds. A lane that does not take part gives garbage, as on a GPU.
std::uint64_t exchange(const WarpRequest& request);

unsigned int lane();  // of the thread that runs

template <typename T>
T shuffle(unsigned int mask, T value, int source, const char* operation, const char* file, int line) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= sizeof(std::uint64_t), "shuffles exchange numbers");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange({WarpRequest::Kind::shuffle, mask, source, bits, operation, file, line});
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

#define EMULATION_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// The lanes are cut into groups of `width`; what would reach beyond the own group gives the own value.
template <typename T>
T __shfl_sync(unsigned int mask, T value, int source, int width = 32, EMULATION_PLACE) {
  const int own = emulation::lane(), first = own & ~(width - 1);
  return emulation::shuffle(mask, value, first + (source & (width - 1)), "__shfl_sync", file, line);
}
template <typename T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32, EMULATION_PLACE) {
  const int own = emulation::lane(), first = own & ~(width - 1), source = own - static_cast<int>(delta);
  return emulation::shuffle(mask, value, source < first ? own : source, "__shfl_up_sync", file, line);
}
template <typename T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32, EMULATION_PLACE) {
  const int own = emulation::lane(), last = own | (width - 1), source = own + static_cast<int>(delta);
  return emulation::shuffle(mask, value, source > last ? own : source, "__shfl_down_sync", file, line);
}
template <typename T>
T __shfl_xor_sync(unsigned int mask, T value, int lane_mask, int width = 32, EMULATION_PLACE) {
  const int own = emulation::lane(), last = own | (width - 1), source = own ^ lane_mask;
  return emulation::shuffle(mask, value, source > last ? own : source, "__shfl_xor_sync", file, line);
}

inline unsigned int __ballot_sync(unsigned int mask, int predicate, EMULATION_PLACE) {
  const emulation::WarpRequest request{
      emulation::WarpRequest::Kind::ballot, mask, 0, predicate != 0, "__ballot_sync", file, line};
  return static_cast<unsigned int>(emulation::exchange(request));
}
inline int __any_sync(unsigned int mask, int predicate, EMULATION_PLACE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned int mask, int predicate, EMULATION_PLACE) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}
inline void __syncwarp(unsigned int mask = 0xffffffffu, EMULATION_PLACE) {
  emulation::exchange({emulation::WarpRequest::Kind::sync, mask, 0, 0, "__syncwarp", file, line});
}

// Which lanes run together is up to the GPU; the own lane alone is always among the right answers.
inline unsigned int __activemask() { return 1u << emulation::lane(); }

#undef EMULATION_PLACE
