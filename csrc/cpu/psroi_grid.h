// What psroi_pool and psroi_vote share on the CPU: where the grid cells of the rois are, and how one is read.
#pragma once

#include "../psroi_pool.h"

#include <vector>

#include "psroi_vote_loops.h"

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

// A feature map (N, D * P * P, H, W) of values S in any memory format, whose sums are of type T. by_bin: channel
// bin * D + output belongs to an output and a bin, not output * P * P + bin.
template <typename S, typename T>
class Planes {
 public:
  Planes(const at::Tensor& feature, int64_t outputs, int64_t bins, bool by_bin)
      : data_(feature.const_data_ptr<S>()),
        image_(feature.stride(0)),
        channel_(feature.stride(1)),
        row_(feature.stride(2)),
        column_(feature.stride(3)),
        of_output_(by_bin ? 1 : bins * bins),
        of_bin_(by_bin ? outputs : 1) {}

  // Whether all outputs of a bin lie together.
  bool outputs_adjoin() const { return channel_ == 1 && of_output_ == 1; }

  // The cells that grid cell `bin` (of P * P) of a roi reads for output 0; 0 rows of 0 columns where there are none.
  Cells<S> cells(const Grid& grid, int64_t roi, int64_t bin) const {
    const CellRange rows = grid.rows[roi * grid.bins + bin / grid.bins];
    const CellRange columns = grid.columns[roi * grid.bins + bin % grid.bins];
    if (rows.size() * columns.size() == 0) {
      return {nullptr, 0, 0, row_, column_};
    }
    const S* plane = data_ + grid.image[roi] * image_ + bin * of_bin_ * channel_;
    return {plane + rows.begin * row_ + columns.begin * column_, rows.size(), columns.size(), row_, column_};
  }

  // Mean of the cells that grid cell `bin` of a roi reads for output `output`; 0 for none. The cells are added up row by
  // row.
  T bin_mean(const Grid& grid, int64_t roi, int64_t output, int64_t bin) const {
    const Cells<S> own = cells(grid, roi, bin);
    const int64_t area = own.rows * own.columns;
    if (area == 0) {
      return 0;
    }
    const S* first = own.first + output * of_output_ * channel_;
    T sum = 0;
    for (int64_t row = 0; row < own.rows; ++row) {
      for (int64_t column = 0; column < own.columns; ++column) {
        sum += static_cast<T>(first[row * row_ + column * column_]);
      }
    }
    return sum / static_cast<T>(area);
  }

 private:
  const S* data_;
  int64_t image_, channel_, row_, column_, of_output_, of_bin_;
};

}  // namespace vod
