// What psroi_pool and psroi_vote share on the GPU: which cells of which channel one grid cell of a roi reads.
#pragma once

#include "../psroi_pool.h"

namespace vod {

struct PoolShape {
  int64_t images, channels, height, width, bins;
  float spatial_scale;
};

// A rectangle of one channel of one image. `area` is 0 if nothing is read.
struct Window {
  CellRange rows, columns;
  int64_t image, area;
};

// What the roi with the five numbers `roi` reads in channel `channel`, the one that answers for (output, i, j), or in bin
// `channel` of the first output.
__device__ inline Window window_of(const float* roi, int64_t channel, const PoolShape& s) {
  Window window;
  window.rows = bin_cells(roi[2], roi[4], s.spatial_scale, channel / s.bins % s.bins, s.bins, s.height);
  window.columns = bin_cells(roi[1], roi[3], s.spatial_scale, channel % s.bins, s.bins, s.width);
  const bool known = roi[0] > -1 && roi[0] < s.images;  // a check on the host would wait for the GPU
  window.image = known ? static_cast<int64_t>(roi[0]) : 0;
  window.area = known ? window.rows.size() * window.columns.size() : 0;
  return window;
}

}  // namespace vod
