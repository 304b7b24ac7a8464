#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "grain.h"
#include "psroi_grid.h"

namespace vod {
namespace {

template <typename T>
T mean_of_bins(const Planes<T>& planes, const Grid& grid, int64_t roi, int64_t output) {
  const int64_t area = grid.bins * grid.bins;
  T sums[kVoteSums] = {};
  for (int64_t bin = 0; bin < area; ++bin) {
    sums[bin % kVoteSums] += planes.bin_mean(grid, roi, output, bin);
  }
  for (int half = kVoteSums / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      sums[i] += sums[i + half];
    }
  }
  return sums[0] / static_cast<T>(area);
}

// As in psroi_pool, a thread does all rois of one output before those of the next.
at::Tensor psroi_vote(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const int64_t count = rois.size(0);
  auto out = at::empty({count, output_dim}, feature.options());
  const Grid grid = make_grid(rois, spatial_scale, pooled_size, feature.size(0), feature.size(2), feature.size(3));
  AT_DISPATCH_FLOATING_TYPES(feature.scalar_type(), "psroi_vote", [&] {
    const Planes<scalar_t> planes(feature);
    auto* target = out.mutable_data_ptr<scalar_t>();
    const int64_t steps = 16 * pooled_size * pooled_size;
    at::parallel_for(0, output_dim * count, grain(steps), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t output = item / count, roi = item % count;
        target[roi * output_dim + output] = mean_of_bins(planes, grid, roi, output);
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("psroi_vote", &psroi_vote);
}

}  // namespace vod
