// The greedy walk of non-maximum suppression on the CPU, shared by nms, nms_padded and proposals.
#pragma once

#include "../nms.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "grain.h"

namespace vod {

// Goes through `rows` (indices into `boxes`, best first), keeps what no kept box overlaps too much, stops at
// `max_keep`. Returns the positions in `rows` of the kept.
//
// A candidate is compared with the kept only, not with everything: that allows the early stop, and with the kept in
// blocks the compiler compares several at once.
template <typename T>
std::vector<int64_t> greedy_keep(
    const Box<T>* boxes, const int64_t* rows, int64_t count, T threshold, bool suppress_equal, int64_t max_keep) {
  constexpr int64_t kBlock = 16;
  std::vector<int64_t> kept;
  std::vector<T> x1, y1, x2, y2, areas;  // of the kept, column by column
  for (int64_t i = 0; i < count && static_cast<int64_t>(kept.size()) < max_keep; ++i) {
    const Box<T> box = boxes[rows[i]];
    const T box_area = area(box);
    const int64_t n = kept.size();
    bool suppressed = false;
    for (int64_t begin = 0; begin < n && !suppressed; begin += kBlock) {
      const int64_t end = std::min(n, begin + kBlock);
      int hits = 0;
      for (int64_t k = begin; k < end; ++k) {
        const Box<T> other{x1[k], y1[k], x2[k], y2[k]};
        hits += overlap_too_much(other, areas[k], box, box_area, threshold, suppress_equal);
      }
      suppressed = hits > 0;
    }
    if (!suppressed) {
      kept.push_back(i);
      x1.push_back(box.x1);
      y1.push_back(box.y1);
      x2.push_back(box.x2);
      y2.push_back(box.y2);
      areas.push_back(box_area);
    }
  }
  return kept;
}

// Positions into an order of boxes, group after group, each group in that order; and where each group starts, with the
// end. groups: of the boxes, or null for one group.
struct Segments {
  std::vector<int64_t> positions, starts;
};

inline Segments split_by_group(const int64_t* groups, const std::vector<int64_t>& order) {
  Segments segments;
  auto& p = segments.positions;
  p.resize(order.size());
  std::iota(p.begin(), p.end(), 0);
  segments.starts.push_back(0);
  if (groups) {
    std::stable_sort(p.begin(), p.end(), [&](int64_t a, int64_t b) { return groups[order[a]] < groups[order[b]]; });
    for (size_t i = 1; i < p.size(); ++i) {
      if (groups[order[p[i]]] != groups[order[p[i - 1]]]) {
        segments.starts.push_back(i);
      }
    }
  }
  segments.starts.push_back(order.size());
  return segments;
}

// The members of `order` (indices into `boxes`, best first) that no kept one of the same group overlaps too much, in the
// same order.
template <typename T>
std::vector<int64_t> grouped_keep(
    const Box<T>* boxes, const int64_t* groups, const std::vector<int64_t>& order, T threshold, bool suppress_equal) {
  const Segments segments = split_by_group(groups, order);
  std::vector<int64_t> rows(order.size());  // the box of each position, in segment order
  std::transform(segments.positions.begin(), segments.positions.end(), rows.begin(), [&](int64_t p) { return order[p]; });
  std::vector<char> flags(order.size(), 0);
  const int64_t count = segments.starts.size() - 1, mean = order.size() / count;
  at::parallel_for(0, count, grain(mean * mean), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int64_t start = segments.starts[s], size = segments.starts[s + 1] - start;
      for (int64_t i : greedy_keep<T>(boxes, rows.data() + start, size, threshold, suppress_equal, size)) {
        flags[segments.positions[start + i]] = 1;
      }
    }
  });
  std::vector<int64_t> kept;
  for (size_t position = 0; position < order.size(); ++position) {
    if (flags[position]) {
      kept.push_back(order[position]);
    }
  }
  return kept;
}

}  // namespace vod
