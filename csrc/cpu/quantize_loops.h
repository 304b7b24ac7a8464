// The loops of quantize. They do not depend on PyTorch, as in aggregate_loops.h; values are the bits of bfloat16.
#pragma once

#include <cstdint>
#include <cstring>

#include "instruction_sets.h"

namespace vod {

constexpr uint16_t kMagnitude = 0x7fff, kInfinity = 0x7f80;  // of a bfloat16: all but the sign; no larger one is finite

VOD_INLINE float as_float(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// The bits of a magnitude are in the order of its value, NaN above infinity.
inline VOD_INSTRUCTION_SETS uint16_t largest_magnitude(const uint16_t* x, int64_t count) {
  uint16_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t magnitude = x[i] & kMagnitude;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

inline VOD_INSTRUCTION_SETS void divide_and_round(
    const uint16_t* __restrict x, int64_t count, float factor, float zero_point, uint8_t* __restrict q) {
  for (int64_t i = 0; i < count; ++i) {
    float value = as_float(x[i]) * factor + zero_point + 0.5f;
    value = value > 0.f ? value : 0.f;  // NaN, too: it is no integer
    value = value < 255.f ? value : 255.f;
    q[i] = static_cast<uint8_t>(static_cast<int32_t>(value));
  }
}

}  // namespace vod
