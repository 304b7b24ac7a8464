// The loops of aggregate and of flow_warp, channels last, over the channels of one position. They do not depend on
// PyTorch: a test compiles them by themselves, for one instruction set after the other, and compares the bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "instruction_sets.h"

namespace vod {

// Sums over channels are kept in this many partial sums, channel c in number c % kLanes, whatever the width of the
// processor's vectors is; `sum_of_lanes` adds them up in a fixed order.
constexpr int64_t kLanes = 16;

// What a warped vector is read from: four cells, at the first channel wanted, and how much each counts.
template <typename S, typename T>
struct Sample {
  const S* cell[4];
  T weight[4];

  VOD_INLINE T operator[](int64_t channel) const {
    T sum = weight[0] * static_cast<T>(cell[0][channel]);
    sum += weight[1] * static_cast<T>(cell[1][channel]);
    sum += weight[2] * static_cast<T>(cell[2][channel]);
    return sum + weight[3] * static_cast<T>(cell[3][channel]);
  }
  VOD_INLINE Sample from(int64_t channel) const {
    return {
        {cell[0] + channel, cell[1] + channel, cell[2] + channel, cell[3] + channel},
        {weight[0], weight[1], weight[2], weight[3]}};
  }
};

template <typename T>
struct Lanes {
  T dot[kLanes] = {}, square[kLanes] = {};
};

// Adds the products of a vector with `reference` and with itself, `count` channels of them. `count` is a multiple of
// kLanes in all calls for one vector but the last.
template <typename V, typename T>
VOD_INLINE void add_products_of(const V vector, const T* reference, int64_t count, Lanes<T>& lanes) {
  Lanes<T> sums = lanes;  // a copy that nothing else points to stays in registers
  int64_t first = 0;
  for (; first + kLanes <= count; first += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T value = vector[first + lane];
      sums.dot[lane] += value * reference[first + lane];
      sums.square[lane] += value * value;
    }
  }
  lanes = sums;
  for (int64_t lane = 0; first + lane < count; ++lane) {
    const T value = vector[first + lane];
    lanes.dot[lane] += value * reference[first + lane];
    lanes.square[lane] += value * value;
  }
}

template <typename S, typename T>
VOD_INSTRUCTION_SETS void add_products(const Sample<S, T>& sample, const T* reference, int64_t count, Lanes<T>& lanes) {
  add_products_of(sample, reference, count, lanes);
}

template <typename T>
VOD_INSTRUCTION_SETS void add_squares(const T* reference, int64_t count, Lanes<T>& lanes) {
  add_products_of(reference, reference, count, lanes);
}

template <typename S, typename T>
VOD_INSTRUCTION_SETS void read_sample(const Sample<S, T>& sample, int64_t count, T* out) {
  const Sample<S, T> from = sample;
  for (int64_t channel = 0; channel < count; ++channel) {
    out[channel] = from[channel];
  }
}

template <typename T>
VOD_INSTRUCTION_SETS void read_scaled_sample(const Sample<T, T>& sample, const T* scale, int64_t count, T* out) {
  const Sample<T, T> from = sample;
  for (int64_t channel = 0; channel < count; ++channel) {
    out[channel] = from[channel] * scale[channel];
  }
}

template <typename S, typename T>
VOD_INSTRUCTION_SETS void add_weighted(const Sample<S, T>& sample, T weight, int64_t count, T* sum) {
  const Sample<S, T> from = sample;
  for (int64_t channel = 0; channel < count; ++channel) {
    sum[channel] += weight * from[channel];
  }
}

template <typename T>
inline T sum_of_lanes(const T* lanes) {
  T sums[kLanes];
  std::copy(lanes, lanes + kLanes, sums);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) {
      sums[lane] += sums[lane + half];
    }
  }
  return sums[0];
}

}  // namespace vod
