#include "../proposals.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#include "grain.h"
#include "greedy_keep.h"

namespace vod {
namespace {

template <typename T>
void make_candidates(
    const at::Tensor& cls_prob, const at::Tensor& deltas, const at::Tensor& im_info, const at::Tensor& anchors,
    double min_size, const ProposalShape& s, Box<T>* boxes, T* scores) {
  const T* prob = cls_prob.const_data_ptr<T>();
  const T* delta = deltas.const_data_ptr<T>();
  const T* info = im_info.const_data_ptr<T>();
  const T* anchor = anchors.const_data_ptr<T>();
  at::parallel_for(0, s.images * s.candidates(), grain(64), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / s.candidates();
      const auto candidate = make_candidate<T>(
          prob + image * 2 * s.candidates(), delta + image * 4 * s.candidates(), info + image * 3, anchor,
          i % s.candidates(), min_size, s);
      boxes[i] = candidate.box;
      scores[i] = candidate.score;
    }
  });
}

// A number that is the smaller the greater `score` is, and least of all for a NaN; -0 and 0 have the same.
uint64_t rank_of(double score) {
  if (std::isnan(score)) {
    return 0;
  }
  constexpr uint64_t kSign = uint64_t{1} << 63;
  uint64_t bits;
  score += 0.0;  // -0 becomes 0
  std::memcpy(&bits, &score, sizeof bits);
  return ~(bits & kSign ? ~bits : bits | kSign);
}

// Indices of the `top` greatest of `count` scores, best first, ties by index: what a stable sort begins with.
template <typename T>
std::vector<int64_t> best_first(const T* scores, int64_t count, int64_t top) {
  std::vector<std::pair<uint64_t, int64_t>> ranked(count);
  for (int64_t i = 0; i < count; ++i) {
    ranked[i] = {rank_of(scores[i]), i};
  }
  if (top < count) {
    std::nth_element(ranked.begin(), ranked.begin() + top, ranked.end());
  }
  std::sort(ranked.begin(), ranked.begin() + top);
  std::vector<int64_t> order(top);
  std::transform(ranked.begin(), ranked.begin() + top, order.begin(), [](const auto& one) { return one.second; });
  return order;
}

std::tuple<at::Tensor, at::Tensor> proposals(
    const at::Tensor& cls_prob, const at::Tensor& deltas, const at::Tensor& im_info, const at::Tensor& anchors,
    int64_t stride, int64_t pre_nms_top_n, int64_t post_nms_top_n, double nms_threshold, double min_size) {
  const ProposalShape s = check_proposals(cls_prob, deltas, im_info, anchors, stride, post_nms_top_n);
  const int64_t top = pre_nms_top_n > 0 ? std::min(pre_nms_top_n, s.candidates()) : s.candidates();
  auto boxes = at::empty({s.images, s.candidates(), 4}, cls_prob.options());
  auto scores = at::empty({s.images, s.candidates()}, cls_prob.options());
  auto rois = at::empty({s.images * post_nms_top_n, 5}, cls_prob.options());
  auto roi_scores = at::empty({s.images * post_nms_top_n}, cls_prob.options());
  AT_DISPATCH_FLOATING_TYPES(cls_prob.scalar_type(), "proposals", [&] {
    auto* box = reinterpret_cast<Box<scalar_t>*>(boxes.mutable_data_ptr<scalar_t>());
    auto* score = scores.mutable_data_ptr<scalar_t>();
    make_candidates<scalar_t>(
        cls_prob.contiguous(), deltas.contiguous(), im_info.contiguous(), anchors.contiguous(), min_size, s, box,
        score);
    auto* roi = rois.mutable_data_ptr<scalar_t>();
    auto* roi_score = roi_scores.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, s.images, grain(top * 16), [&](int64_t begin, int64_t end) {
      for (int64_t image = begin; image < end; ++image) {
        const int64_t first = image * s.candidates();
        const auto order = best_first(score + first, s.candidates(), top);
        const auto kept = greedy_keep<scalar_t>(
            box + first, order.data(), top, nms_threshold, /*suppress_equal=*/false, post_nms_top_n);
        for (int64_t i = 0; i < post_nms_top_n; ++i) {
          const int64_t candidate = first + order[kept[i % kept.size()]];
          const int64_t out = image * post_nms_top_n + i;
          const Box<scalar_t> b = box[candidate];
          const scalar_t row[5] = {static_cast<scalar_t>(image), b.x1, b.y1, b.x2, b.y2};
          std::copy(row, row + 5, roi + 5 * out);
          roi_score[out] = score[candidate];
        }
      }
    });
  });
  return {rois, roi_scores};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("proposals", &proposals);
}

}  // namespace vod
