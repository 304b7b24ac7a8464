// Arithmetic of aggregate, shared by its CPU and CUDA kernels. The rule is in lib/ops/aggregate.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cmath>
#include <cstdint>
#include <optional>

#include "flow_warp.h"

namespace vod {

struct AggregateShape {
  int64_t maps, channels, features, batch, frames, height, width;
  C10_HOST_DEVICE int64_t embedding() const { return channels - features; }
  C10_HOST_DEVICE int64_t cells() const { return height * width; }
};

// A frame whose count is zero takes no part: its map is not read.
template <typename T>
C10_HOST_DEVICE inline bool takes_part(T log_count) {
  return log_count != static_cast<T>(-INFINITY);
}

// Cosine of two vectors from their dot product and the sums of their squares.
template <typename T>
C10_HOST_DEVICE inline T similarity(T dot, T square, T reference_square) {
  constexpr T tiny = static_cast<T>(1e-10);
  return dot / (std::sqrt(square + tiny) * std::sqrt(reference_square + tiny));
}

inline AggregateShape check_aggregate(
    const at::Tensor& maps, const at::Tensor& index, const at::Tensor& flow, const at::Tensor& log_counts,
    int64_t features, const std::optional<at::Tensor>& reference) {
  TORCH_CHECK(
      maps.dim() == 4 && index.dim() == 2 && flow.dim() == 5 && flow.size(0) == index.size(0) &&
          flow.size(1) == index.size(1) && flow.size(2) == 2 && flow.size(3) == maps.size(2) &&
          flow.size(4) == maps.size(3) && log_counts.sizes() == index.sizes(),
      "aggregate: maps (M, C, h, w), index (B, N), flow (B, N, 2, h, w) and log_counts (B, N) do not fit: ",
      maps.sizes(), ", ", index.sizes(), ", ", flow.sizes(), ", ", log_counts.sizes());
  const AggregateShape s{maps.size(0),  maps.size(1), features,    index.size(0),
                         index.size(1), maps.size(2), maps.size(3)};
  TORCH_CHECK(
      features > 0 && features < s.channels && s.frames > 0,
      "aggregate: features must leave channels for the embedding, and there must be a frame to average: features ",
      features, " of maps ", maps.sizes(), ", index ", index.sizes());
  TORCH_CHECK(
      index.scalar_type() == at::kLong && index.device() == maps.device(),
      "aggregate: index must be int64 on the device of maps");
  const auto computed = maps.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  for (const at::Tensor& other : {flow, log_counts}) {
    TORCH_CHECK(
        other.scalar_type() == computed && other.device() == maps.device(), "aggregate: flow and log_counts must be ",
        computed, " on the device of maps");
  }
  if (reference) {
    TORCH_CHECK(
        reference->dim() == 4 && reference->size(0) == s.batch && reference->size(1) == s.embedding() &&
            reference->sizes().slice(2) == maps.sizes().slice(2),
        "aggregate: reference must be (B, E, h, w), not ", reference->sizes());
    TORCH_CHECK(
        reference->is_floating_point() && reference->device() == maps.device(),
        "aggregate: reference must be floating and on the device of maps");
  }
  return s;
}

// The reference in the dtype that is computed in, with the channels of a cell side by side; a slice stays a view.
inline at::Tensor channels_together(const at::Tensor& reference, at::ScalarType computed) {
  const auto converted = reference.to(computed);
  return converted.size(1) == 1 || converted.stride(1) == 1 ? converted
                                                             : converted.contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace vod
