#include "../nms.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "greedy_keep.h"

namespace vod {
namespace {

at::Tensor nms(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups, double threshold,
    bool suppress_equal) {
  check_nms(boxes, scores, groups);
  const int64_t n = boxes.size(0);
  if (n == 0) {
    return at::empty({0}, boxes.options().dtype(at::kLong));
  }
  const auto sorted = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true)).contiguous();
  const int64_t* first = sorted.const_data_ptr<int64_t>();
  const std::vector<int64_t> order(first, first + n);
  const auto boxes_ = boxes.contiguous(), groups_ = groups ? groups->contiguous() : at::Tensor();
  std::vector<int64_t> kept;
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms", [&] {
    kept = grouped_keep<scalar_t>(
        reinterpret_cast<const Box<scalar_t>*>(boxes_.const_data_ptr<scalar_t>()),
        groups ? groups_.const_data_ptr<int64_t>() : nullptr, order, threshold, suppress_equal);
  });
  auto out = at::empty({static_cast<int64_t>(kept.size())}, sorted.options());
  std::copy(kept.begin(), kept.end(), out.mutable_data_ptr<int64_t>());
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("nms", &nms);
}

}  // namespace vod
