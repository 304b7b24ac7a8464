#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <tuple>

#include "../flow_warp.h"
#include "launch.h"

namespace vod {
namespace {

// Channels that one thread handles at one position: the taps are computed once for all of them.
constexpr int64_t kForwardBlock = 8;
constexpr int64_t kBackwardBlock = 32;

struct Shape {
  int64_t images, maps, channels, height, width;  // images: flows; maps: features, 1 or images
  __host__ __device__ int64_t cells() const { return height * width; }
};

// One thread's work: a position of one image, and a block of channels.
struct Item {
  int64_t image, cell, first_channel, last_channel, map;
};

__device__ inline Item item_of(int64_t index, int64_t block, const Shape& s) {
  const int64_t blocks = (s.channels + block - 1) / block;
  const int64_t image = index / (blocks * s.cells()), first = index / s.cells() % blocks * block;
  const int64_t last = first + block < s.channels ? first + block : s.channels;
  return {image, index % s.cells(), first, last, s.maps == 1 ? 0 : image};
}

template <typename T>
__device__ inline Taps<T> taps_of(const T* flow, const Item& item, const Shape& s) {
  const T* xy = flow + item.image * 2 * s.cells() + item.cell;
  return make_taps(item.cell / s.width, item.cell % s.width, xy[0], xy[s.cells()], s.height, s.width);
}

template <typename T>
__global__ void forward_kernel(const T* feature, const T* flow, const T* scale, T* out, int64_t work, Shape s) {
  VOD_EACH(index, work) {
    const Item item = item_of(index, kForwardBlock, s);
    const Taps<T> taps = taps_of(flow, item, s);
    for (int64_t channel = item.first_channel; channel < item.last_channel; ++channel) {
      const T* plane = feature + (item.map * s.channels + channel) * s.cells();
      const int64_t target = (item.image * s.channels + channel) * s.cells() + item.cell;
      T value = 0;
      for (int k = 0; k < 4; ++k) {
        value += taps.weight[k] * plane[taps.index[k]];
      }
      out[target] = scale ? value * scale[target] : value;
    }
  }
}

template <typename T>
__global__ void backward_kernel(
    const T* grad, const T* feature, const T* flow, const T* scale, T* grad_feature, T* grad_flow, T* grad_scale,
    int64_t work, Shape s) {
  VOD_EACH(index, work) {
    const Item item = item_of(index, kBackwardBlock, s);
    const Taps<T> taps = taps_of(flow, item, s);
    T sum_x = 0, sum_y = 0;
    for (int64_t channel = item.first_channel; channel < item.last_channel; ++channel) {
      const int64_t source = (item.map * s.channels + channel) * s.cells();
      const int64_t target = (item.image * s.channels + channel) * s.cells() + item.cell;
      T value = 0, slope_x = 0, slope_y = 0;
      for (int k = 0; k < 4; ++k) {
        const T tap = feature[source + taps.index[k]];
        value += taps.weight[k] * tap;
        slope_x += taps.weight_dx[k] * tap;
        slope_y += taps.weight_dy[k] * tap;
      }
      T upstream = grad[target];
      if (scale) {
        grad_scale[target] = upstream * value;
        upstream *= scale[target];
      }
      sum_x += upstream * slope_x;
      sum_y += upstream * slope_y;
      for (int k = 0; k < 4; ++k) {
        if (taps.weight[k] != 0) {
          atomicAdd(grad_feature + source + taps.index[k], taps.weight[k] * upstream);
        }
      }
    }
    T* xy = grad_flow + item.image * 2 * s.cells() + item.cell;
    atomicAdd(xy, sum_x);
    atomicAdd(xy + s.cells(), sum_y);
  }
}

Shape shape_of(const at::Tensor& feature, const at::Tensor& flow) {
  return {flow.size(0), feature.size(0), feature.size(1), feature.size(2), feature.size(3)};
}

int64_t work_of(const Shape& s, int64_t block) {
  return s.images * ((s.channels + block - 1) / block) * s.cells();
}

at::Tensor flow_warp(const at::Tensor& feature, const at::Tensor& flow, const std::optional<at::Tensor>& scale) {
  check_flow_warp(feature, flow, scale);
  const c10::cuda::CUDAGuard guard(feature.device());
  const Shape s = shape_of(feature, flow);
  const auto feature_ = feature.contiguous(), flow_ = flow.contiguous();
  const auto scale_ = scale ? scale->contiguous() : at::Tensor();
  auto out = at::empty({s.images, s.channels, s.height, s.width}, feature.options());
  if (out.numel() == 0) {
    return out;
  }
  const int64_t work = work_of(s, kForwardBlock);
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "flow_warp", [&] {
    forward_kernel<scalar_t><<<blocks_for(work), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        feature_.const_data_ptr<scalar_t>(), flow_.const_data_ptr<scalar_t>(),
        scale ? scale_.const_data_ptr<scalar_t>() : nullptr, out.mutable_data_ptr<scalar_t>(), work, s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flow_warp_backward(
    const at::Tensor& grad, const at::Tensor& feature, const at::Tensor& flow, const std::optional<at::Tensor>& scale) {
  check_flow_warp(feature, flow, scale);
  check_flow_warp_grad(grad, feature, flow);
  const c10::cuda::CUDAGuard guard(feature.device());
  const Shape s = shape_of(feature, flow);
  const auto grad_ = grad.contiguous(), feature_ = feature.contiguous(), flow_ = flow.contiguous();
  const auto scale_ = scale ? scale->contiguous() : at::Tensor();
  auto grad_feature = at::zeros_like(feature_), grad_flow = at::zeros_like(flow_);
  auto grad_scale = scale ? at::zeros_like(scale_) : at::empty({0}, feature.options());
  if (grad.numel() == 0) {
    return {grad_feature, grad_flow, grad_scale};
  }
  at::globalContext().alertNotDeterministic("flow_warp_backward_cuda");
  const int64_t work = work_of(s, kBackwardBlock);
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "flow_warp_backward", [&] {
    backward_kernel<scalar_t><<<blocks_for(work), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        grad_.const_data_ptr<scalar_t>(), feature_.const_data_ptr<scalar_t>(), flow_.const_data_ptr<scalar_t>(),
        scale ? scale_.const_data_ptr<scalar_t>() : nullptr, grad_feature.mutable_data_ptr<scalar_t>(),
        grad_flow.mutable_data_ptr<scalar_t>(), grad_scale.mutable_data_ptr<scalar_t>(), work, s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {grad_feature, grad_flow, grad_scale};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("flow_warp", &flow_warp);
  m.impl("flow_warp_backward", &flow_warp_backward);
}

}  // namespace vod
