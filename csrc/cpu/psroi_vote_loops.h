// The loop of psroi_vote over the outputs that lie together. It does not depend on PyTorch, as in aggregate_loops.h.
#pragma once

#include <cstdint>

#include "instruction_sets.h"

namespace vod {

// A rectangle of cells; `first` points to the first value wanted of its first cell. Strides count values.
template <typename S>
struct Cells {
  const S* first;
  int64_t rows, columns, row_stride, column_stride;
};

// Adds to sums[d] the mean of value d of all cells, added up row by row. work: `count` values of scratch memory.
template <typename S, typename T>
VOD_INSTRUCTION_SETS void add_means(const Cells<S>& cells, int64_t count, T* __restrict work, T* __restrict sums) {
  const Cells<S> own = cells;
  for (int64_t d = 0; d < count; ++d) {
    work[d] = 0;
  }
  for (int64_t row = 0; row < own.rows; ++row) {
    for (int64_t column = 0; column < own.columns; ++column) {
      const S* cell = own.first + row * own.row_stride + column * own.column_stride;
      for (int64_t d = 0; d < count; ++d) {
        work[d] += static_cast<T>(cell[d]);
      }
    }
  }
  const T area = static_cast<T>(own.rows * own.columns);
  for (int64_t d = 0; d < count; ++d) {
    sums[d] += work[d] / area;
  }
}

}  // namespace vod
