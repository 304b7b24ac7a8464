#include "../proposals.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "greedy_keep.h"
#include "launch.h"

namespace vod {
namespace {

template <typename T>
__global__ void candidates_kernel(
    const T* cls_prob, const T* deltas, const T* im_info, const T* anchors, double min_size, Box<T>* boxes, T* scores,
    ProposalShape s) {
  VOD_EACH(i, s.images * s.candidates()) {
    const int64_t image = i / s.candidates();
    const Candidate<T> candidate = make_candidate<T>(
        cls_prob + image * 2 * s.candidates(), deltas + image * 4 * s.candidates(), im_info + image * 3, anchors,
        i % s.candidates(), min_size, s);
    boxes[i] = candidate.box;
    scores[i] = candidate.score;
  }
}

// Repeats the kept of each image to `post` rows. boxes, scores: (B, top), best first; kept: (B, post); counts: (B,).
template <typename T>
__global__ void fill_kernel(
    const Box<T>* boxes, const T* scores, const int64_t* kept, const int64_t* counts, T* rois, T* roi_scores,
    int64_t images, int64_t top, int64_t ranked, int64_t post) {
  VOD_EACH(i, images * post) {
    const int64_t image = i / post;
    const int64_t position = kept[image * post + i % post % counts[image]];
    const Box<T> box = boxes[image * top + position];
    T* roi = rois + 5 * i;
    roi[0] = static_cast<T>(image);
    roi[1] = box.x1;
    roi[2] = box.y1;
    roi[3] = box.x2;
    roi[4] = box.y2;
    roi_scores[i] = scores[image * ranked + position];
  }
}

std::tuple<at::Tensor, at::Tensor> proposals(
    const at::Tensor& cls_prob, const at::Tensor& deltas, const at::Tensor& im_info, const at::Tensor& anchors,
    int64_t stride, int64_t pre_nms_top_n, int64_t post_nms_top_n, double nms_threshold, double min_size) {
  const ProposalShape s = check_proposals(cls_prob, deltas, im_info, anchors, stride, post_nms_top_n);
  const c10::cuda::CUDAGuard guard(cls_prob.device());
  auto rois = at::empty({s.images * post_nms_top_n, 5}, cls_prob.options());
  auto roi_scores = at::empty({s.images * post_nms_top_n}, cls_prob.options());
  if (s.images == 0) {
    return {rois, roi_scores};
  }
  const int64_t top = pre_nms_top_n > 0 ? std::min(pre_nms_top_n, s.candidates()) : s.candidates();
  auto boxes = at::empty({s.images, s.candidates(), 4}, cls_prob.options());
  auto scores = at::empty({s.images, s.candidates()}, cls_prob.options());
  const auto cls_prob_ = cls_prob.contiguous(), deltas_ = deltas.contiguous();
  const auto im_info_ = im_info.contiguous(), anchors_ = anchors.contiguous();
  const auto stream = c10::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES(cls_prob.scalar_type(), "proposals", [&] {
    candidates_kernel<scalar_t><<<blocks_for(scores.numel()), kThreads, 0, stream>>>(
        cls_prob_.const_data_ptr<scalar_t>(), deltas_.const_data_ptr<scalar_t>(), im_info_.const_data_ptr<scalar_t>(),
        anchors_.const_data_ptr<scalar_t>(), min_size,
        reinterpret_cast<Box<scalar_t>*>(boxes.mutable_data_ptr<scalar_t>()), scores.mutable_data_ptr<scalar_t>(), s);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const auto [ranked, order] = at::sort(scores, /*stable=*/true, /*dim=*/1, /*descending=*/true);
    const auto rows = order.narrow(1, 0, top).unsqueeze(2).expand({s.images, top, 4});
    const auto best = at::gather(boxes, 1, rows).contiguous();  // (B, top, 4)
    const auto ranked_ = ranked.contiguous();
    const auto [kept, counts] = greedy_keep(
        best, /*groups=*/std::nullopt, /*sizes=*/std::nullopt, nms_threshold, /*suppress_equal=*/false,
        post_nms_top_n);
    fill_kernel<scalar_t><<<blocks_for(roi_scores.numel()), kThreads, 0, stream>>>(
        reinterpret_cast<const Box<scalar_t>*>(best.const_data_ptr<scalar_t>()), ranked_.const_data_ptr<scalar_t>(),
        kept.const_data_ptr<int64_t>(), counts.const_data_ptr<int64_t>(), rois.mutable_data_ptr<scalar_t>(),
        roi_scores.mutable_data_ptr<scalar_t>(), s.images, top, s.candidates(), post_nms_top_n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {rois, roi_scores};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("proposals", &proposals);
}

}  // namespace vod
