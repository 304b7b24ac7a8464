// The greedy walk of non-maximum suppression on the CPU, shared by nms and proposals.
#pragma once

#include "../nms.h"

#include <algorithm>
#include <vector>

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

}  // namespace vod
