// Geometry of psroi_pool and psroi_vote, shared by their CPU and CUDA kernels, forward and backward. The rules are in
// lib/ops/psroi_pool.py and lib/ops/psroi_vote.py.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

#include <cmath>
#include <cstdint>

namespace vod {

// psroi_vote adds up the bins of a roi in this many partial sums, bin b in number b % kVoteSums, then the second half of
// these to the first, again and again: what the lanes of a warp do, so that the CPU and the GPU give the same bits.
constexpr int kVoteSums = 32;

// The cells [begin, end) of one axis that a grid cell reads; empty if end <= begin.
struct CellRange {
  int64_t begin, end;
  C10_HOST_DEVICE int64_t size() const { return end > begin ? end - begin : 0; }
};

// Grid cell `bin` of `bins` along one axis of a roi whose corners are `first` and `last` in pixels. All in float32, step
// by step as the originals, because a bin that ends on a whole cell depends on the rounding.
C10_HOST_DEVICE inline CellRange bin_cells(
    float first, float last, float spatial_scale, int64_t bin, int64_t bins, int64_t cells) {
  const float start = std::round(first) * spatial_scale;  // halves away from zero
  const float end = (std::round(last) + 1.0f) * spatial_scale;
  const float size = std::fmax(end - start, 0.1f) / static_cast<float>(bins);
  const float low = std::floor(static_cast<float>(bin) * size + start);
  const float high = std::ceil(static_cast<float>(bin + 1) * size + start);
  const float limit = static_cast<float>(cells);
  // fmax and fmin drop a NaN, and the clamping comes before the conversion, so no corner is too far for an integer.
  return {
      static_cast<int64_t>(std::fmin(std::fmax(low, 0.0f), limit)),
      static_cast<int64_t>(std::fmin(std::fmax(high, 0.0f), limit))};
}

inline void check_rois(const at::Tensor& rois, const at::Tensor& other) {
  TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5, "rois must be (R, 5), not ", rois.sizes());
  TORCH_CHECK(
      rois.is_floating_point() && rois.device() == other.device(),
      "rois must be floating and on the device of the feature map");
}

inline void check_psroi_pool(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size) {
  TORCH_CHECK(output_dim > 0 && pooled_size > 0, "output_dim and pooled_size must be positive");
  TORCH_CHECK(
      feature.dim() == 4 && feature.size(1) == output_dim * pooled_size * pooled_size,
      "feature must be (N, output_dim * pooled_size * pooled_size, H, W), not ", feature.sizes());
  check_rois(rois, feature);
}

inline void check_psroi_pool_backward(const at::Tensor& grad, const at::Tensor& rois, at::IntArrayRef feature_shape) {
  TORCH_CHECK(
      grad.dim() == 4 && grad.size(2) == grad.size(3) && grad.size(0) == rois.size(0) && feature_shape.size() == 4 &&
          feature_shape[1] == grad.size(1) * grad.size(2) * grad.size(3),
      "psroi_pool_backward: grad (R, D, P, P) and feature_shape (N, D * P * P, H, W) do not fit: ", grad.sizes(), ", ",
      feature_shape);
  check_rois(rois, grad);
}

}  // namespace vod
