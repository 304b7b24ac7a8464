// Geometry of proposals, shared by its CPU and CUDA kernels. The rule is in lib/ops/proposals.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cmath>
#include <cstdint>

#include "nms.h"

namespace vod {

struct ProposalShape {
  int64_t images, anchors, height, width, stride;
  C10_HOST_DEVICE int64_t cells() const { return height * width; }
  C10_HOST_DEVICE int64_t candidates() const { return anchors * cells(); }
};

template <typename T>
struct Candidate {
  Box<T> box;
  T score;
};

template <typename T>
C10_HOST_DEVICE inline T clamp_to(T value, T limit) {
  return value < 0 ? T(0) : (value > limit ? limit : value);
}

// Candidate `index` of one image, counted (row, column, anchor): decoded, clipped, and scored -1 if its cell is outside
// the image or its box is too small. Pointers: scores (2A, h, w), deltas (4A, h, w), info (3,), anchors (A, 4).
template <typename T>
C10_HOST_DEVICE inline Candidate<T> make_candidate(
    const T* scores, const T* deltas, const T* info, const T* anchors, int64_t index, double min_size,
    const ProposalShape& s) {
  const int64_t anchor = index % s.anchors, cell = index / s.anchors;
  const int64_t row = cell / s.width, column = cell % s.width;
  const T* base = anchors + 4 * anchor;
  const T* delta = deltas + 4 * anchor * s.cells() + cell;
  const T left = base[0] + static_cast<T>(column * s.stride), top = base[1] + static_cast<T>(row * s.stride);
  const T right = base[2] + static_cast<T>(column * s.stride), bottom = base[3] + static_cast<T>(row * s.stride);
  const T width = right - left + 1, height = bottom - top + 1;
  const T x = delta[0] * width + (left + T(0.5) * (width - 1));
  const T y = delta[s.cells()] * height + (top + T(0.5) * (height - 1));
  const T half_width = T(0.5) * (std::exp(delta[2 * s.cells()]) * width - 1);
  const T half_height = T(0.5) * (std::exp(delta[3 * s.cells()]) * height - 1);
  Candidate<T> result;
  Box<T>& box = result.box;
  box.x1 = clamp_to(x - half_width, info[1] - 1);
  box.y1 = clamp_to(y - half_height, info[0] - 1);
  box.x2 = clamp_to(x + half_width, info[1] - 1);
  box.y2 = clamp_to(y + half_height, info[0] - 1);
  const T min_side = static_cast<T>(min_size * static_cast<double>(info[2]));
  const bool small = box.x2 - box.x1 + 1 < min_side || box.y2 - box.y1 + 1 < min_side;
  if (small) {
    box.x1 -= min_side / 2;
    box.y1 -= min_side / 2;
    box.x2 += min_side / 2;
    box.y2 += min_side / 2;
  }
  // Compared as floating numbers, which a side of any length has; beside a side that is NaN no cell is inside
  const bool inside = static_cast<T>(row) < std::trunc(info[0] / static_cast<T>(s.stride)) &&
                      static_cast<T>(column) < std::trunc(info[1] / static_cast<T>(s.stride));
  result.score = small || !inside ? T(-1) : scores[(s.anchors + anchor) * s.cells() + cell];
  return result;
}

inline ProposalShape check_proposals(
    const at::Tensor& cls_prob, const at::Tensor& deltas, const at::Tensor& im_info, const at::Tensor& anchors,
    int64_t stride, int64_t post_nms_top_n) {
  TORCH_CHECK(
      cls_prob.dim() == 4 && deltas.dim() == 4 && anchors.dim() == 2 && anchors.size(1) == 4 && im_info.dim() == 2 &&
          im_info.size(1) == 3 && im_info.size(0) == cls_prob.size(0) && deltas.size(0) == cls_prob.size(0) &&
          cls_prob.size(1) == 2 * anchors.size(0) && deltas.size(1) == 4 * anchors.size(0) &&
          cls_prob.sizes().slice(2) == deltas.sizes().slice(2),
      "proposals: cls_prob (B, 2A, h, w), deltas (B, 4A, h, w), im_info (B, 3) and anchors (A, 4) do not fit: ",
      cls_prob.sizes(), ", ", deltas.sizes(), ", ", im_info.sizes(), ", ", anchors.sizes());
  for (const at::Tensor& other : {deltas, im_info, anchors}) {
    TORCH_CHECK(
        other.scalar_type() == cls_prob.scalar_type() && other.device() == cls_prob.device(),
        "proposals: all tensors must share dtype and device");
  }
  TORCH_CHECK(stride > 0 && post_nms_top_n > 0, "proposals: stride and post_nms_top_n must be positive");
  const ProposalShape s{cls_prob.size(0), anchors.size(0), cls_prob.size(2), cls_prob.size(3), stride};
  TORCH_CHECK(s.candidates() > 0, "proposals: at least one anchor and one cell are needed");
  return s;
}

}  // namespace vod
