#include "../nms.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include "greedy_keep.h"
#include "launch.h"

namespace vod {
namespace {

using Word = unsigned long long;
constexpr int64_t kWordBits = 64;

// Which boxes j > i each box i would suppress, a bit each: mask (S, n, words). One thread block compares 64 boxes with
// 64 others; words left of the diagonal are never written and never read.
template <typename T>
__global__ void compare_kernel(
    const Box<T>* all_boxes, const int64_t* groups, Word* mask, int64_t n, int64_t words, T threshold,
    bool suppress_equal) {
  const int64_t row_word = blockIdx.y, column_word = blockIdx.x;
  if (column_word < row_word) {
    return;
  }
  const Box<T>* boxes = all_boxes + blockIdx.z * n;
  __shared__ Box<T> others[kWordBits];
  __shared__ int64_t other_groups[kWordBits];
  const int64_t others_count = n - column_word * kWordBits < kWordBits ? n - column_word * kWordBits : kWordBits;
  if (threadIdx.x < others_count) {
    others[threadIdx.x] = boxes[column_word * kWordBits + threadIdx.x];
    other_groups[threadIdx.x] = groups ? groups[column_word * kWordBits + threadIdx.x] : 0;
  }
  __syncthreads();
  const int64_t i = row_word * kWordBits + threadIdx.x;
  if (i >= n) {
    return;
  }
  const Box<T> box = boxes[i];
  const T box_area = area(box);
  const int64_t group = groups ? groups[i] : 0;
  Word bits = 0;
  for (int64_t k = row_word == column_word ? threadIdx.x + 1 : 0; k < others_count; ++k) {
    if (group == other_groups[k] &&
        overlap_too_much(box, box_area, others[k], area(others[k]), threshold, suppress_equal)) {
      bits |= Word(1) << k;
    }
  }
  mask[(blockIdx.z * n + i) * words + column_word] = bits;
}

// One thread block walks down one set. Within a word of 64 boxes every thread follows the same decisions in a register;
// the words after it are shared out among the threads, and are read only after the barrier.
__global__ void walk_kernel(
    const Word* all_masks, int64_t* kept, int64_t* counts, int64_t n, int64_t words, int64_t max_keep) {
  extern __shared__ Word suppressed[];
  const Word* mask = all_masks + blockIdx.x * n * words;
  int64_t* kept_here = kept + blockIdx.x * max_keep;
  for (int64_t word = threadIdx.x; word < words; word += blockDim.x) {
    suppressed[word] = 0;
  }
  __syncthreads();
  int64_t total = 0;
  for (int64_t word = 0; word < words && total < max_keep; ++word) {
    Word gone = suppressed[word];
    const int64_t first = word * kWordBits, size = n - first < kWordBits ? n - first : kWordBits;
    for (int64_t k = 0; k < size && total < max_keep; ++k) {
      if (gone >> k & 1) {
        continue;
      }
      const Word* row = mask + (first + k) * words;
      gone |= row[word];
      for (int64_t later = word + 1 + threadIdx.x; later < words; later += blockDim.x) {
        suppressed[later] |= row[later];
      }
      if (threadIdx.x == 0) {
        kept_here[total] = first + k;
      }
      ++total;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    counts[blockIdx.x] = total;
  }
}

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
    sorted_groups = at::index_select(*groups, 0, order);
  }
  const auto [kept, count] =
      greedy_keep(at::index_select(boxes, 0, order).unsqueeze(0), sorted_groups, threshold, suppress_equal, n);
  return at::index_select(order, 0, kept[0].narrow(0, 0, count.item<int64_t>()));
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> greedy_keep(
    const at::Tensor& boxes, const std::optional<at::Tensor>& groups, double threshold, bool suppress_equal,
    int64_t max_keep) {
  const int64_t sets = boxes.size(0), n = boxes.size(1), words = (n + kWordBits - 1) / kWordBits;
  const size_t shared_bytes = words * sizeof(Word);
  TORCH_CHECK(
      shared_bytes <= 48 * 1024 && sets <= 65535, "nms: at most 393216 boxes and 65535 images in one call on the GPU");
  const auto boxes_ = boxes.contiguous();
  const auto groups_ = groups ? groups->contiguous() : at::Tensor();
  const auto options = boxes.options().dtype(at::kLong);
  auto mask = at::empty({sets, n, words}, options);
  auto kept = at::empty({sets, max_keep}, options), counts = at::empty({sets}, options);
  auto* mask_ = reinterpret_cast<Word*>(mask.mutable_data_ptr<int64_t>());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const dim3 grid(words, words, sets);
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms", [&] {
    compare_kernel<scalar_t><<<grid, kWordBits, 0, stream>>>(
        reinterpret_cast<const Box<scalar_t>*>(boxes_.const_data_ptr<scalar_t>()),
        groups ? groups_.const_data_ptr<int64_t>() : nullptr, mask_, n, words, static_cast<scalar_t>(threshold),
        suppress_equal);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  walk_kernel<<<sets, kThreads, shared_bytes, stream>>>(
      mask_, kept.mutable_data_ptr<int64_t>(), counts.mutable_data_ptr<int64_t>(), n, words, max_keep);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {kept, counts};
}

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("nms", &nms);
}

}  // namespace vod
