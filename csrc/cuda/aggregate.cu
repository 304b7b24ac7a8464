#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "../aggregate.h"
#include "launch.h"

namespace vod {
namespace {

constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr unsigned int kAllLanes = 0xffffffffu;
constexpr size_t kSharedBytes = 48 * 1024;  // what every GPU gives a block without being asked

// Neighbouring channels that one thread loads at once: 16 bytes of them, or one where the sizes do not allow that.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Channels {
  T value[kCount];
};

// What a warped vector is read from: four cells, by the offset of their first channel, and how much each counts.
template <typename T>
struct Sample {
  int64_t offset[4];  // below 0: not read
  T weight[4];
};

template <typename S, typename T>
struct Inputs {
  const S* maps;        // (M, h, w, C)
  const int64_t* index; // (B, N)
  const T* flow;        // (B, N, 2, h, w)
  const T* log_counts;  // (B, N)
  const T* reference;   // (B, h, w, E) with strides, or null
  int64_t reference_strides[3];
};

template <typename S, typename T>
__device__ inline Sample<T> sample_of(
    const Inputs<S, T>& in, int64_t slot, int64_t row, int64_t column, const AggregateShape& s) {
  const int64_t map = in.index[slot], cell = row * s.width + column;
  Sample<T> sample = {{-1, -1, -1, -1}, {static_cast<T>(NAN), 0, 0, 0}};
  if (map < 0 || map >= s.maps) {
    return sample;  // reads nothing and gives NaN: a check on the host would wait for the GPU
  }
  const T* flow = in.flow + slot * 2 * s.cells() + cell;
  const Taps<T> taps = make_taps(row, column, flow[0], flow[s.cells()], s.height, s.width);
  for (int k = 0; k < 4; ++k) {
    sample.weight[k] = taps.weight[k];
    sample.offset[k] = taps.weight[k] != 0 ? (map * s.cells() + taps.index[k]) * s.channels : -1;
  }
  return sample;
}

// `kCount` channels of the warped vector, from `channel` on.
template <int kCount, typename S, typename T>
__device__ inline Channels<T, kCount> read(const S* maps, const Sample<T>& sample, int64_t channel) {
  Channels<S, kCount> taps[4];
  for (int k = 0; k < 4; ++k) {
    taps[k] = sample.offset[k] < 0
                  ? Channels<S, kCount>{}
                  : *reinterpret_cast<const Channels<S, kCount>*>(maps + sample.offset[k] + channel);
  }
  Channels<T, kCount> out;
  for (int i = 0; i < kCount; ++i) {
    T sum = sample.weight[0] * static_cast<T>(taps[0].value[i]);
    for (int k = 1; k < 4; ++k) {
      sum += sample.weight[k] * static_cast<T>(taps[k].value[i]);
    }
    out.value[i] = sum;
  }
  return out;
}

template <typename T>
__device__ inline T warp_sum(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, mask);
  }
  return value;
}

template <typename T>
__device__ inline T warp_max(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// A warp computes the similarity of one frame, with its log count.
template <int kCount, typename S, typename T>
__device__ inline T compared(
    const S* maps, const Sample<T>& sample, const T* reference, T log_count, const AggregateShape& s) {
  T dot = 0, square = 0, reference_square = 0;
  for (int64_t first = threadIdx.x % kWarp * kCount; first < s.embedding(); first += kWarp * kCount) {
    const Channels<T, kCount> embedding = read<kCount>(maps, sample, s.features + first);
    for (int i = 0; i < kCount; ++i) {
      const T value = embedding.value[i], other = reference[first + i];
      dot += value * other;
      square += value * value;
      reference_square += other * other;
    }
  }
  return similarity(warp_sum(dot), warp_sum(square), warp_sum(reference_square)) + log_count;
}

// The first warp turns `weights` into their softmax, in place.
template <typename T>
__device__ inline void softmax(T* weights, int64_t frames) {
  T largest = -INFINITY, total = 0;
  for (int64_t frame = threadIdx.x; frame < frames; frame += kWarp) {
    largest = weights[frame] > largest ? weights[frame] : largest;
  }
  largest = warp_max(largest);
  for (int64_t frame = threadIdx.x; frame < frames; frame += kWarp) {
    weights[frame] = std::exp(weights[frame] - largest);
    total += weights[frame];
  }
  total = warp_sum(total);
  for (int64_t frame = threadIdx.x; frame < frames; frame += kWarp) {
    weights[frame] /= total;
  }
}

// One block for each position. Shared memory holds where each frame is read, the weights, and the reference.
template <int kCount, typename S, typename T>
__global__ void __launch_bounds__(kThreads)
    aggregate_kernel(Inputs<S, T> in, T* averaged, T* all_weights, AggregateShape s) {
  extern __shared__ double shared[];
  auto* samples = reinterpret_cast<Sample<T>*>(shared);
  T* weights = reinterpret_cast<T*>(samples + s.frames);
  T* reference = weights + s.frames;
  const int64_t image = blockIdx.x / s.cells(), cell = blockIdx.x % s.cells();
  const int64_t row = cell / s.width, column = cell % s.width;
  const T* log_counts = in.log_counts + image * s.frames;

  for (int64_t frame = threadIdx.x; frame < s.frames; frame += kThreads) {
    if (takes_part(log_counts[frame])) {
      samples[frame] = sample_of(in, image * s.frames + frame, row, column, s);
    }
  }
  __syncthreads();
  const T* given = in.reference ? in.reference + image * in.reference_strides[0] + row * in.reference_strides[1] +
                                      column * in.reference_strides[2]
                                : nullptr;
  for (int64_t channel = threadIdx.x; channel < s.embedding(); channel += kThreads) {
    if (given) {
      reference[channel] = given[channel];
    } else {
      reference[channel] = takes_part(log_counts[0]) ? read<1>(in.maps, samples[0], s.features + channel).value[0]
                                                     : static_cast<T>(NAN);
    }
  }
  __syncthreads();
  for (int64_t frame = threadIdx.x / kWarp; frame < s.frames; frame += kWarps) {
    T weight = -INFINITY;
    if (takes_part(log_counts[frame])) {
      weight = compared<kCount>(in.maps, samples[frame], reference, log_counts[frame], s);
    }
    if (threadIdx.x % kWarp == 0) {
      weights[frame] = weight;
    }
  }
  __syncthreads();
  if (threadIdx.x < kWarp) {
    softmax(weights, s.frames);
  }
  __syncthreads();
  for (int64_t frame = threadIdx.x; frame < s.frames; frame += kThreads) {
    all_weights[(image * s.frames + frame) * s.cells() + cell] = weights[frame];
  }
  const T start = weights[0] == weights[0] ? T(0) : weights[0];  // all weights are numbers, or none is
  for (int64_t first = threadIdx.x * kCount; first < s.features; first += kThreads * kCount) {
    Channels<T, kCount> sum;
    for (int i = 0; i < kCount; ++i) {
      sum.value[i] = start;
    }
    for (int64_t frame = 0; frame < s.frames; ++frame) {
      if (takes_part(log_counts[frame])) {
        const Channels<T, kCount> warped = read<kCount>(in.maps, samples[frame], first);
        for (int i = 0; i < kCount; ++i) {
          sum.value[i] += weights[frame] * warped.value[i];
        }
      }
    }
    *reinterpret_cast<Channels<T, kCount>*>(averaged + static_cast<int64_t>(blockIdx.x) * s.features + first) = sum;
  }
}

template <int kCount, typename S, typename T>
void launch(const Inputs<S, T>& in, T* averaged, T* weights, const AggregateShape& s) {
  const int64_t positions = s.batch * s.cells();
  const size_t shared_bytes = s.frames * (sizeof(Sample<T>) + sizeof(T)) + s.embedding() * sizeof(T);
  TORCH_CHECK(
      shared_bytes <= kSharedBytes && positions <= std::numeric_limits<int>::max(),
      "aggregate: too much for the GPU in one call: ", s.frames, " frames with ", s.embedding(),
      " embedding channels need ", shared_bytes, " of ", kSharedBytes, " bytes of shared memory, for ", positions,
      " of 2147483647 positions");
  aggregate_kernel<kCount><<<static_cast<unsigned int>(positions), kThreads, shared_bytes,
                             c10::cuda::getCurrentCUDAStream()>>>(in, averaged, weights, s);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<at::Tensor, at::Tensor> aggregate(
    const at::Tensor& maps, const at::Tensor& index, const at::Tensor& flow, const at::Tensor& log_counts,
    int64_t features, const std::optional<at::Tensor>& reference) {
  const AggregateShape s = check_aggregate(maps, index, flow, log_counts, features, reference);
  const c10::cuda::CUDAGuard guard(maps.device());
  auto averaged = at::empty(
      {s.batch, s.features, s.height, s.width}, flow.options().memory_format(at::MemoryFormat::ChannelsLast));
  auto weights = at::empty({s.batch, s.frames, s.height, s.width}, flow.options());
  if (weights.numel() == 0) {
    return {averaged, weights};
  }
  const auto maps_ = maps.contiguous(at::MemoryFormat::ChannelsLast), index_ = index.contiguous();
  const auto flow_ = flow.contiguous(), log_counts_ = log_counts.contiguous();
  const auto reference_ = reference ? channels_together(*reference, flow.scalar_type()) : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, maps.scalar_type(), "aggregate", [&] {
    using T = at::opmath_type<scalar_t>;
    Inputs<scalar_t, T> in{
        maps_.const_data_ptr<scalar_t>(), index_.const_data_ptr<int64_t>(), flow_.const_data_ptr<T>(),
        log_counts_.const_data_ptr<T>(), nullptr, {}};
    if (reference) {
      in.reference = reference_.const_data_ptr<T>();
      const int64_t dims[] = {0, 2, 3};
      std::transform(dims, dims + 3, in.reference_strides, [&](int64_t dim) { return reference_.stride(dim); });
    }
    constexpr int kCount = 16 / sizeof(scalar_t);
    const bool together = s.channels % kCount == 0 && s.features % kCount == 0 &&
                          reinterpret_cast<uintptr_t>(in.maps) % 16 == 0;
    (together ? launch<kCount, scalar_t, T> : launch<1, scalar_t, T>)(
        in, averaged.mutable_data_ptr<T>(), weights.mutable_data_ptr<T>(), s);
  });
  return {averaged, weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CUDA, m) {
  m.impl("aggregate", &aggregate);
}

}  // namespace vod
