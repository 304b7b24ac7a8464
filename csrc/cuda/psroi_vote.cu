#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "launch.h"
#include "psroi_window.h"

namespace vod {
namespace {

constexpr int kWarp = 32;
constexpr unsigned int kAllLanes = 0xffffffffu;
static_assert(kVoteSums == kWarp, "each lane of a warp keeps one partial sum");

// Strides count values: `output` from one output to the next, `bin` from one bin to the next.
template <typename S>
struct Feature {
  const S* data;
  int64_t image, output, bin, row, column;
};

// One warp for each (roi, output); a lane takes every 32nd bin.
template <typename S, typename T>
__global__ void vote_kernel(Feature<S> feature, const float* rois, T* out, int64_t work, int64_t outputs, PoolShape s) {
  const int64_t area = s.bins * s.bins;
  VOD_EACH(thread, work * kWarp) {
    const int64_t item = thread / kWarp, lane = thread % kWarp;
    const float* roi = rois + item / outputs * 5;
    T total = 0;
    for (int64_t bin = lane; bin < area; bin += kWarp) {
      const Window window = window_of(roi, bin, s);
      if (window.area == 0) {
        continue;
      }
      const S* plane =
          feature.data + window.image * feature.image + item % outputs * feature.output + bin * feature.bin;
      T sum = 0;
      for (int64_t row = window.rows.begin; row < window.rows.end; ++row) {
        for (int64_t column = window.columns.begin; column < window.columns.end; ++column) {
          sum += static_cast<T>(plane[row * feature.row + column * feature.column]);
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
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale,
    bool by_bin) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const c10::cuda::CUDAGuard guard(feature.device());
  auto out =
      at::empty({rois.size(0), output_dim}, feature.options().dtype(at::toOpMathType(feature.scalar_type())));
  if (out.numel() == 0) {
    return out;
  }
  const PoolShape s{
      feature.size(0), feature.size(1), feature.size(2), feature.size(3), pooled_size,
      static_cast<float>(spatial_scale)};
  const auto rois_ = rois.to(at::kFloat).contiguous();
  const int64_t channel = feature.stride(1);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, feature.scalar_type(), "psroi_vote", [&] {
    using T = at::opmath_type<scalar_t>;
    const Feature<scalar_t> feature_{
        feature.const_data_ptr<scalar_t>(),
        feature.stride(0),
        by_bin ? channel : channel * pooled_size * pooled_size,
        by_bin ? channel * output_dim : channel,
        feature.stride(2),
        feature.stride(3)};
    vote_kernel<scalar_t, T><<<blocks_for(out.numel() * kWarp), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        feature_, rois_.const_data_ptr<float>(), out.mutable_data_ptr<T>(), out.numel(), output_dim, s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("psroi_vote", &psroi_vote);
}

}  // namespace vod
