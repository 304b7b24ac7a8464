// Geometry of nms, shared by the CPU and CUDA kernels of nms, nms_padded and proposals. The rules are in lib/ops/nms.py
// and lib/ops/nms_padded.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cstdint>
#include <optional>

namespace vod {

template <typename T>
struct Box {
  T x1, y1, x2, y2;
};

// Corners are inclusive.
template <typename T>
C10_HOST_DEVICE inline T area(const Box<T>& box) {
  return (box.x2 - box.x1 + 1) * (box.y2 - box.y1 + 1);
}

// Whether two boxes overlap by more than `threshold`, or at least that much with `suppress_equal`.
template <typename T>
C10_HOST_DEVICE inline bool overlap_too_much(
    const Box<T>& a, T area_a, const Box<T>& b, T area_b, T threshold, bool suppress_equal) {
  const T width = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1) + 1;
  const T height = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1) + 1;
  const T shared = (width > 0 ? width : 0) * (height > 0 ? height : 0);
  const T ratio = shared / (area_a + area_b - shared);
  return suppress_equal ? ratio >= threshold : ratio > threshold;
}

inline void check_nms(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups) {
  TORCH_CHECK(
      boxes.dim() == 2 && boxes.size(1) == 4 && scores.dim() == 1 && scores.size(0) == boxes.size(0),
      "nms: boxes (n, 4) and scores (n,) do not fit: ", boxes.sizes(), ", ", scores.sizes());
  TORCH_CHECK(
      scores.scalar_type() == boxes.scalar_type() && scores.device() == boxes.device(),
      "nms: boxes and scores must share dtype and device");
  TORCH_CHECK(
      !groups || (groups->sizes() == scores.sizes() && groups->scalar_type() == at::kLong &&
                  groups->device() == scores.device()),
      "nms: groups must be (n,) int64 on the device of the boxes");
}

inline void check_nms_padded(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups) {
  TORCH_CHECK(
      boxes.dim() == 3 && boxes.size(2) == 4 && scores.dim() == 2 && scores.sizes() == boxes.sizes().slice(0, 2),
      "nms_padded: boxes (S, n, 4) and scores (S, n) do not fit: ", boxes.sizes(), ", ", scores.sizes());
  TORCH_CHECK(
      scores.scalar_type() == boxes.scalar_type() && scores.device() == boxes.device(),
      "nms_padded: boxes and scores must share dtype and device");
  TORCH_CHECK(
      !groups || (groups->sizes() == scores.sizes() && groups->scalar_type() == at::kLong &&
                  groups->device() == scores.device()),
      "nms_padded: groups must be (S, n) int64 on the device of the boxes");
}

}  // namespace vod
