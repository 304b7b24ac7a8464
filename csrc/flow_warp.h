// Geometry of flow_warp, shared by its CPU and CUDA kernels, forward and backward. The rule is in lib/ops/flow_warp.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cmath>
#include <cstdint>
#include <optional>

namespace vod {

// The four cells around a position: where they are in a plane of height * width values, how much each counts, and how
// that changes with the position. A cell outside the plane has index -1, is not read and counts nothing. Where the flow
// is no finite number, the first cell of the plane is read with weights of NaN, and the feature gets no gradient.
template <typename T>
struct Taps {
  int64_t index[4];
  T weight[4];
  T weight_dx[4];
  T weight_dy[4];

  C10_HOST_DEVICE bool inside(int k) const { return index[k] >= 0; }
  C10_HOST_DEVICE T read(const T* plane, int k) const { return inside(k) ? plane[index[k]] : T(0); }
  C10_HOST_DEVICE bool gives_gradient(int k) const { return inside(k) && weight[k] == weight[k]; }
};

// To [-1, 1] and back, as the originals do: the rounding decides the side on whole cells, where the gradient has a step.
template <typename T>
C10_HOST_DEVICE inline T sampling_position(int64_t cell, T flow, int64_t cells) {
  const T position = static_cast<T>(cell) + flow;
  if (cells == 1) {
    return position;
  }
  const T half = static_cast<T>(cells - 1) / 2;
  return (position / half - 1 + 1) * half;
}

// The taps of cell (row, column) of the output, whose flow is (flow_x, flow_y).
template <typename T>
C10_HOST_DEVICE inline Taps<T> make_taps(
    int64_t row, int64_t column, T flow_x, T flow_y, int64_t height, int64_t width) {
  const T x = sampling_position(column, flow_x, width);
  const T y = sampling_position(row, flow_y, height);
  const T left = std::floor(x), top = std::floor(y);
  const T share_x[2] = {1 - (x - left), x - left};
  const T share_y[2] = {1 - (y - top), y - top};
  Taps<T> taps;
  for (int k = 0; k < 4; ++k) {
    const int right = k & 1, lower = k >> 1;
    const T tap_x = left + right, tap_y = top + lower;
    const bool inside = tap_x >= 0 && tap_x < width && tap_y >= 0 && tap_y < height;
    taps.index[k] = inside ? static_cast<int64_t>(tap_y) * width + static_cast<int64_t>(tap_x) : -1;
    taps.weight[k] = inside ? share_x[right] * share_y[lower] : 0;
    taps.weight_dx[k] = inside ? (right ? share_y[lower] : -share_y[lower]) : 0;
    taps.weight_dy[k] = inside ? (lower ? share_x[right] : -share_x[right]) : 0;
  }
  // Of the flow, not of the position: that overflows for flow that is finite and far
  const T not_a_number = (flow_x - flow_x) + (flow_y - flow_y);  // 0 for finite flow
  if (not_a_number != 0) {
    taps.index[0] = 0;
    taps.index[1] = taps.index[2] = taps.index[3] = -1;
    taps.weight[0] = taps.weight_dx[0] = taps.weight_dy[0] = not_a_number;
    taps.weight[1] = taps.weight[2] = taps.weight[3] = 0;
  }
  return taps;
}

inline void check_flow_warp(
    const at::Tensor& feature, const at::Tensor& flow, const std::optional<at::Tensor>& scale) {
  TORCH_CHECK(
      feature.dim() == 4 && flow.dim() == 4 && flow.size(1) == 2 && flow.size(2) == feature.size(2) &&
          flow.size(3) == feature.size(3) && (feature.size(0) == 1 || feature.size(0) == flow.size(0)),
      "flow_warp: feature (N or 1, C, H, W) and flow (N, 2, H, W) do not fit: ", feature.sizes(), ", ", flow.sizes());
  TORCH_CHECK(
      flow.scalar_type() == feature.scalar_type() && flow.device() == feature.device(),
      "flow_warp: feature and flow must share dtype and device");
  if (scale) {
    TORCH_CHECK(
        scale->dim() == 4 && scale->size(0) == flow.size(0) && scale->sizes().slice(1) == feature.sizes().slice(1),
        "flow_warp: scale must be (N, C, H, W), not ", scale->sizes());
    TORCH_CHECK(
        scale->scalar_type() == feature.scalar_type() && scale->device() == feature.device(),
        "flow_warp: feature and scale must share dtype and device");
  }
}

inline void check_flow_warp_grad(const at::Tensor& grad, const at::Tensor& feature, const at::Tensor& flow) {
  TORCH_CHECK(
      grad.dim() == 4 && grad.size(0) == flow.size(0) && grad.sizes().slice(1) == feature.sizes().slice(1) &&
          grad.scalar_type() == feature.scalar_type() && grad.device() == feature.device(),
      "flow_warp_backward: grad must be (N, C, H, W) of the dtype and device of feature, not ", grad.sizes());
}

}  // namespace vod
