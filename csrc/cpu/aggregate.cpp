#include "../aggregate.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "aggregate_loops.h"
#include "grain.h"

namespace vod {
namespace {

// Positions that one thread works on at a time, frame after frame and block of channels after block: the cells that
// they read, of one frame and block, stay in the second-level cache.
constexpr int64_t kTileRows = 8, kTileColumns = 8, kTile = kTileRows * kTileColumns;
constexpr int64_t kBlock = 512;  // channels; a multiple of kLanes

// Pointers to contiguous tensors, channels last; the reference has strides and may be missing.
template <typename S, typename T>
struct Inputs {
  AggregateShape shape;
  const S* maps;          // (M, h, w, C)
  const int64_t* index;   // (B, N)
  const T* flow;          // (B, N, 2, h, w)
  const T* log_counts;    // (B, N)
  const T* reference;     // (B, h, w, E)
  int64_t reference_strides[3];
  const S* zeros;         // C of them: in place of a cell that counts nothing
};

template <typename T>
struct Outputs {
  T* averaged;  // (B, h, w, features)
  T* weights;   // (B, N, h, w)
};

// A rectangle of positions of one current frame.
struct Tile {
  int64_t image, row, column, rows, columns;
  int64_t positions() const { return rows * columns; }
  int64_t row_of(int64_t position) const { return row + position / columns; }
  int64_t column_of(int64_t position) const { return column + position % columns; }
};

template <typename S, typename T>
class TileAverage {
 public:
  TileAverage(const Inputs<S, T>& in, const Outputs<T>& out)
      : in_(in), out_(out), s_(in.shape), samples_(s_.frames * kTile), weights_(s_.frames * kTile) {
    if (!in.reference) {
      read_.resize(kTile * s_.embedding());
    }
  }

  void operator()(const Tile& tile) {
    tile_ = tile;
    for (int64_t frame = 0; frame < s_.frames; ++frame) {
      if (counts(frame)) {
        sample(frame);
      }
    }
    take_reference();
    for (int64_t frame = 0; frame < s_.frames; ++frame) {
      if (counts(frame)) {
        compare(frame);
      }
    }
    for (int64_t position = 0; position < tile_.positions(); ++position) {
      weigh(position);
    }
    for (int64_t frame = 0; frame < s_.frames; ++frame) {
      if (counts(frame)) {
        add(frame);
      }
    }
  }

 private:
  T log_count(int64_t frame) const { return in_.log_counts[tile_.image * s_.frames + frame]; }
  bool counts(int64_t frame) const { return takes_part(log_count(frame)); }
  int64_t cell_of(int64_t position) const { return tile_.row_of(position) * s_.width + tile_.column_of(position); }
  T* averaged_at(int64_t position) const {
    return out_.averaged + (tile_.image * s_.cells() + cell_of(position)) * s_.features;
  }

  // Where the frame's map is read for each position.
  void sample(int64_t frame) {
    const int64_t slot = tile_.image * s_.frames + frame;
    const S* map = in_.maps + in_.index[slot] * s_.cells() * s_.channels;
    const T* flow = in_.flow + slot * 2 * s_.cells();
    for (int64_t position = 0; position < tile_.positions(); ++position) {
      const int64_t cell = cell_of(position);
      const Taps<T> taps = make_taps(
          tile_.row_of(position), tile_.column_of(position), flow[cell], flow[s_.cells() + cell], s_.height, s_.width);
      Sample<S, T>& sample = samples_[frame * kTile + position];
      for (int k = 0; k < 4; ++k) {
        sample.weight[k] = taps.weight[k];
        sample.cell[k] = taps.weight[k] != 0 ? map + taps.index[k] * s_.channels : in_.zeros;
      }
    }
  }

  // What embeddings are compared with, and the sum of its squares: given, or frame 0's, if that counts.
  void take_reference() {
    const T nothing = std::numeric_limits<T>::quiet_NaN();
    for (int64_t position = 0; position < tile_.positions(); ++position) {
      if (in_.reference) {
        reference_[position] = in_.reference + tile_.image * in_.reference_strides[0] +
                               tile_.row_of(position) * in_.reference_strides[1] +
                               tile_.column_of(position) * in_.reference_strides[2];
      } else {
        T* read = &read_[position * s_.embedding()];
        if (counts(0)) {
          read_sample(samples_[position].from(s_.features), s_.embedding(), read);
        } else {
          std::fill(read, read + s_.embedding(), nothing);
        }
        reference_[position] = read;
      }
      Lanes<T> lanes;
      add_squares(reference_[position], s_.embedding(), lanes);
      reference_square_[position] = sum_of_lanes(lanes.square);
    }
  }

  // Leaves the frame's similarity with its log count, the argument of the softmax, in `weights_`.
  void compare(int64_t frame) {
    Lanes<T> lanes[kTile];
    for (int64_t first = 0; first < s_.embedding(); first += kBlock) {
      const int64_t count = std::min(kBlock, s_.embedding() - first);
      for (int64_t position = 0; position < tile_.positions(); ++position) {
        const auto sample = samples_[frame * kTile + position].from(s_.features + first);
        add_products(sample, reference_[position] + first, count, lanes[position]);
      }
    }
    for (int64_t position = 0; position < tile_.positions(); ++position) {
      const T dot = sum_of_lanes(lanes[position].dot), square = sum_of_lanes(lanes[position].square);
      weights_[frame * kTile + position] = similarity(dot, square, reference_square_[position]) + log_count(frame);
    }
  }

  // Softmax over the frames, and where the average starts: at zero, or at NaN if there are no weights.
  void weigh(int64_t position) {
    T largest = -std::numeric_limits<T>::infinity(), total = 0;
    for (int64_t frame = 0; frame < s_.frames; ++frame) {
      if (counts(frame)) {
        largest = std::max(largest, weights_[frame * kTile + position]);
      }
    }
    for (int64_t frame = 0; frame < s_.frames; ++frame) {
      T& weight = weights_[frame * kTile + position];
      weight = counts(frame) ? std::exp(weight - largest) : 0;
      total += weight;
    }
    for (int64_t frame = 0; frame < s_.frames; ++frame) {
      T& weight = weights_[frame * kTile + position];
      weight /= total;
      out_.weights[(tile_.image * s_.frames + frame) * s_.cells() + cell_of(position)] = weight;
    }
    T* averaged = averaged_at(position);
    std::fill(averaged, averaged + s_.features, total > 0 ? T(0) : std::numeric_limits<T>::quiet_NaN());
  }

  void add(int64_t frame) {
    for (int64_t first = 0; first < s_.features; first += kBlock) {
      const int64_t count = std::min(kBlock, s_.features - first);
      for (int64_t position = 0; position < tile_.positions(); ++position) {
        const int64_t at = frame * kTile + position;
        add_weighted(samples_[at].from(first), weights_[at], count, averaged_at(position) + first);
      }
    }
  }

  const Inputs<S, T>& in_;
  const Outputs<T>& out_;
  const AggregateShape& s_;
  Tile tile_;
  std::vector<Sample<S, T>> samples_;  // (N, kTile)
  std::vector<T> weights_;             // (N, kTile)
  std::vector<T> read_;                // (kTile, E): the reference, if it is frame 0's
  const T* reference_[kTile];
  T reference_square_[kTile];
};

template <typename S, typename T>
void aggregate_tiles(const Inputs<S, T>& in, const Outputs<T>& out) {
  const AggregateShape& s = in.shape;
  const int64_t down = (s.height + kTileRows - 1) / kTileRows, across = (s.width + kTileColumns - 1) / kTileColumns;
  const int64_t steps = 4 * kTile * s.frames * s.channels;
  at::parallel_for(0, s.batch * down * across, grain(steps), [&](int64_t begin, int64_t end) {
    TileAverage<S, T> average(in, out);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / across % down * kTileRows, column = item % across * kTileColumns;
      average(
          {item / (across * down), row, column, std::min(kTileRows, s.height - row),
           std::min(kTileColumns, s.width - column)});
    }
  });
}

template <typename T>
void check_index(const int64_t* index, const T* log_counts, const AggregateShape& s) {
  for (int64_t slot = 0; slot < s.batch * s.frames; ++slot) {
    TORCH_CHECK(
        !takes_part(log_counts[slot]) || (index[slot] >= 0 && index[slot] < s.maps), "aggregate: frame ",
        slot % s.frames, " of current frame ", slot / s.frames, " names map ", index[slot], ", outside 0..",
        s.maps - 1);
  }
}

std::tuple<at::Tensor, at::Tensor> aggregate(
    const at::Tensor& maps, const at::Tensor& index, const at::Tensor& flow, const at::Tensor& log_counts,
    int64_t features, const std::optional<at::Tensor>& reference) {
  const AggregateShape s = check_aggregate(maps, index, flow, log_counts, features, reference);
  auto averaged = at::empty(
      {s.batch, s.features, s.height, s.width}, flow.options().memory_format(at::MemoryFormat::ChannelsLast));
  auto weights = at::empty({s.batch, s.frames, s.height, s.width}, flow.options());
  const auto maps_ = maps.contiguous(at::MemoryFormat::ChannelsLast), index_ = index.contiguous();
  const auto flow_ = flow.contiguous(), log_counts_ = log_counts.contiguous();
  const auto reference_ = reference ? channels_together(*reference, flow.scalar_type()) : at::Tensor();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, maps.scalar_type(), "aggregate", [&] {
    using T = at::opmath_type<scalar_t>;
    const std::vector<scalar_t> zeros(s.channels, scalar_t(0));
    Inputs<scalar_t, T> in{
        s, maps_.const_data_ptr<scalar_t>(), index_.const_data_ptr<int64_t>(), flow_.const_data_ptr<T>(),
        log_counts_.const_data_ptr<T>(), nullptr, {}, zeros.data()};
    if (reference) {
      in.reference = reference_.const_data_ptr<T>();
      const int64_t dims[] = {0, 2, 3};
      std::transform(dims, dims + 3, in.reference_strides, [&](int64_t dim) { return reference_.stride(dim); });
    }
    check_index(in.index, in.log_counts, s);
    aggregate_tiles<scalar_t, T>(in, {averaged.mutable_data_ptr<T>(), weights.mutable_data_ptr<T>()});
  });
  return {averaged, weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("aggregate", &aggregate);
}

}  // namespace vod
