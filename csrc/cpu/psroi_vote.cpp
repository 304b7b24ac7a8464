#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "grain.h"
#include "psroi_grid.h"

namespace vod {
namespace {

constexpr int64_t kRois = 256;  // rois whose partial sums are kept at a time

// Adds up kVoteSums partial sums of `count` values each, in place, and writes their shares of `area` bins.
template <typename T>
void write_means(T* sums, int64_t count, int64_t area, T* out) {
  for (int half = kVoteSums / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half * count; ++i) {
      sums[i] += sums[i + half * count];
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    out[i] = sums[i] / static_cast<T>(area);
  }
}

// One output alone. As in psroi_pool, a thread does all rois of one output before those of the next.
template <typename S, typename T>
void vote_one_by_one(const Planes<S, T>& planes, const Grid& grid, int64_t count, int64_t output_dim, T* out) {
  const int64_t area = grid.bins * grid.bins;
  at::parallel_for(0, output_dim * count, grain(16 * area), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t output = item / count, roi = item % count;
      T sums[kVoteSums] = {};
      for (int64_t bin = 0; bin < area; ++bin) {
        sums[bin % kVoteSums] += planes.bin_mean(grid, roi, output, bin);
      }
      write_means(sums, 1, area, out + roi * output_dim + output);
    }
  });
}

// All outputs of a roi at once, where they lie together: a cell is one piece of memory, not one for each output. A thread
// does a block of rois bin by bin: what these read of one bin fits into its cache.
template <typename S, typename T>
void vote_together(const Planes<S, T>& planes, const Grid& grid, int64_t count, int64_t output_dim, T* out) {
  const int64_t area = grid.bins * grid.bins;
  at::parallel_for(0, count, grain(4 * area * output_dim), [&](int64_t begin, int64_t end) {
    std::vector<T> sums, work(output_dim);
    for (int64_t first = begin; first < end; first += kRois) {
      const int64_t rois = std::min(kRois, end - first);
      sums.assign(kVoteSums * rois * output_dim, T(0));
      for (int64_t bin = 0; bin < area; ++bin) {
        T* sum = sums.data() + bin % kVoteSums * rois * output_dim;
        for (int64_t roi = first; roi < first + rois; ++roi, sum += output_dim) {
          const Cells<S> cells = planes.cells(grid, roi, bin);
          if (cells.rows > 0) {
            add_means(cells, output_dim, work.data(), sum);
          }
        }
      }
      write_means(sums.data(), rois * output_dim, area, out + first * output_dim);
    }
  });
}

at::Tensor psroi_vote(
    const at::Tensor& feature, const at::Tensor& rois, int64_t output_dim, int64_t pooled_size, double spatial_scale,
    bool by_bin) {
  check_psroi_pool(feature, rois, output_dim, pooled_size);
  const int64_t count = rois.size(0);
  auto out = at::empty({count, output_dim}, feature.options().dtype(at::toOpMathType(feature.scalar_type())));
  const Grid grid = make_grid(rois, spatial_scale, pooled_size, feature.size(0), feature.size(2), feature.size(3));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, feature.scalar_type(), "psroi_vote", [&] {
    using T = at::opmath_type<scalar_t>;
    const Planes<scalar_t, T> planes(feature, output_dim, pooled_size, by_bin);
    const auto vote = planes.outputs_adjoin() ? vote_together<scalar_t, T> : vote_one_by_one<scalar_t, T>;
    vote(planes, grid, count, output_dim, out.mutable_data_ptr<T>());
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("psroi_vote", &psroi_vote);
}

}  // namespace vod
