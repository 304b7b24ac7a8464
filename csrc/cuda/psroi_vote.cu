#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "launch.h"
#include "psroi_window.h"

namespace vod {
namespace {

constexpr int kWarp = 32;
constexpr unsigned int kAllLanes = 0xffffffffu;
static_assert(kVoteSums == kWarp, "each lane of a warp keeps one partial sum");

template <typename T>
struct Feature {
  const T* data;
  int64_t image, channel, row, column;  // strides
};

// One warp for each (roi, output); a lane takes every 32nd bin.
template <typename T>
__global__ void vote_kernel(Feature<T> feature, const float* rois, T* out, int64_t work, int64_t outputs, PoolShape s) {
  const int64_t area = s.bins * s.bins;
  VOD_EACH(thread, work * kWarp) {
    const int64_t item = thread / kWarp, lane = thread % kWarp;
    const float* roi = rois + item / outputs * 5;
    T total = 0;
    for (int64_t bin = lane; bin < area; bin += kWarp) {
      const int64_t channel = item % outputs * area + bin;
      const Window window = window_of(roi, channel, s);
      if (window.area == 0) {
        continue;
      }
      const T* plane = feature.data + window.image * feature.image + channel * feature.channel;
      T sum = 0;
      for (int64_t row = window.rows.begin; row < window.rows.end; ++row) {
        for (int64_t column = window.columns.begin; column < window.columns.end; ++column) {
          sum += plane[row * feature.row + column * feature.column];
        }
      }
      total += sum / static_cast<T>(window.area);
    }
    for (int half = kWarp / 2; half > 0; half /= 2) {
      total += __shfl_down_sync(kAllLanes, total, half);
    }
    if (lane == 0) {
      out[item] = total / static_cast<T>(area);
    }
  }
}

at::Tensor psroi_vote(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const c10::cuda::CUDAGuard guard(feature.device());
  auto out = at::empty({rois.size(0), output_dim}, feature.options());
  if (out.numel() == 0) {
    return out;
  }
  const PoolShape s{
      feature.size(0), feature.size(1), feature.size(2), feature.size(3), pooled_size,
      static_cast<float>(spatial_scale)};
  const auto rois_ = rois.to(at::kFloat).contiguous();
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "psroi_vote", [&] {
    const Feature<scalar_t> feature_{
        feature.const_data_ptr<scalar_t>(), feature.stride(0), feature.stride(1), feature.stride(2),
        feature.stride(3)};
    vote_kernel<scalar_t><<<blocks_for(out.numel() * kWarp), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        feature_, rois_.const_data_ptr<float>(), out.mutable_data_ptr<scalar_t>(), out.numel(), output_dim, s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("psroi_vote", &psroi_vote);
}

}  // namespace vod
