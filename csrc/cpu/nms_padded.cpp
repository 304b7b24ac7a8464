#include "../nms.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "greedy_keep.h"

namespace vod {
namespace {

// Indices of the scores above `least`, by descending score, ties by index.
template <typename T>
std::vector<int64_t> best_first(const T* scores, int64_t n, T least) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; ++i) {
    if (scores[i] > least) {
      order.push_back(i);
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return order;
}

std::tuple<at::Tensor, at::Tensor> nms_padded(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups, double threshold,
    bool suppress_equal, double least_score) {
  check_nms_padded(boxes, scores, groups);
  const int64_t sets = scores.size(0), n = scores.size(1);
  auto kept = at::empty({sets, n}, boxes.options().dtype(at::kLong));
  auto counts = at::empty({sets}, kept.options());
  const auto boxes_ = boxes.contiguous(), scores_ = scores.contiguous();
  const auto groups_ = groups ? groups->contiguous() : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms_padded", [&] {
    const auto* box = reinterpret_cast<const Box<scalar_t>*>(boxes_.const_data_ptr<scalar_t>());
    const auto* score = scores_.const_data_ptr<scalar_t>();
    const int64_t* group = groups ? groups_.const_data_ptr<int64_t>() : nullptr;
    int64_t* kept_ = kept.mutable_data_ptr<int64_t>();
    int64_t* counts_ = counts.mutable_data_ptr<int64_t>();
    at::parallel_for(0, sets, grain(16 * n), [&](int64_t begin, int64_t end) {
      for (int64_t set = begin; set < end; ++set) {
        const auto order = best_first<scalar_t>(score + set * n, n, static_cast<scalar_t>(least_score));
        const auto rows = grouped_keep<scalar_t>(
            box + set * n, group ? group + set * n : nullptr, order, threshold, suppress_equal);
        counts_[set] = rows.size();
        std::fill(std::copy(rows.begin(), rows.end(), kept_ + set * n), kept_ + (set + 1) * n, -1);
      }
    });
  });
  return {kept, counts};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("nms_padded", &nms_padded);
}

}  // namespace vod
