#include "../psroi_pool.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <vector>

#include "grain.h"

namespace vod {
namespace {

// Where every roi's grid cells are: the image, and P ranges of rows and of columns.
struct Grid {
  std::vector<int64_t> image;
  std::vector<CellRange> rows, columns;  // R * P
};

Grid make_grid(
    const at::Tensor& rois, double spatial_scale, int64_t bins, int64_t images, int64_t height, int64_t width) {
  const auto rois_ = rois.to(at::kFloat).contiguous();
  const float* roi = rois_.const_data_ptr<float>();
  const float scale = static_cast<float>(spatial_scale);
  Grid grid;
  for (int64_t r = 0; r < rois_.size(0); ++r, roi += 5) {
    TORCH_CHECK(
        roi[0] > -1 && roi[0] < images, "psroi_pool: roi ", r, " names image ", roi[0], ", outside 0..", images - 1);
    grid.image.push_back(static_cast<int64_t>(roi[0]));
    for (int64_t bin = 0; bin < bins; ++bin) {
      grid.rows.push_back(bin_cells(roi[2], roi[4], scale, bin, bins, height));
      grid.columns.push_back(bin_cells(roi[1], roi[3], scale, bin, bins, width));
    }
  }
  return grid;
}

at::Tensor psroi_pool(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const int64_t channels = feature.size(1), height = feature.size(2), width = feature.size(3), bins = pooled_size;
  auto out = at::empty({rois.size(0), output_dim, bins, bins}, feature.options());
  const Grid grid = make_grid(rois, spatial_scale, bins, feature.size(0), height, width);
  const auto feature_ = feature.contiguous();
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "psroi_pool", [&] {
    const auto* source = feature_.const_data_ptr<scalar_t>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rois.size(0) * channels, grain(16), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t roi = item / channels, channel = item % channels;  // channel: (output, grid row, grid column)
        const CellRange rows = grid.rows[roi * bins + channel / bins % bins];
        const CellRange columns = grid.columns[roi * bins + channel % bins];
        const auto* plane = source + (grid.image[roi] * channels + channel) * height * width;
        scalar_t sum = 0;
        for (int64_t row = rows.begin; row < rows.end; ++row) {
          for (int64_t column = columns.begin; column < columns.end; ++column) {
            sum += plane[row * width + column];
          }
        }
        const int64_t area = rows.size() * columns.size();
        target[item] = area ? sum / static_cast<scalar_t>(area) : 0;
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
