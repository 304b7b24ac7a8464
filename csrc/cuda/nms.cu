#include "../nms.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include "greedy_keep.h"
#include "launch.h"

namespace vod {
namespace {

at::Tensor nms(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups, double threshold,
    bool suppress_equal) {
  check_nms(boxes, scores, groups);
  const c10::cuda::CUDAGuard guard(boxes.device());
  const int64_t n = boxes.size(0);
  if (n == 0) {
    return at::empty({0}, boxes.options().dtype(at::kLong));
  }
  const auto order = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  std::optional<at::Tensor> sorted_groups;
  if (groups) {
    sorted_groups = at::index_select(*groups, 0, order).unsqueeze(0);
  }
  const auto [kept, count] = greedy_keep(
      at::index_select(boxes, 0, order).unsqueeze(0), sorted_groups, /*sizes=*/std::nullopt, threshold,
      suppress_equal, n);
  return at::index_select(order, 0, kept[0].narrow(0, 0, count.item<int64_t>()));
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("nms", &nms);
}

}  // namespace vod
