#include "../nms.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "grain.h"
#include "greedy_keep.h"

namespace vod {
namespace {

// Positions into the score order, group after group, each group best first; and where each group starts, with the end.
struct Segments {
  std::vector<int64_t> positions, starts;
};

Segments split_by_group(const std::optional<at::Tensor>& groups, const int64_t* order, int64_t n) {
  Segments segments;
  segments.positions.resize(n);
  std::iota(segments.positions.begin(), segments.positions.end(), 0);
  segments.starts.push_back(0);
  if (groups) {
    const auto groups_ = groups->contiguous();
    const int64_t* group = groups_.const_data_ptr<int64_t>();
    auto& p = segments.positions;
    std::stable_sort(p.begin(), p.end(), [&](int64_t a, int64_t b) { return group[order[a]] < group[order[b]]; });
    for (int64_t i = 1; i < n; ++i) {
      if (group[order[p[i]]] != group[order[p[i - 1]]]) {
        segments.starts.push_back(i);
      }
    }
  }
  segments.starts.push_back(n);
  return segments;
}

at::Tensor nms(
    const at::Tensor& boxes, const at::Tensor& scores, const std::optional<at::Tensor>& groups, double threshold,
    bool suppress_equal) {
  check_nms(boxes, scores, groups);
  const int64_t n = boxes.size(0);
  if (n == 0) {
    return at::empty({0}, boxes.options().dtype(at::kLong));
  }
  const auto sorted = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true)).contiguous();
  const int64_t* order = sorted.const_data_ptr<int64_t>();
  const Segments segments = split_by_group(groups, order, n);
  std::vector<int64_t> rows(n);  // the box of each position, in segment order
  std::transform(segments.positions.begin(), segments.positions.end(), rows.begin(), [&](int64_t p) { return order[p]; });
  std::vector<char> kept(n, 0);
  const auto boxes_ = boxes.contiguous();
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms", [&] {
    const auto* box = reinterpret_cast<const Box<scalar_t>*>(boxes_.const_data_ptr<scalar_t>());
    const int64_t groups_count = segments.starts.size() - 1, mean = n / groups_count;
    at::parallel_for(0, groups_count, grain(mean * mean), [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t start = segments.starts[s], count = segments.starts[s + 1] - start;
        for (int64_t i : greedy_keep<scalar_t>(box, &rows[start], count, threshold, suppress_equal, count)) {
          kept[segments.positions[start + i]] = 1;
        }
      }
    });
  });
  auto out = at::empty({std::count(kept.begin(), kept.end(), 1)}, sorted.options());
  int64_t* next = out.mutable_data_ptr<int64_t>();
  for (int64_t position = 0; position < n; ++position) {
    if (kept[position]) {
      *next++ = order[position];
    }
  }
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("nms", &nms);
}

}  // namespace vod
