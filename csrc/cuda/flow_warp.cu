#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
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

// Gives `work` the items of this thread. The grid has positions along x, blocks of channels along y and images along z,
// so that no item has to be divided into these.
template <int64_t kBlock, typename Work>
__device__ inline void for_each_item(const Shape& s, Work work) {
  for (int64_t image = blockIdx.z; image < s.images; image += gridDim.z) {
    for (int64_t first = blockIdx.y * kBlock; first < s.channels; first += gridDim.y * kBlock) {
      const int64_t last = first + kBlock < s.channels ? first + kBlock : s.channels;
      const int64_t cell = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
      if (cell < s.cells()) {
        work(Item{image, cell, first, last, s.maps == 1 ? 0 : image});
      }
    }
  }
}

template <typename T>
__device__ inline Taps<T> taps_of(const T* flow, const Item& item, const Shape& s) {
  const T* xy = flow + item.image * 2 * s.cells() + item.cell;
  const unsigned int cell = item.cell, width = s.width;  // 32 bits, which divide faster; see `grid_of`
  return make_taps(cell / width, cell % width, xy[0], xy[s.cells()], s.height, s.width);
}

template <typename T>
__global__ void forward_kernel(const T* feature, const T* flow, const T* scale, T* out, Shape s) {
  for_each_item<kForwardBlock>(s, [&](const Item& item) {
    const Taps<T> taps = taps_of(flow, item, s);
    for (int64_t channel = item.first_channel; channel < item.last_channel; ++channel) {
      const T* plane = feature + (item.map * s.channels + channel) * s.cells();
      const int64_t target = (item.image * s.channels + channel) * s.cells() + item.cell;
      T value = 0;
      for (int k = 0; k < 4; ++k) {
        value += taps.weight[k] * taps.read(plane, k);
      }
      out[target] = scale ? value * scale[target] : value;
    }
  });
}

template <typename T>
__global__ void backward_kernel(
    const T* grad, const T* feature, const T* flow, const T* scale, T* grad_feature, T* grad_flow, T* grad_scale,
    Shape s) {
  for_each_item<kBackwardBlock>(s, [&](const Item& item) {
    const Taps<T> taps = taps_of(flow, item, s);
    T sum_x = 0, sum_y = 0;
    for (int64_t channel = item.first_channel; channel < item.last_channel; ++channel) {
      const int64_t source = (item.map * s.channels + channel) * s.cells();
      const int64_t target = (item.image * s.channels + channel) * s.cells() + item.cell;
      T value = 0, slope_x = 0, slope_y = 0;
      for (int k = 0; k < 4; ++k) {
        const T tap = taps.read(feature + source, k);
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
        if (taps.gives_gradient(k)) {
          atomicAdd(grad_feature + source + taps.index[k], taps.weight[k] * upstream);
        }
      }
    }
    T* xy = grad_flow + item.image * 2 * s.cells() + item.cell;
    atomicAdd(xy, sum_x);
    atomicAdd(xy + s.cells(), sum_y);
  });
}

Shape shape_of(const at::Tensor& feature, const at::Tensor& flow) {
  return {flow.size(0), feature.size(0), feature.size(1), feature.size(2), feature.size(3)};
}

// For `for_each_item`, which goes on where the grid ends.
dim3 grid_of(const Shape& s, int64_t block) {
  constexpr int64_t kMost = 65535;
  TORCH_CHECK(
      s.cells() <= std::numeric_limits<int>::max(), "flow_warp: at most 2147483647 cells in a map on the GPU, not ",
      s.cells());
  return dim3(
      (s.cells() + kThreads - 1) / kThreads, std::min<int64_t>((s.channels + block - 1) / block, kMost),
      std::min<int64_t>(s.images, kMost));
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
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "flow_warp", [&] {
    forward_kernel<scalar_t><<<grid_of(s, kForwardBlock), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        feature_.const_data_ptr<scalar_t>(), flow_.const_data_ptr<scalar_t>(),
        scale ? scale_.const_data_ptr<scalar_t>() : nullptr, out.mutable_data_ptr<scalar_t>(), s);
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
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "flow_warp_backward", [&] {
    backward_kernel<scalar_t><<<grid_of(s, kBackwardBlock), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        grad_.const_data_ptr<scalar_t>(), feature_.const_data_ptr<scalar_t>(), flow_.const_data_ptr<scalar_t>(),
        scale ? scale_.const_data_ptr<scalar_t>() : nullptr, grad_feature.mutable_data_ptr<scalar_t>(),
        grad_flow.mutable_data_ptr<scalar_t>(), grad_scale.mutable_data_ptr<scalar_t>(), s);
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
