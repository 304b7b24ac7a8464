#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "grain.h"
#include "psroi_grid.h"

namespace vod {
namespace {

// A thread does all rois of one output before those of the next: the P * P planes that these read fit into its cache.
at::Tensor psroi_pool(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const int64_t count = rois.size(0), area = pooled_size * pooled_size;
  auto out = at::empty({count, output_dim, pooled_size, pooled_size}, feature.options());
  const Grid grid = make_grid(rois, spatial_scale, pooled_size, feature.size(0), feature.size(2), feature.size(3));
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "psroi_pool", [&] {
    const Planes<scalar_t, scalar_t> planes(feature, output_dim, pooled_size, /*by_bin=*/false);
    auto* target = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, output_dim * count, grain(16 * area), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t output = item / count, roi = item % count;
        for (int64_t bin = 0; bin < area; ++bin) {
          target[(roi * output_dim + output) * area + bin] = planes.bin_mean(grid, roi, output, bin);
        }
      }
    });
  });
  return out;
}

// Each feature channel belongs to one grid cell, so threads that own channels never meet, and the rois are added in
// order: the same bits in every run.
at::Tensor psroi_pool_backward(
    const at::Tensor& grad, const at::Tensor& rois, at::IntArrayRef feature_shape, double spatial_scale) {
  check_psroi_pool_backward(grad, rois, feature_shape);
  const int64_t channels = feature_shape[1], height = feature_shape[2], width = feature_shape[3], bins = grad.size(2);
  auto grad_feature = at::zeros(feature_shape, grad.options());
  const Grid grid = make_grid(rois, spatial_scale, bins, feature_shape[0], height, width);
  const auto grad_ = grad.contiguous();
  AT_DISPATCH_FLOATING_TYPES(grad.scalar_type(), "psroi_pool_backward", [&] {
    const auto* source = grad_.const_data_ptr<scalar_t>();
    auto* target = grad_feature.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, channels, grain(16 * rois.size(0)), [&](int64_t begin, int64_t end) {
      for (int64_t channel = begin; channel < end; ++channel) {
        for (int64_t roi = 0; roi < rois.size(0); ++roi) {
          const CellRange rows = grid.rows[roi * bins + channel / bins % bins];
          const CellRange columns = grid.columns[roi * bins + channel % bins];
          const int64_t area = rows.size() * columns.size();
          const scalar_t share = area ? source[roi * channels + channel] / static_cast<scalar_t>(area) : 0;
          auto* plane = target + (grid.image[roi] * channels + channel) * height * width;
          for (int64_t row = rows.begin; row < rows.end; ++row) {
            for (int64_t column = columns.begin; column < columns.end; ++column) {
              plane[row * width + column] += share;
            }
          }
        }
      }
    });
  });
  return grad_feature;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("psroi_pool", &psroi_pool);
  m.impl("psroi_pool_backward", &psroi_pool_backward);
}

}  // namespace vod
