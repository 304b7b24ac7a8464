#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "launch.h"
#include "psroi_window.h"

namespace vod {
namespace {

// `item` counts (roi, channel): an output (roi, d, i, j) and the channel that it reads have the same number.
__device__ inline Window window_of_item(const float* rois, int64_t item, const PoolShape& s) {
  return window_of(rois + item / s.channels * 5, item % s.channels, s);
}

__device__ inline int64_t plane_of(const Window& window, int64_t item, const PoolShape& s) {
  return (window.image * s.channels + item % s.channels) * s.height * s.width;
}

template <typename T>
__global__ void forward_kernel(const T* feature, const float* rois, T* out, int64_t work, PoolShape s) {
  VOD_EACH(item, work) {
    const Window window = window_of_item(rois, item, s);
    T sum = 0;
    if (window.area > 0) {
      const T* plane = feature + plane_of(window, item, s);
      for (int64_t row = window.rows.begin; row < window.rows.end; ++row) {
        for (int64_t column = window.columns.begin; column < window.columns.end; ++column) {
          sum += plane[row * s.width + column];
        }
      }
      sum /= static_cast<T>(window.area);
    }
    out[item] = sum;
  }
}

template <typename T>
__global__ void backward_kernel(const T* grad, const float* rois, T* grad_feature, int64_t work, PoolShape s) {
  VOD_EACH(item, work) {
    const Window window = window_of_item(rois, item, s);
    if (window.area > 0) {
      const T share = grad[item] / static_cast<T>(window.area);
      T* plane = grad_feature + plane_of(window, item, s);
      for (int64_t row = window.rows.begin; row < window.rows.end; ++row) {
        for (int64_t column = window.columns.begin; column < window.columns.end; ++column) {
          atomicAdd(plane + row * s.width + column, share);
        }
      }
    }
  }
}

at::Tensor psroi_pool(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const c10::cuda::CUDAGuard guard(feature.device());
  auto out = at::empty({rois.size(0), output_dim, pooled_size, pooled_size}, feature.options());
  if (out.numel() == 0) {
    return out;
  }
  const PoolShape s{
      feature.size(0), feature.size(1), feature.size(2), feature.size(3), pooled_size,
      static_cast<float>(spatial_scale)};
  const auto feature_ = feature.contiguous(), rois_ = rois.to(at::kFloat).contiguous();
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "psroi_pool", [&] {
    forward_kernel<scalar_t><<<blocks_for(out.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        feature_.const_data_ptr<scalar_t>(), rois_.const_data_ptr<float>(), out.mutable_data_ptr<scalar_t>(),
        out.numel(), s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

at::Tensor psroi_pool_backward(
    const at::Tensor& grad, const at::Tensor& rois, at::IntArrayRef feature_shape, double spatial_scale) {
  check_psroi_pool_backward(grad, rois, feature_shape);
  const c10::cuda::CUDAGuard guard(grad.device());
  auto grad_feature = at::zeros(feature_shape, grad.options());
  if (grad.numel() == 0 || grad_feature.numel() == 0) {
    return grad_feature;
  }
  at::globalContext().alertNotDeterministic("psroi_pool_backward_cuda");
  const PoolShape s{
      feature_shape[0], feature_shape[1], feature_shape[2], feature_shape[3], grad.size(2),
      static_cast<float>(spatial_scale)};
  const auto grad_ = grad.contiguous(), rois_ = rois.to(at::kFloat).contiguous();
  AT_DISPATCH_FLOATING_TYPES(grad.scalar_type(), "psroi_pool_backward", [&] {
    backward_kernel<scalar_t><<<blocks_for(grad.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        grad_.const_data_ptr<scalar_t>(), rois_.const_data_ptr<float>(), grad_feature.mutable_data_ptr<scalar_t>(),
        grad.numel(), s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return grad_feature;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("psroi_pool", &psroi_pool);
  m.impl("psroi_pool_backward", &psroi_pool_backward);
}

}  // namespace vod
