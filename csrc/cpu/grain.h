#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace vod {

// Items per thread below which at::parallel_for had better not split, if each item costs about `steps` additions: waking
// a thread costs as much as some ten thousand of them.
inline int64_t grain(int64_t steps) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, steps));
}

}  // namespace vod
