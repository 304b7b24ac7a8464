// What psroi_pool and psroi_vote share on the CPU: where the grid cells of the rois are, and how one is read.
#pragma once

#include "../psroi_pool.h"

#include <vector>

namespace vod {

// The image of each roi, and P ranges of rows and of columns.
struct Grid {
  int64_t bins;
  std::vector<int64_t> image;
  std::vector<CellRange> rows, columns;  // R * P
};

inline Grid make_grid(
    const at::Tensor& rois, double spatial_scale, int64_t bins, int64_t images, int64_t height, int64_t width) {
  const auto rois_ = rois.to(at::kFloat).contiguous();
  const float* roi = rois_.const_data_ptr<float>();
  const float scale = static_cast<float>(spatial_scale);
  Grid grid{bins, {}, {}, {}};
  for (int64_t r = 0; r < rois_.size(0); ++r, roi += 5) {
    TORCH_CHECK(
        roi[0] > -1 && roi[0] < images, "roi ", r, " names image ", roi[0], ", outside 0..", images - 1);
    grid.image.push_back(static_cast<int64_t>(roi[0]));
    for (int64_t bin = 0; bin < bins; ++bin) {
      grid.rows.push_back(bin_cells(roi[2], roi[4], scale, bin, bins, height));
      grid.columns.push_back(bin_cells(roi[1], roi[3], scale, bin, bins, width));
    }
  }
  return grid;
}

// A feature map (N, D * P * P, H, W) in any memory format.
template <typename T>
class Planes {
 public:
  explicit Planes(const at::Tensor& feature)
      : data_(feature.const_data_ptr<T>()),
        image_(feature.stride(0)),
        channel_(feature.stride(1)),
        row_(feature.stride(2)),
        column_(feature.stride(3)) {}

  // Mean of the cells that grid cell `bin` (of P * P) of a roi reads in the channel of output `output`; 0 for none. The
  // cells are added up row by row.
  T bin_mean(const Grid& grid, int64_t roi, int64_t output, int64_t bin) const {
    const CellRange rows = grid.rows[roi * grid.bins + bin / grid.bins];
    const CellRange columns = grid.columns[roi * grid.bins + bin % grid.bins];
    const T* plane = data_ + grid.image[roi] * image_ + (output * grid.bins * grid.bins + bin) * channel_;
    T sum = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        sum += plane[row * row_ + column * column_];
      }
    }
    const int64_t area = rows.size() * columns.size();
    return area ? sum / static_cast<T>(area) : 0;
  }

 private:
  const T* data_;
  int64_t image_, channel_, row_, column_;
};

}  // namespace vod
