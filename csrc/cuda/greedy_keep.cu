#include "greedy_keep.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "../nms.h"
#include "launch.h"

namespace vod {
namespace {

using Word = unsigned long long;
constexpr int64_t kWordBits = 64, kMostWords = 65535;
constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr unsigned int kAllLanes = 0xffffffffu;

template <typename T>
struct Sets {
  const Box<T>* boxes;    // (S, n)
  const int64_t* groups;  // (S, n) or null
  const int64_t* sizes;   // (S,) or null
  int64_t count, n, words;
  __device__ int64_t size(int64_t set) const { return sizes ? sizes[set] : n; }
};

__device__ inline int64_t bits_of(int64_t word, int64_t size) {
  return size - word * kWordBits < kWordBits ? size - word * kWordBits : kWordBits;
}

// Which boxes j > i each box i would suppress, a bit each: mask (S, n, words). One thread block compares 64 boxes with
// 64 others of the same set; words left of the diagonal, and what is beyond the size, are never written and never read.
template <typename T>
__global__ void compare_kernel(Sets<T> sets, Word* mask, T threshold, bool suppress_equal) {
  const int64_t row_word = blockIdx.y, column_word = blockIdx.x;
  if (column_word < row_word) {
    return;
  }
  __shared__ Box<T> others[kWordBits];
  __shared__ int64_t other_groups[kWordBits];
  for (int64_t set = blockIdx.z; set < sets.count; set += gridDim.z) {
    const int64_t others_count = bits_of(column_word, sets.size(set)), other = column_word * kWordBits + threadIdx.x;
    if (others_count <= 0) {
      continue;
    }
    const Box<T>* boxes = sets.boxes + set * sets.n;
    const int64_t* groups = sets.groups ? sets.groups + set * sets.n : nullptr;
    if (threadIdx.x < others_count) {
      others[threadIdx.x] = boxes[other];
      other_groups[threadIdx.x] = groups ? groups[other] : 0;
    }
    __syncthreads();
    const int64_t i = row_word * kWordBits + threadIdx.x;
    if (threadIdx.x < bits_of(row_word, sets.size(set))) {
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
      mask[(set * sets.n + i) * sets.words + column_word] = bits;
    }
    __syncthreads();
  }
}

// Decides on the boxes of one word, in order: those of `open` are not suppressed by boxes of earlier words, and diagonal
// has what each of them suppresses among themselves. One step for each box that is kept.
__device__ inline Word choose(Word open, const Word* diagonal, int64_t room) {
  Word chosen = 0;
  for (; open != 0 && room > 0; --room) {
    const int k = __ffsll(static_cast<long long>(open)) - 1;
    chosen |= Word(1) << k;
    open &= ~(diagonal[k] | Word(1) << k);
  }
  return chosen;
}

// One thread block walks down one set, 64 boxes at a time. All threads together find out which of these are suppressed
// by boxes kept before, a load for each, and load what the 64 suppress among themselves; then one thread decides.
__global__ void walk_kernel(
    const Word* all_masks, const int64_t* sizes, int64_t* all_kept, int64_t* counts, int64_t n, int64_t words,
    int64_t max_keep) {
  __shared__ Word diagonal[kWordBits], suppressed[kWarps], decision;
  const Word* mask = all_masks + blockIdx.x * n * words;
  int64_t* kept = all_kept + blockIdx.x * max_keep;
  const int64_t size = sizes ? sizes[blockIdx.x] : n;
  int64_t total = 0;
  for (int64_t word = 0; word * kWordBits < size && total < max_keep; ++word) {
    const int64_t first = word * kWordBits, here = bits_of(word, size);
    if (threadIdx.x < here) {
      diagonal[threadIdx.x] = mask[(first + threadIdx.x) * words + word];
    }
    Word gone = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < total; i += kThreads) {
      gone |= mask[kept[i] * words + word];
    }
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
      gone |= __shfl_xor_sync(kAllLanes, gone, lanes);
    }
    if (threadIdx.x % kWarp == 0) {
      suppressed[threadIdx.x / kWarp] = gone;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      Word open = here == kWordBits ? ~Word(0) : (Word(1) << here) - 1;
      for (int warp = 0; warp < kWarps; ++warp) {
        open &= ~suppressed[warp];
      }
      decision = choose(open, diagonal, max_keep - total);
    }
    __syncthreads();
    const Word chosen = decision;
    if (threadIdx.x < kWordBits && chosen >> threadIdx.x & 1) {
      kept[total + __popcll(chosen & ((Word(1) << threadIdx.x) - 1))] = first + threadIdx.x;
    }
    total += __popcll(chosen);
    __syncthreads();  // before other threads read `kept`
  }
  if (threadIdx.x == 0) {
    counts[blockIdx.x] = total;
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> greedy_keep(
    const at::Tensor& boxes, const std::optional<at::Tensor>& groups, const std::optional<at::Tensor>& sizes,
    double threshold, bool suppress_equal, int64_t max_keep) {
  const int64_t sets = boxes.size(0), n = boxes.size(1), words = (n + kWordBits - 1) / kWordBits;
  TORCH_CHECK(words <= kMostWords, "nms: at most ", kMostWords * kWordBits, " boxes in one call on the GPU, not ", n);
  const auto boxes_ = boxes.contiguous();
  const auto groups_ = groups ? groups->contiguous() : at::Tensor();
  const auto sizes_ = sizes ? sizes->contiguous() : at::Tensor();
  const int64_t* size = sizes ? sizes_.const_data_ptr<int64_t>() : nullptr;
  const auto options = boxes.options().dtype(at::kLong);
  auto mask = at::empty({sets, n, words}, options);
  auto kept = at::empty({sets, max_keep}, options), counts = at::empty({sets}, options);
  auto* mask_ = reinterpret_cast<Word*>(mask.mutable_data_ptr<int64_t>());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const dim3 grid(words, words, static_cast<unsigned int>(std::min<int64_t>(sets, 65535)));
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms", [&] {
    const Sets<scalar_t> all{
        reinterpret_cast<const Box<scalar_t>*>(boxes_.const_data_ptr<scalar_t>()),
        groups ? groups_.const_data_ptr<int64_t>() : nullptr, size, sets, n, words};
    compare_kernel<scalar_t><<<grid, kWordBits, 0, stream>>>(
        all, mask_, static_cast<scalar_t>(threshold), suppress_equal);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  walk_kernel<<<sets, kThreads, 0, stream>>>(
      mask_, size, kept.mutable_data_ptr<int64_t>(), counts.mutable_data_ptr<int64_t>(), n, words, max_keep);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {kept, counts};
}

}  // namespace vod
