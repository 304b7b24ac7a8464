#include "../nms.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <limits>
#include <tuple>

#include "greedy_keep.h"
#include "launch.h"

namespace vod {
namespace {

// From positions in the order to indices of boxes, and -1 beyond the counts. All (S, n) but counts, which is (S,).
__global__ void index_kernel(
    const int64_t* order, const int64_t* positions, const int64_t* counts, int64_t* kept, int64_t work, int64_t n) {
  VOD_EACH(i, work) {
    const int64_t set = i / n;
    kept[i] = i % n < counts[set] ? order[set * n + positions[i]] : -1;
  }
}

// Nothing here waits for the GPU or depends on values on the host, so a CUDA graph can hold it.
std::tuple<at::Tensor, at::Tensor> nms_padded(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups, double threshold,
    bool suppress_equal, double least_score) {
  check_nms_padded(boxes, scores, groups);
  const c10::cuda::CUDAGuard guard(boxes.device());
  const int64_t sets = scores.size(0), n = scores.size(1);
  auto kept = at::empty({sets, n}, boxes.options().dtype(at::kLong));
  if (kept.numel() == 0) {
    return {kept, at::zeros({sets}, kept.options())};
  }
  const auto takes_part = at::gt(scores, least_score);
  const auto ranked = at::masked_fill(scores, at::logical_not(takes_part), -std::numeric_limits<double>::infinity());
  const auto order = std::get<1>(at::sort(ranked, /*stable=*/true, /*dim=*/1, /*descending=*/true)).contiguous();
  std::optional<at::Tensor> sorted_groups;
  if (groups) {
    sorted_groups = at::gather(*groups, 1, order);
  }
  const auto [positions, counts] = greedy_keep(
      at::gather(boxes, 1, order.unsqueeze(2).expand({sets, n, 4})), sorted_groups, at::sum(takes_part, 1), threshold,
      suppress_equal, n);
  index_kernel<<<blocks_for(kept.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      order.const_data_ptr<int64_t>(), positions.const_data_ptr<int64_t>(), counts.const_data_ptr<int64_t>(),
      kept.mutable_data_ptr<int64_t>(), kept.numel(), n);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {kept, counts};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("nms_padded", &nms_padded);
}

}  // namespace vod
