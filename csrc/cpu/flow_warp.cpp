#include "../flow_warp.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "aggregate_loops.h"
#include "grain.h"

namespace vod {
namespace {

// Channels that share one look at the taps: enough to pay for it, few enough for the first-level cache.
constexpr int64_t kBlock = 8;

struct Shape {
  int64_t images, maps, channels, height, width;  // images: flows; maps: features, 1 or images
  int64_t cells() const { return height * width; }
  int64_t blocks() const { return (channels + kBlock - 1) / kBlock; }
  int64_t map_of(int64_t image) const { return maps == 1 ? 0 : image; }
};

Shape shape_of(const at::Tensor& feature, const at::Tensor& flow) {
  return {flow.size(0), feature.size(0), feature.size(1), feature.size(2), feature.size(3)};
}

template <typename T>
std::vector<Taps<T>> all_taps(const T* flow, const Shape& s) {
  std::vector<Taps<T>> taps(s.images * s.cells());
  at::parallel_for(0, s.images * s.cells(), grain(32), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / s.cells(), cell = i % s.cells();
      const T* xy = flow + image * 2 * s.cells() + cell;
      taps[i] = make_taps(cell / s.width, cell % s.width, xy[0], xy[s.cells()], s.height, s.width);
    }
  });
  return taps;
}

template <typename T>
inline T read(const T* plane, const Taps<T>& taps) {
  T sum = 0;
  for (int k = 0; k < 4; ++k) {
    sum += taps.weight[k] * taps.read(plane, k);
  }
  return sum;
}

template <typename T>
void forward(const T* feature, const T* flow, const T* scale, T* out, const Shape& s) {
  const auto taps = all_taps(flow, s);
  const int64_t cells = s.cells();
  at::parallel_for(0, s.images * s.blocks(), grain(4 * kBlock * cells), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / s.blocks(), channel = item % s.blocks() * kBlock;
      const int64_t planes = std::min(kBlock, s.channels - channel);
      const T* source = feature + (s.map_of(image) * s.channels + channel) * cells;
      const int64_t target = (image * s.channels + channel) * cells;
      for (int64_t cell = 0; cell < cells; ++cell) {
        const Taps<T>& tap = taps[image * cells + cell];
        for (int64_t at = cell; at < planes * cells; at += cells) {
          const T value = read(source + (at - cell), tap);
          out[target + at] = scale ? value * scale[target + at] : value;
        }
      }
    }
  });
}

// The same with channels last: all channels of a position lie together, and its taps are needed only once.
template <typename T>
void forward_channels_last(const T* feature, const T* flow, const T* scale, T* out, const Shape& s) {
  const int64_t cells = s.cells();
  const std::vector<T> outside(s.channels);  // zeros: what a cell outside the map holds
  at::parallel_for(0, s.images * cells, grain(4 * s.channels), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / cells, cell = item % cells;
      const T* xy = flow + image * 2 * cells + cell;
      const Taps<T> taps = make_taps(cell / s.width, cell % s.width, xy[0], xy[cells], s.height, s.width);
      const T* map = feature + s.map_of(image) * cells * s.channels;
      Sample<T, T> sample;
      for (int k = 0; k < 4; ++k) {
        sample.cell[k] = taps.inside(k) ? map + taps.index[k] * s.channels : outside.data();
        sample.weight[k] = taps.weight[k];
      }
      const int64_t target = item * s.channels;
      if (scale) {
        read_scaled_sample(sample, scale + target, s.channels, out + target);
      } else {
        read_sample(sample, s.channels, out + target);
      }
    }
  });
}

bool has_channels_last(const at::Tensor& x) {
  return x.is_contiguous(at::MemoryFormat::ChannelsLast) && !x.is_contiguous();
}

// One thread owns a block of channels of one feature map and goes through all images that read it: no two threads add
// to one value, and the order of the additions is the same in every run.
template <typename T>
void backward_feature(
    const T* grad, const T* feature, const T* scale, const std::vector<Taps<T>>& taps, T* grad_feature, T* grad_scale,
    const Shape& s) {
  const int64_t cells = s.cells();
  const int64_t steps = 4 * kBlock * cells * (s.images / s.maps);
  at::parallel_for(0, s.maps * s.blocks(), grain(steps), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t map = item / s.blocks(), channel = item % s.blocks() * kBlock;
      const int64_t planes = std::min(kBlock, s.channels - channel);
      const int64_t source = (map * s.channels + channel) * cells;
      const int64_t first = s.maps == 1 ? 0 : map, last = s.maps == 1 ? s.images : map + 1;
      for (int64_t image = first; image < last; ++image) {
        const int64_t target = (image * s.channels + channel) * cells;
        for (int64_t cell = 0; cell < cells; ++cell) {
          const Taps<T>& tap = taps[image * cells + cell];
          for (int64_t plane = 0; plane < planes * cells; plane += cells) {
            T value = grad[target + plane + cell];
            if (scale) {
              grad_scale[target + plane + cell] = value * read(feature + source + plane, tap);
              value *= scale[target + plane + cell];
            }
            for (int k = 0; k < 4; ++k) {
              if (tap.gives_gradient(k)) {
                grad_feature[source + plane + tap.index[k]] += tap.weight[k] * value;
              }
            }
          }
        }
      }
    }
  });
}

template <typename T>
void backward_flow(
    const T* grad, const T* feature, const T* scale, const std::vector<Taps<T>>& taps, T* grad_flow, const Shape& s) {
  const int64_t cells = s.cells();
  constexpr int64_t kRun = 64;  // cells whose taps stay in the cache while all channels pass
  const int64_t runs = (cells + kRun - 1) / kRun;
  at::parallel_for(0, s.images * runs, grain(8 * kRun * s.channels), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / runs, first = item % runs * kRun;
      const int64_t last = std::min(cells, first + kRun);
      T* dx = grad_flow + image * 2 * cells;
      T* dy = dx + cells;
      for (int64_t channel = 0; channel < s.channels; ++channel) {
        const T* plane = feature + (s.map_of(image) * s.channels + channel) * cells;
        const int64_t target = (image * s.channels + channel) * cells;
        for (int64_t cell = first; cell < last; ++cell) {
          const Taps<T>& tap = taps[image * cells + cell];
          const T value = scale ? grad[target + cell] * scale[target + cell] : grad[target + cell];
          T slope_x = 0, slope_y = 0;
          for (int k = 0; k < 4; ++k) {
            slope_x += tap.weight_dx[k] * tap.read(plane, k);
            slope_y += tap.weight_dy[k] * tap.read(plane, k);
          }
          dx[cell] += value * slope_x;
          dy[cell] += value * slope_y;
        }
      }
    }
  });
}

at::Tensor flow_warp(const at::Tensor& feature, const at::Tensor& flow, const std::optional<at::Tensor>& scale) {
  check_flow_warp(feature, flow, scale);
  const Shape s = shape_of(feature, flow);
  const bool channels_last = has_channels_last(feature) && (!scale || has_channels_last(*scale));
  const auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const auto feature_ = feature.contiguous(format), flow_ = flow.contiguous();
  const auto scale_ = scale ? scale->contiguous(format) : at::Tensor();
  auto out = at::empty({s.images, s.channels, s.height, s.width}, feature.options().memory_format(format));
  if (out.numel() == 0) {
    return out;
  }
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "flow_warp", [&] {
    (channels_last ? forward_channels_last<scalar_t> : forward<scalar_t>)(
        feature_.const_data_ptr<scalar_t>(), flow_.const_data_ptr<scalar_t>(),
        scale ? scale_.const_data_ptr<scalar_t>() : nullptr, out.mutable_data_ptr<scalar_t>(), s);
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flow_warp_backward(
    const at::Tensor& grad, const at::Tensor& feature, const at::Tensor& flow, const std::optional<at::Tensor>& scale) {
  check_flow_warp(feature, flow, scale);
  check_flow_warp_grad(grad, feature, flow);
  const Shape s = shape_of(feature, flow);
  const auto grad_ = grad.contiguous(), feature_ = feature.contiguous(), flow_ = flow.contiguous();
  const auto scale_ = scale ? scale->contiguous() : at::Tensor();
  auto grad_feature = at::zeros_like(feature_), grad_flow = at::zeros_like(flow_);
  auto grad_scale = scale ? at::zeros_like(scale_) : at::empty({0}, feature.options());
  if (grad.numel() == 0) {
    return {grad_feature, grad_flow, grad_scale};
  }
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "flow_warp_backward", [&] {
    const auto* g = grad_.const_data_ptr<scalar_t>();
    const auto* f = feature_.const_data_ptr<scalar_t>();
    const auto* m = scale ? scale_.const_data_ptr<scalar_t>() : nullptr;
    const auto taps = all_taps(flow_.const_data_ptr<scalar_t>(), s);
    backward_feature<scalar_t>(
        g, f, m, taps, grad_feature.mutable_data_ptr<scalar_t>(), grad_scale.mutable_data_ptr<scalar_t>(), s);
    backward_flow<scalar_t>(g, f, m, taps, grad_flow.mutable_data_ptr<scalar_t>(), s);
  });
  return {grad_feature, grad_flow, grad_scale};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("flow_warp", &flow_warp);
  m.impl("flow_warp_backward", &flow_warp_backward);
}

}  // namespace vod
