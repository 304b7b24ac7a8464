// The greedy walk of non-maximum suppression on the GPU, shared by nms, nms_padded and proposals (defined in
// greedy_keep.cu).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace vod {

// Keeps, in each of S sets of boxes (S, n, 4), best first, what no kept box overlaps too much, up to `max_keep`.
// groups: (S, n) int64; only boxes of one group suppress each other. sizes: (S,) int64; how many of the n boxes of each
// set take part, the others come after them and are not looked at. Both may be missing.
// Returns the positions of the kept (S, max_keep) and how many there are (S,), both int64 and on the GPU; positions
// beyond the count are undefined. Nothing waits for the GPU.
std::tuple<at::Tensor, at::Tensor> greedy_keep(
    const at::Tensor& boxes, const std::optional<at::Tensor>& groups, const std::optional<at::Tensor>& sizes,
    double threshold, bool suppress_equal, int64_t max_keep);

}  // namespace vod
